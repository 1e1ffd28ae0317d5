"""Look inside a model: what its cells do at every step, which change of a text hurts it most, and pictures."""

from scratchlstm.callbacks.curves import learning_curve
from scratchlstm.inspection.explorer import ExplorerPage, explore
from scratchlstm.inspection.gate_plots import gate_heatmap, gate_saturation, gates_over_words
from scratchlstm.inspection.gradient_flow import gradient_norm_over_time, gradient_norms
from scratchlstm.inspection.perturbation import LayerPerturbation, WorstPerturbation, worst_perturbation
from scratchlstm.inspection.plots import confusion_matrix
from scratchlstm.inspection.trace import LayerTrace, Trace, trace
from scratchlstm.inspection.word_plots import colored_words

__all__ = [
    "ExplorerPage", "LayerPerturbation", "LayerTrace", "Trace", "WorstPerturbation", "colored_words",
    "confusion_matrix", "explore", "gate_heatmap", "gate_saturation", "gates_over_words", "gradient_norm_over_time",
    "gradient_norms", "learning_curve", "trace", "worst_perturbation",
]  # fmt: skip
