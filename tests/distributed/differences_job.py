"""Train on two ranks that differ, in one way after another; then a file is missing: `differences_job.py FOLDER`."""

import platform
import sys
from pathlib import Path

import numpy as np

import scratchlstm
from scratchlstm import Sequential, layers
from scratchlstm._support import compiled, ranks
from scratchlstm.training import distributed

one_or_two = ranks.rank + 1
x, y = np.arange(48).reshape(16, 3) % 7, np.arange(16) % 2
drawn = np.random.default_rng().integers(0, 7, (16, 3))  # without a seed


def fit(x=x, seed=3, units=4, batch_size=8, evaluates=False):
    model = Sequential([layers.Embedding(7, 5), layers.LSTM(units), layers.Dense(1)], seed=seed)
    model.compile("adam", "mse")
    (model.evaluate if evaluates else model.fit)(x, y, batch_size, verbose=0)


def fit_with(module, name, value):
    """Train with a replaced version."""
    before = getattr(module, name)
    setattr(module, name, value)
    distributed._versions.cache_clear()
    try:
        fit()
    finally:
        setattr(module, name, before)
        distributed._versions.cache_clear()


DIFFERENCES = [
    lambda: fit(x=drawn),
    lambda: fit(seed=one_or_two),
    lambda: fit(units=3 + one_or_two),
    lambda: fit(batch_size=3 + one_or_two),
    lambda: fit(evaluates=one_or_two == 2),
    lambda: fit_with(platform, "python_version", lambda: f"3.1{one_or_two}"),
    lambda: fit_with(np, "__version__", f"2.{one_or_two}"),
    lambda: fit_with(scratchlstm, "__version__", f"0.{one_or_two}"),
    lambda: fit_with(compiled, "version", lambda: f"0.6{one_or_two}"),
    lambda: fit_with(distributed, "_blas", lambda: [{"internal_api": "blas", "version": one_or_two}]),
]
for differ in DIFFERENCES:
    try:
        differ()
    except (ValueError, RuntimeError) as error:
        print(error)
fit()
print("trained")
np.load(Path(sys.argv[1]) / "only_on_host1.npy")
