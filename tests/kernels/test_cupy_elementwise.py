"""What is computed number by number on a GPU is what the CPU computes."""

import numpy as np
import pytest

from scratchlstm import gates, losses
from scratchlstm._support import cupy_elementwise
from scratchlstm.activations import SIGMOID
from scratchlstm.backend import host

TOLERANCE = {"float32": 2e-7, "float64": 1e-15}
either_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


@either_dtype
@pytest.mark.parametrize("shape", [(1,), (257,), (3, 4, 5), (0, 2)])
def test_sigmoid(device, dtype, shape):
    x = (10 * np.random.default_rng(0).normal(size=shape)).astype(dtype)
    for y in cupy_elementwise.sigmoid(device.asarray(x)), SIGMOID(device.asarray(x)):
        assert y.dtype == dtype
        np.testing.assert_allclose(host(y), gates.sigmoid(x), rtol=10 * TOLERANCE[dtype])


@either_dtype
def test_no_logit_is_too_large(device, dtype):
    x = np.array([-1e30, -800, -90, -0.0, 0, 90, 800, 1e30, np.inf, -np.inf], dtype)
    np.testing.assert_allclose(host(cupy_elementwise.sigmoid(device.asarray(x))), gates.sigmoid(x), rtol=1e-6)
    finite, targets = x[:8, None], np.ones((8, 1), dtype)
    for y_true in 0 * targets, targets:
        found = cupy_elementwise.binary_crossentropy(device.asarray(finite), device.asarray(y_true))
        expected = losses.BinaryCrossentropy().values(y_true, finite, from_logits=True)
        np.testing.assert_allclose(host(found[0])[:, 0], expected[0], rtol=1e-6)
        np.testing.assert_allclose(host(found[1]), expected[1], rtol=1e-6)


@pytest.mark.sanitized
@either_dtype
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (300, 1), (7, 3)])
def test_binary_crossentropy(device, rows, columns, dtype):
    rng, loss = np.random.default_rng(rows), losses.BinaryCrossentropy()
    logits, targets = rng.normal(size=(rows, columns)).astype(dtype), rng.random((rows, columns)).astype(dtype)
    found = loss.with_gradient(device.asarray(targets), device.asarray(logits), from_logits=True)
    expected = loss.with_gradient(targets, logits, from_logits=True)
    np.testing.assert_allclose(host(found[0]), expected[0], rtol=20 * TOLERANCE[dtype])
    np.testing.assert_allclose(host(found[1]), expected[1], atol=TOLERANCE[dtype])
