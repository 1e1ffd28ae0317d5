"""Random graphs: gradients, files, two processes for one; tests/tensorflow/test_keras_random_graphs.py has their twins.

RANDOM_GRAPHS=300 in the environment takes so many of them instead of the first thirty.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

from scratchlstm import Input, Model, layers
from scratchlstm.gradcheck import relative_error
from scratchlstm.models import summary

sys.path.insert(0, str(Path(__file__).parent / "fixtures"))
from random_graphs import COUNT, FEW, data, graph

EPSILON = 1e-5


def made(number, samples=3, dtype="float64"):
    """A model with weights that are no initial ones, and a batch."""
    model = graph(number, layers, Input, Model, dtype, seed=number)
    rng = np.random.default_rng(number)
    model.set_weights([rng.normal(size=w.shape) * 0.6 for w in model.get_weights()])
    return model, data(number, model.network.input_shapes, samples)


def listed(values):
    return list(values) if isinstance(values, list | tuple) else [values]


def one_or_all(values):
    return values if len(values) > 1 else values[0]


@pytest.mark.parametrize("number", range(COUNT))
def test_gradients(number):
    """Of every parameter and input, along one direction each, from a random gradient on every output."""
    model, xs = made(number)
    rng, x = np.random.default_rng(number), one_or_all(xs)
    y, cache = model.forward(x)
    dys = [rng.normal(size=each.shape) for each in listed(y)]
    dx, grads = model.backward(tuple(dys) if len(dys) > 1 else dys[0], cache)
    checked = [(name, model.network.params[name], gradient) for name, gradient in grads.items()]
    assert list(grads) == list(model.network.trainable_params)
    checked += [("x", each, d) for each, d in zip(xs, listed(dx), strict=True) if each.dtype.kind == "f"]

    def loss():
        return sum(float(np.sum(dy * y)) for dy, y in zip(dys, listed(model.forward(x)[0]), strict=True))

    for name, array, gradient in checked:
        before, direction = array.copy(), rng.normal(size=array.shape)
        direction *= EPSILON / np.linalg.norm(direction)
        array[...] = before + direction
        above = loss()
        array[...] = before - direction
        slope = (above - loss()) / 2
        array[...] = before
        assert relative_error(slope / EPSILON, np.sum(np.asarray(gradient) * direction) / EPSILON) < 1e-5, name


@pytest.mark.parametrize("number", range(COUNT))
def test_files(number, tmp_path):
    model, xs = made(number, dtype="float32" if number % 2 else "float64")
    x = one_or_all(xs)
    model.compile("adam", "mse")
    y = model.predict(x, verbose=0)
    model.save(tmp_path / "model.npz")
    loaded = Model.load(tmp_path / "model.npz")
    again = loaded.predict(x, verbose=0)
    assert all(map(np.array_equal, listed(again), listed(y)))
    assert summary.table(loaded.network) == summary.table(model.network)
    target = one_or_all([np.ones_like(each) for each in listed(y)])
    assert loaded.train_on_batch(x, target) == model.train_on_batch(x, target)
    assert all(map(np.array_equal, loaded.get_weights(), model.get_weights()))


@pytest.mark.parametrize("number", FEW)
def test_two_processes(number):
    moves = []
    for workers in 1, 2:
        model, xs = made(number, samples=11)
        x, start = one_or_all(xs), model.get_weights()
        y = one_or_all([np.ones_like(each) for each in listed(model.predict(x, verbose=0))])
        model.compile("sgd", "mse")
        frozen = [name not in model.network.trainable_params for name in model.network.params]
        model.fit(x, y, batch_size=4, workers=workers, verbose=0)
        moves.append([w - w0 for w, w0 in zip(model.get_weights(), start, strict=True)])
    for one, other, stays in zip(*moves, frozen, strict=True):
        assert not (stays and one.any())
        assert np.linalg.norm(one - other) <= 1e-11 * max(np.linalg.norm(one), 1e-3)
