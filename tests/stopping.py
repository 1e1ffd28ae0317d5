"""A training run that ends with an error after some batches."""

from scratchlstm.callbacks import Callback


class Stopped(Exception):
    """What ends it."""


class Stop(Callback):
    """Raises `Stopped` after so many batches; never if None."""

    def __init__(self, batches):
        self.left = batches

    def on_train_batch_end(self, batch, logs=None):
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise Stopped
