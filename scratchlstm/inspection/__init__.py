"""Pictures of training."""

from scratchlstm.inspection.plots import confusion_matrix, learning_curve

__all__ = ["confusion_matrix", "learning_curve"]
