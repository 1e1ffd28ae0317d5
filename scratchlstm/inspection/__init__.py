"""Looking into a model: what its recurrent cells do at every step, and pictures of that and of training."""

from scratchlstm.callbacks.curves import learning_curve
from scratchlstm.inspection.explorer import ExplorerPage, explore
from scratchlstm.inspection.gate_plots import gate_heatmap, gate_saturation, gates_over_words
from scratchlstm.inspection.gradient_flow import gradient_norm_over_time, gradient_norms
from scratchlstm.inspection.plots import confusion_matrix
from scratchlstm.inspection.trace import LayerTrace, Trace, trace
from scratchlstm.inspection.word_plots import colored_words

__all__ = [
    "ExplorerPage", "LayerTrace", "Trace", "colored_words", "confusion_matrix", "explore", "gate_heatmap",
    "gate_saturation", "gates_over_words", "gradient_norm_over_time", "gradient_norms", "learning_curve", "trace",
]  # fmt: skip
