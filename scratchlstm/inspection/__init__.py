"""Pictures of training."""

from scratchlstm.inspection.plots import learning_curve

__all__ = ["learning_curve"]
