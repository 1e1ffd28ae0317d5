"""Train until somebody ends it."""

import os

import numpy as np

from scratchlstm import Sequential, layers

model = Sequential([layers.Dense(1, input_shape=(3,))], seed=3)
model.compile("sgd", "mse")
os.write(1, b"training\n")
model.fit(np.ones((64, 3)), np.ones(64), epochs=10**9, verbose=0)
