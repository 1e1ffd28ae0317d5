"""Callbacks: hooks into training, named as in Keras."""

from scratchlstm.callbacks.averages import SwapEMAWeights
from scratchlstm.callbacks.base import Callback, History, LambdaCallback
from scratchlstm.callbacks.checkpoint import Checkpoint, ModelCheckpoint
from scratchlstm.callbacks.learning_rate import LearningRateScheduler, ReduceLROnPlateau
from scratchlstm.callbacks.records import CSVLogger, LearningCurve
from scratchlstm.callbacks.snapshots import Snapshots
from scratchlstm.callbacks.stopping import EarlyStopping, TerminateOnNaN

__all__ = [
    "CSVLogger", "Callback", "Checkpoint", "EarlyStopping", "History", "LambdaCallback", "LearningCurve",
    "LearningRateScheduler", "ModelCheckpoint", "ReduceLROnPlateau", "Snapshots", "SwapEMAWeights", "TerminateOnNaN",
]  # fmt: skip
