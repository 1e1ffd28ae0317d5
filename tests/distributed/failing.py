"""A script that fails in a given way: `failing.py WAY RANK FOLDER`."""

import argparse
import atexit
import os
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from scratchlstm import Sequential
from scratchlstm._support import ranks
from scratchlstm.callbacks import Callback, Checkpoint
from scratchlstm.layers import Dense, Embedding, GlobalAveragePooling1D

parser = argparse.ArgumentParser()
parser.add_argument("way")
parser.add_argument("rank", type=int)
parser.add_argument("folder", type=Path)
options = parser.parse_args()
folder = options.folder
own_turn = ranks.rank == options.rank


def leave(name, text):
    """Let the test have a file, whole."""
    (folder / str(os.getpid())).write_text(text)
    (folder / str(os.getpid())).rename(folder / name)


leave(f"pid{ranks.rank}", str(os.getpid()))


def now(way):
    """Whether this rank is to fail in this way, at this moment."""
    found = own_turn and options.way == way
    if found:
        failing()
    return found


def failing():
    """State when."""
    leave("failing", str(time.time()))


def die():
    failing()
    os.kill(os.getpid(), signal.SIGKILL)


def act(place):
    """Fail, if it is to be here."""
    if now(f"raise in {place}"):
        raise ValueError(f"a mistake in {place}")
    if now(f"exit 0 in {place}"):
        sys.exit(0)
    if now(f"exit 3 in {place}"):
        sys.exit(3)
    if now(f"exit with a text in {place}"):
        sys.exit("nothing to do")
    if now(f"os._exit in {place}"):
        os._exit(0)
    if now(f"kill in {place}"):
        die()
    if now(f"segfault in {place}"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if now(f"stop in {place}"):
        os.kill(os.getpid(), signal.SIGSTOP)


class Failing(Dense):
    """A layer that does, at its third call."""

    calls = 0

    def forward(self, x, run=None, mask=None):
        Failing.calls += 1
        if Failing.calls == 3:
            act("step")
        return super().forward(x, run, mask)


class Says(Callback):
    def on_epoch_end(self, epoch, logs=None):
        act("callback")
        if options.way == "wait in callback":
            failing()
            time.sleep(60)


act("script")
if options.way == "all raise":
    failing()
    raise ValueError("a mistake of all")
if now("usage"):
    parser.error("this is wrong")
if now("sleep"):
    time.sleep(60)
if options.way == "kill at the end" and own_turn:
    atexit.register(die)
if now("kill in checkpoint"):
    os.replace = lambda *names: die()

rng = np.random.default_rng(0)
x, y = rng.integers(1, 20, (40, 5)), rng.integers(0, 2, (40, 1)).astype("float32")
model = Sequential([Embedding(20, 4), GlobalAveragePooling1D(), Failing(1)], seed=1)
model.compile("adam", "mse")
if not now("only the others train"):
    warnings.warn("be careful", stacklevel=1)
    model.fit(x, y, batch_size=10, epochs=3, verbose=0, callbacks=[Says(), Checkpoint(folder / "run.npz")])
    print("trained")
