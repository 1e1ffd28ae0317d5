"""The fit loop and everything it needs: data, steps, worker processes, checkpoints, progress."""

from scratchlstm.training.adversarial import AdversarialTraining
from scratchlstm.training.loop import WorkerError

__all__ = ["AdversarialTraining", "WorkerError"]
