"""The optimizers' compiled loops: the bits of `update` in NumPy, for any gradient, and however blocks are cut."""

import subprocess
import sys
import textwrap
from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scratchlstm import optimizers
from scratchlstm._support import compiled, threads
from scratchlstm.optimizers import SGD, Adam, RMSprop
from scratchlstm.rows import RowGradient

pytestmark = pytest.mark.skipif(bool(compiled.missing()), reason="Numba is not there")

KINDS = {
    "sgd": SGD,
    "momentum": partial(SGD, momentum=0.9),
    "nesterov": partial(SGD, momentum=0.8, nesterov=True),
    "rmsprop": partial(RMSprop, rho=0.8),
    "adam": Adam,
    "adam without epsilon": partial(Adam, epsilon=0.0),
    "averaged sgd": partial(SGD, use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=3),
    "averaged adam": partial(Adam, use_ema=True),
}
CLIPS = [{}, {"clipnorm": 0.7}, {"clipvalue": 0.4}, {"global_clipnorm": 0.5}]
SHAPES = [(), (1,), (9,), (40,), (0,), (3, 0), (0, 3), (7, 5), (1, 33), (33, 1), (4, 3, 2)]
PATCHED = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def calls(monkeypatch):
    """The arguments of every call of a compiled loop."""
    from scratchlstm.kernels import numba_optimizers

    seen = []

    def counted(loop, *arguments, **slots):
        seen.append(arguments)
        return loop(*arguments, **slots)

    loops = {name: partial(counted, loop) for name, loop in numba_optimizers._LOOPS.items()}
    monkeypatch.setattr(numba_optimizers, "_LOOPS", loops)
    return seen


def trained(make, params, steps, numpy=False):
    """Copies of the parameters after these steps, and the slots."""
    optimizer, params = make(), [w.copy() for w in params]
    with pytest.MonkeyPatch.context() as patch:
        if numpy:
            patch.setattr(compiled, "missing", lambda: "not for this test")
        for grads in steps:
            optimizer.apply(params, grads)
    return [*params, *(slot for slots in optimizer.state for slot in slots.values())]


def assert_same(ours, theirs):
    """The same bits, but for a zero's sign."""
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == other.dtype
        np.testing.assert_array_equal(mine, other)


def row_gradient(rng, w, ids):
    return RowGradient(np.array(ids, dtype=np.intp), rng.normal(size=(len(ids), w.shape[1])).astype(w.dtype), w.shape)


