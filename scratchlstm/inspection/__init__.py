"""Looking into a model: the gates of its LSTMs at every step, and pictures of them and of training."""

from scratchlstm.inspection.explorer import explore
from scratchlstm.inspection.plots import confusion_matrix, learning_curve
from scratchlstm.inspection.trace import LayerTrace, Trace, trace

__all__ = ["LayerTrace", "Trace", "confusion_matrix", "explore", "learning_curve", "trace"]
