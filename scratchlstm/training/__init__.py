"""The training loop and its parts: data, steps, worker processes, checkpoints, progress."""

from scratchlstm.training.adversarial import AdversarialTraining
from scratchlstm.training.loop import WorkerError

__all__ = ["AdversarialTraining", "WorkerError"]
