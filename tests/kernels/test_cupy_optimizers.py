"""Optimizers on a GPU: one launch for all parameters, the same steps as `optimizers.py` makes on the CPU."""

import copy

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scratchlstm import optimizers
from scratchlstm.kernels import cupy_optimizers
from scratchlstm.rows import RowGradient

pytestmark = pytest.mark.slow

TOLERANCE = {"float32": 3e-6, "float64": 1e-13}
# so small that few parameters need many blocks, and several tables
SMALL = {"THREADS": 32, "EACH": 2, "EACH_CHECKED": 3, "MOST": 3}
KINDS = {
    "sgd": lambda **clip: optimizers.SGD(0.1, **clip),
    "momentum": lambda **clip: optimizers.SGD(0.1, momentum=0.9, **clip),
    "nesterov": lambda **clip: optimizers.SGD(0.1, momentum=0.8, nesterov=True, **clip),
    "rmsprop": lambda **clip: optimizers.RMSprop(0.01, rho=0.8, **clip),
    "adam": lambda **clip: optimizers.Adam(0.01, **clip),
    "averaged sgd": lambda **clip: optimizers.SGD(0.1, use_ema=True, ema_momentum=0.75, **clip),
    "averaged adam": lambda **clip: optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=3, **clip),
}
CLIPS = [{}, {"clipnorm": 1.5}, {"clipvalue": 0.4}, {"global_clipnorm": 3.0}, {"global_clipnorm": 1e6}]
WITH_CUPY = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def small(cupy, monkeypatch):
    """The kernels with blocks of few numbers."""
    monkeypatch.setattr(cupy_optimizers, "_SIZES", SMALL)
    return cupy


class OnBoth:
    """The same parameters and optimizer on the CPU and on the device."""

    def __init__(self, cupy, optimizer, params):
        self.cupy, self.cpu, self.gpu = cupy, optimizer, copy.deepcopy(optimizer)
        self.params, self.on_gpu = [w.copy() for w in params], [cupy.asarray(w) for w in params]
        self.gpu.build(self.on_gpu)
        self.broken = cupy.zeros((1,), np.int32)

    def step(self, grads, loss=None, ids_on_device=False):
        self.cpu.apply(self.params, grads)
        self.step_gpu(grads, loss, ids_on_device)

    def step_gpu(self, grads, loss=None, ids_on_device=False):
        asarray = self.cupy.asarray
        device = [
            RowGradient(asarray(g.ids, np.int32) if ids_on_device else g.ids, asarray(g.values), g.shape)
            if isinstance(g, RowGradient)
            else None
            if g is None
            else asarray(g)
            for g in grads
        ]
        learning_rate = self.gpu.learning_rate
        self.gpu.iterations += 1
        loss = None if loss is None else asarray(np.array([loss], self.params[0].dtype))
        cupy_optimizers.apply(self.gpu, self.on_gpu, device, learning_rate, self.broken, loss)

    def everything(self):
        """Each parameter and slot, on the CPU and as the GPU has it."""
        for w, on_gpu, slots, slots_on_gpu in zip(
            self.params, self.on_gpu, self.cpu.state, self.gpu.state, strict=True
        ):
            yield w, on_gpu.get()
            for name in slots:
                yield slots[name], slots_on_gpu[name].get()

    def require_equal(self, tolerance):
        for cpu, gpu in self.everything():
            assert gpu.dtype == cpu.dtype
            np.testing.assert_allclose(gpu, cpu, rtol=tolerance, atol=tolerance)


def gradient_of(w, rng, rows):
    """A gradient, of some rows only where `rows` is True; often of other rows, or none, than the one before."""
    if not (rows and w.ndim == 2):
        return rng.normal(size=w.shape).astype(w.dtype)
    ids = np.flatnonzero(rng.random(len(w)) < rng.choice([0, 0.3, 0.8]))
    return RowGradient(ids, rng.normal(size=(len(ids), w.shape[1])).astype(w.dtype), w.shape)