@PATCHED
@given(
    kind=st.sampled_from(list(KINDS)),
    clip=st.sampled_from(CLIPS),
    dtype=st.sampled_from(["float32", "float64"]),
    shapes=st.lists(st.sampled_from(SHAPES), min_size=1, max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
def test_dense_steps_have_the_bits_of_numpy(calls, kind, clip, dtype, shapes, seed):
    rng = np.random.default_rng(seed)
    params = [np.array(rng.normal(size=shape), dtype) for shape in shapes]
    steps = [[np.array(rng.normal(size=shape), dtype) for shape in shapes] for _ in range(6)]
    calls.clear()
    ours = trained(partial(KINDS[kind], **clip), params, steps)
    assert len(calls) == len(steps) * sum(w.size > 0 for w in params)
    assert_same(ours, trained(partial(KINDS[kind], **clip), params, steps, numpy=True))
    assert len(calls) == len(steps) * sum(w.size > 0 for w in params)


@PATCHED
@given(
    kind=st.sampled_from(list(KINDS)),
    clip=st.sampled_from(CLIPS),
    dtype=st.sampled_from(["float32", "float64"]),
    shape=st.sampled_from([(1, 1), (7, 5), (40, 3), (5, 33)]),
    block=st.sampled_from([1, 4, 1 << 16]),
    workers=st.integers(1, 3),
    data=st.data(),
)
def test_rows_blocks_and_threads_make_no_difference(calls, kind, clip, dtype, shape, block, workers, data):
    """What rows give is what the dense gradient gives, in one block by one thread; and what NumPy gives."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    w = rng.normal(size=shape).astype(dtype)
    some = st.sets(st.integers(0, len(w) - 1)).map(sorted)
    which = [data.draw(st.sampled_from([[], [0], [len(w) - 1], list(range(len(w)))]) | some) for _ in range(6)]
    which = [list(range(len(w))), *which] if kind == "adam without epsilon" else which  # 0 / 0 before the first
    steps = [[row_gradient(rng, w, ids)] for ids in which]
    make = partial(KINDS[kind], **clip)
    dense = trained(make, [w], [[np.asarray(g)] for (g,) in steps])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimizers, "_BLOCK", block)
        patch.setattr(threads, "threads", lambda: workers)
        patch.setattr(threads, "LARGE", 0)
        calls.clear()
        rows = trained(make, [w], steps)
        assert len(calls) >= len(steps)
    if "clipnorm" not in str(clip):  # a norm over fewer numbers may round differently
        assert_same(rows, dense)
    assert_same(rows, trained(make, [w], steps, numpy=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_and_infinity_are_numpys(calls, kind, dtype):
    rng = np.random.default_rng(0)
    w = rng.normal(size=(20, 7)).astype(dtype)
    bad = row_gradient(rng, w, [0, 3, 19])
    bad.values[:, :4] = np.nan, np.inf, -np.inf, 1e30
    good = rng.normal(size=w.shape).astype(dtype)
    steps = [[g] for g in (good, bad, good, np.asarray(bad), good)]
    with np.errstate(all="ignore"):
        ours, theirs = (trained(KINDS[kind], [w], steps, numpy=numpy) for numpy in (False, True))
    assert calls
    assert not np.isfinite(ours[0]).all()
    assert_same(ours, theirs)


def view(w):
    """A copy with gaps between its elements."""
    whole = np.zeros((*w.shape[:-1], 2 * w.shape[-1]), w.dtype)
    whole[..., ::2] = w
    return whole[..., ::2]


@pytest.mark.parametrize("where", ["parameter", "slot", "gradient", "read-only gradient", "reversed gradient"])
def test_arrays_with_gaps_are_updated_as_others(calls, where):
    rng = np.random.default_rng(0)
    w, g = (rng.normal(size=(6, 4)) for _ in range(2))
    alone, optimizer = Adam(), Adam()
    plain, special = w.copy(), view(w) if where == "parameter" else w.copy()
    optimizer.build([special])
    if where == "slot":
        optimizer.state[0]["velocity"] = view(optimizer.state[0]["velocity"])
    given = {"gradient": view(g), "reversed gradient": g[::-1].copy()[::-1]}.get(where, g.copy())
    given.flags.writeable = where != "read-only gradient"
    for _ in range(3):
        optimizer.apply([special], [given])
        calls_before = len(calls)
        alone.apply([plain], [g])
        assert len(calls) == calls_before + 1
    assert len(calls) == (3 if where in ("parameter", "slot") else 6)
    assert_same([special, *optimizer.state[0].values()], [plain, *alone.state[0].values()])


def test_a_gradient_may_lie_over_its_parameter(calls):
    memory = np.arange(11.0)
    expected = memory[1:] - memory[:-1]
    SGD(1.0).apply([memory[1:]], [memory[:-1]])
    assert calls
    np.testing.assert_array_equal(memory[1:], expected)


@pytest.mark.parametrize(("of_w", "of_g"), [("float32", "float64"), ("float32", "int64"), (">f4", ">f4"), ("f2", "f2")])
def test_other_dtypes_are_left_to_numpy(calls, of_w, of_g):
    w, g = np.arange(6).astype(of_w), np.arange(6).astype(of_g)
    Adam(0.1).apply([w], [g])
    assert not calls
    np.testing.assert_allclose(w.astype(float), np.arange(6) - 0.1 * (np.arange(6) > 0), rtol=1e-3)


def test_rows_of_another_size_are_refused():
    w = np.zeros((4, 3))
    for values in np.zeros((1, 3)), np.zeros((2, 2)):
        with pytest.raises(ValueError, match="reshape"):
            SGD().apply([w], [RowGradient(np.array([1, 3]), values, w.shape)])


def test_a_slot_of_another_size_is_refused():
    """A loop would write beyond its end."""
    w = np.zeros((1000, 300))
    optimizer = Adam()
    optimizer.build([w])
    optimizer.state[0]["velocity"] = np.zeros((900, 300))
    with pytest.raises(ValueError, match="broadcast|shape"):
        optimizer.apply([w], [np.ones_like(w)])


def test_slots_are_found_by_name(calls):
    """A state may come back in another order."""
    rng = np.random.default_rng(0)
    w, g = (rng.normal(size=(6, 4)) for _ in range(2))
    results = []
    for turn in 1, -1:
        optimizer, params = Adam(), [w.copy()]
        optimizer.build(params)
        optimizer.state[0] = dict(list(optimizer.state[0].items())[::turn])
        optimizer.apply(params, [g])
        results.append(params[0])
    assert len(calls) == 2
    assert_same(results[:1], results[1:])


def test_averages_are_compiled_with_the_rest(monkeypatch):
    w = np.zeros(5)
    optimizer = Adam(use_ema=True)
    monkeypatch.setattr(optimizers, "_move", None)  # NumPy's
    for _ in range(2):
        optimizer.apply([w], [np.ones(5)])
    assert np.all(w < optimizer.state[0]["average"])


def test_equations_of_ones_own_are_used(calls):
    class Signed(Adam):
        def update(self, w, rows, g, learning_rate, momentum, velocity):
            w[rows] -= learning_rate * np.sign(g)

        def kernel(self, learning_rate):
            return "signed", learning_rate

    w = np.zeros(3)
    Signed(0.5).apply([w], [np.array([2.0, 0.0, -3.0])])
    assert not calls
    np.testing.assert_array_equal(w, [-0.5, 0, 0.5])


def test_a_small_parameter_does_not_load_numba():
    program = """
        import sys
        import numpy as np
        from scratchlstm import optimizers

        for size in optimizers._BLOCK - 1, optimizers._BLOCK:
            optimizers.SGD().apply([np.zeros(size)], [np.ones(size)])
            print("numba" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=120)
    assert done.stdout == "False\nTrue\n", done.stderr