SHAPES = st.lists(
    st.one_of(st.tuples(st.integers(0, 150)), st.tuples(st.integers(0, 40), st.integers(0, 9))), min_size=0, max_size=8
)


@WITH_CUPY
@given(
    shapes=SHAPES,
    kind=st.sampled_from(list(KINDS)),
    clip=st.sampled_from(CLIPS),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 2**32 - 1),
    ids_on_device=st.booleans(),
)
def test_steps_are_those_of_the_cpu(small, shapes, kind, clip, dtype, seed, ids_on_device):
    rng = np.random.default_rng(seed)
    params = [rng.normal(size=shape).astype(dtype) for shape in shapes]
    both, rows = OnBoth(small, KINDS[kind](**clip), params), rng.random(len(params)) < 0.5
    for _ in range(4):
        grads = [gradient_of(w, rng, of_rows) for w, of_rows in zip(params, rows, strict=True)]
        both.step(grads, loss=0.5 if params else None, ids_on_device=ids_on_device)
    both.require_equal(TOLERANCE[dtype])
    assert both.broken.get() == 0


@pytest.mark.parametrize("clip", CLIPS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_trained_is_left_alone(small, kind, clip):
    """From step to step others: the tables are made again. In the end none is trained, and the loss is looked at."""
    rng = np.random.default_rng(1)
    params = [rng.normal(size=shape) for shape in ((40,), (7, 3), (5,), (9, 2), (150,))]
    both = OnBoth(small, KINDS[kind](**clip), params)
    both.cpu.build(both.params)
    for trained in ((0, 1, 2, 3, 4), (0, 2, 4), (1, 2), (0, 1, 2, 3, 4), ()):
        grads = [gradient_of(w, rng, n % 2) if n in trained else None for n, w in enumerate(params)]
        before = [gpu for _, gpu in both.everything()]
        both.step(grads, loss=0.5)
        both.require_equal(TOLERANCE["float64"])
        each = len(before) // len(params)
        for number in set(range(len(params))) - set(trained):
            part = slice(number * each, (number + 1) * each)
            now = [gpu for _, gpu in both.everything()]
            assert all(map(np.array_equal, before[part], now[part]))
    both.step_gpu([None] * len(params), loss=np.nan)
    assert both.broken.get() == 6


@pytest.mark.sanitized
@pytest.mark.parametrize("kind", KINDS)
def test_the_tutorials_shapes_with_blocks_of_full_size(cupy, kind):
    rng = np.random.default_rng(0)
    params = [rng.normal(size=shape).astype("float32") for shape in [(300, 16), (16, 240), (60, 240), (240,), (60, 1)]]
    both = OnBoth(cupy, KINDS[kind](clipnorm=9.0), params)
    for _ in range(2):
        both.step([gradient_of(params[0], rng, True), *(gradient_of(w, rng, False) for w in params[1:])], loss=0.1)
    both.require_equal(TOLERANCE["float32"])


def test_parameters_of_both_dtypes_are_clipped_together(small):
    rng = np.random.default_rng(0)
    params = [rng.normal(size=70).astype(dtype) for dtype in ("float32", "float64", "float32", "float64")]
    both = OnBoth(small, optimizers.Adam(0.01, global_clipnorm=0.7), params)
    for _ in range(3):
        both.step([gradient_of(w, rng, False) for w in params], loss=1.0)
    both.require_equal(TOLERANCE["float32"])


def test_ids_may_stand_in_any_order(small):
    rng = np.random.default_rng(0)
    w = rng.normal(size=(30, 4))
    ids = np.array([3, 7, 20])
    values = rng.normal(size=(3, 4))
    both = OnBoth(small, optimizers.Adam(0.1), [w])
    both.cpu.apply(both.params, [RowGradient(ids, values, w.shape)])
    both.step_gpu([RowGradient(ids[[2, 0, 1]], values[[2, 0, 1]], w.shape)], ids_on_device=True)
    both.require_equal(1e-13)


@pytest.mark.parametrize(
    ("options", "launches"),
    [({}, 2), ({"clipvalue": 1.0}, 2), ({"clipnorm": 1.0}, 3), ({"global_clipnorm": 1.0}, 3), ({"use_ema": True}, 3)],
)
def test_two_launches_a_step_three_with_norms_or_averages_and_nothing_uploaded(cupy, options, launches):
    params = [np.ones(shape) for shape in [(50, 4), (4, 8), (8,)]]
    both = OnBoth(cupy, optimizers.Adam(**options), params)
    rows = RowGradient(cupy.asarray(np.arange(5), np.int32), cupy.asarray(params[0][:5]), (50, 4))
    grads = [rows, *(cupy.asarray(g) for g in params[1:])]
    for number in range(4):
        both.gpu.iterations += 1
        cupy_optimizers.apply(both.gpu, both.on_gpu, grads, 0.1, both.broken)
        if number == 0:
            cupy.COUNTS.clear()  # of what is made once
        assert (cupy.COUNTS["launches"], cupy.COUNTS["uploads"]) == (number * launches, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 1, 2, "loss"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_that_is_not_finite_changes_nothing_nor_do_those_after_it(small, bad, where, kind):
    rng = np.random.default_rng(0)
    params = [rng.normal(size=shape).astype("float32") for shape in [(40, 5), (300,), (3, 2)]]
    both = OnBoth(small, KINDS[kind](), params)
    for _ in range(2):
        both.step([gradient_of(w, rng, w.ndim == 2) for w in params], loss=0.5)
    good = [gradient_of(w, rng, False) for w in params]
    broken = [g.copy() for g in good]
    if where != "loss":
        broken[where].flat[broken[where].size - 1] = bad
    both.step_gpu(broken, loss=bad if where == "loss" else 0.5)
    assert both.broken.get() == 3
    both.step_gpu(good, loss=0.5)
    assert both.broken.get() == 3  # the first
    both.require_equal(TOLERANCE["float32"])  # the CPU has not made these steps


def test_a_norm_too_large_for_a_float_is_no_infinity(small):
    both = OnBoth(small, optimizers.SGD(1.0, clipnorm=1.0), [np.zeros(4, "float32")])
    both.step_gpu([np.full(4, 1e30, "float32")])
    assert both.broken.get() == 0
    np.testing.assert_allclose(both.on_gpu[0].get(), -0.5, rtol=1e-6)


def test_new_state_is_seen(small):
    rng = np.random.default_rng(0)
    params = [rng.normal(size=(6, 3))]
    both = OnBoth(small, optimizers.Adam(0.1), params)
    both.step([rng.normal(size=(6, 3))])
    both.gpu.state = [{name: small.asarray(a.get()) for name, a in slots.items()} for slots in both.gpu.state]
    both.on_gpu = [small.asarray(w.get()) for w in both.on_gpu]
    both.step([rng.normal(size=(6, 3))])
    both.require_equal(1e-13)


def test_what_does_not_fit_is_refused(small):
    w = np.zeros((3, 2), "float32")
    both = OnBoth(small, optimizers.SGD(), [w])
    for g in np.zeros((2, 3), "float32"), np.zeros((3, 2)), RowGradient(np.array([0]), np.zeros((1, 2)), (3, 2)):
        with pytest.raises(ValueError, match=r"parameter 0 is float32 of shape \(3, 2\), but its gradient float"):
            both.step_gpu([g])
    both = OnBoth(small, optimizers.SGD(), [w])
    both.on_gpu = [small.ndarray(w.T)]
    with pytest.raises(ValueError, match=r"parameter 0, of shape \(2, 3\): .* contiguous"):
        both.step_gpu([w.T.copy()])


def test_only_the_packages_own_equations_have_a_kernel(small):
    class Signed(optimizers.SGD):
        def update(self, w, rows, g, learning_rate, momentum=None):
            w[rows] -= learning_rate * np.sign(g)

    assert all(make().has_kernel for make in KINDS.values())
    assert not Signed().has_kernel
