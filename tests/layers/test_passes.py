"""A pass is explicit: any number may be open, and a layer keeps nothing of any of them."""

import copy

import numpy as np
import pytest

from scratchlstm import Input, Model, Sequential, backend, layers
from scratchlstm.layers import (
    GRU,
    LSTM,
    RNN,
    Activation,
    Add,
    Attention,
    Bidirectional,
    Concatenate,
    Dense,
    Dot,
    Dropout,
    Embedding,
    Flatten,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    GRUCell,
    LayerNormalization,
    LSTMCell,
    MaskedGlobalMaxPooling1D,
    Masking,
    Multiply,
    Network,
    RepeatVector,
    Reshape,
    SimpleRNN,
    SimpleRNNCell,
    SpatialDropout1D,
    TimeDistributed,
    WordDropout,
)
from scratchlstm.layers.merging import Merging
from scratchlstm.layers.passes import Pass, Workspaces
from scratchlstm.rows import RowGradient

RNG = np.random.default_rng(0)
MASKS = RNG.random((2, 3, 5)) < 0.6
MASKS[:, 0] = True


def arrays(*shape):
    """Two batches."""
    return [RNG.normal(size=shape) for _ in range(2)]


def ids(*shape):
    return [RNG.integers(0, 7, size=shape) for _ in range(2)]


def rows():
    """Two batches as an embedding hands them on."""
    embedding = Embedding(7, 4, dtype="float64")
    return [embedding.forward(x)[0] for x in ids(3, 5)]


def states(units=2, count=2):
    return [(x, *(RNG.normal(size=(3, units)) for _ in range(count))) for x in arrays(3, 5, 4)]


def network():
    """Parts that part and meet again, one layer at two places, and a network inside."""
    first, second = Input((5,)), Input((5,))
    embedding, lstm = Embedding(7, 4, mask_zero=True, dtype="float64"), LSTM(2, dropout=0.3, seed=1, dtype="float64")
    inner = Sequential([Input((2,)), Dense(3, "tanh", dtype="float64"), Dropout(0.2, seed=2, dtype="float64")])
    both = Concatenate(dtype="float64")([inner(lstm(embedding(each))) for each in (first, second)])
    return Model([first, second], Dense(1, dtype="float64")(both), seed=0).network


OPTIONS = {"dtype": "float64"}
RECURRENT = {
    "plain": {},
    "sequences": {"return_sequences": True},
    "states": {"return_state": True},
    "all": {"return_sequences": True, "return_state": True, "go_backwards": True},
    "backwards": {"go_backwards": True},
    "dropout": {"dropout": 0.4, "seed": 1},
    "recurrent dropout": {"recurrent_dropout": 0.4, "seed": 2, "return_sequences": True},
    "both dropouts": {"dropout": 0.3, "recurrent_dropout": 0.4, "seed": 3},
    "relu": {"activation": "relu"},
}
CASES = {
    **{
        f"LSTM {kind} {implementation}": (
            lambda of=of, i=implementation: LSTM(2, implementation=i, **of, **OPTIONS),
            lambda: arrays(3, 5, 4),
        )
        for kind, of in RECURRENT.items()
        for implementation in ("fused", "textbook")
    },
    **{
        f"SimpleRNN {kind}": (lambda of=of: SimpleRNN(2, **of, **OPTIONS), lambda: arrays(3, 5, 4))
        for kind, of in RECURRENT.items()
    },
    **{
        f"GRU {kind}": (lambda of=of: GRU(2, **of, **OPTIONS), lambda: arrays(3, 5, 4))
        for kind, of in RECURRENT.items()
    },
    **{
        f"GRU before {kind}": (lambda of=of: GRU(2, reset_after=False, **of, **OPTIONS), lambda: arrays(3, 5, 4))
        for kind, of in RECURRENT.items()
    },
    **{
        f"RNN of {cell.__name__}": (lambda cell=cell: RNN(cell(2, dropout=0.4), **OPTIONS), lambda: arrays(3, 5, 4))
        for cell in (LSTMCell, GRUCell, SimpleRNNCell)
    },
    "RNN of three": (
        lambda: RNN([LSTMCell(2), GRUCell(3, recurrent_dropout=0.4, dropout=0.3), SimpleRNNCell(2)], **OPTIONS),
        lambda: arrays(3, 5, 4),
    ),
    "RNN of two, all": (
        lambda: RNN([LSTMCell(2), GRUCell(2)], return_sequences=True, return_state=True, go_backwards=True, **OPTIONS),
        lambda: states(count=3),
    ),
    "RNN of rows": (lambda: RNN([GRUCell(2), LSTMCell(2)], **OPTIONS), rows),
    **{
        f"LSTM of rows {implementation}": (lambda i=implementation: LSTM(2, implementation=i, **OPTIONS), rows)
        for implementation in ("fused", "textbook")
    },
    **{
        f"LSTM from states {implementation}": (lambda i=implementation: LSTM(2, implementation=i, **OPTIONS), states)
        for implementation in ("fused", "textbook")
    },
    **{
        f"Bidirectional {mode}": (
            lambda mode=mode: Bidirectional(LSTM(2, dropout=0.3, seed=1, **OPTIONS), merge_mode=mode),
            lambda: arrays(3, 5, 4),
        )
        for mode in ("concat", "sum", "ave", "mul", None)
    },
    "Bidirectional of rows": (lambda: Bidirectional(LSTM(2, return_sequences=True, **OPTIONS)), rows),
    "Bidirectional from states": (
        lambda: Bidirectional(LSTM(2, return_sequences=True, return_state=True, **OPTIONS)),
        lambda: states(count=4),
    ),
    "TimeDistributed": (lambda: TimeDistributed(Dense(2, "tanh", **OPTIONS)), lambda: arrays(3, 5, 4)),
    "Bidirectional of two cells": (
        lambda: Bidirectional(RNN([LSTMCell(2), GRUCell(3)], **OPTIONS)),
        lambda: arrays(3, 5, 4),
    ),
    "TimeDistributed GRU": (
        lambda: TimeDistributed(GRU(2, recurrent_dropout=0.3, **OPTIONS)),
        lambda: arrays(3, 5, 4, 2),
    ),
    "TimeDistributed LSTM": (
        lambda: TimeDistributed(LSTM(2, dropout=0.3, seed=1, **OPTIONS)),
        lambda: arrays(3, 5, 4, 2),
    ),
    "Dense": (lambda: Dense(2, "sigmoid", **OPTIONS), lambda: arrays(3, 4)),
    "softmax": (lambda: Activation("softmax", **OPTIONS), lambda: arrays(3, 4)),
    "Embedding": (lambda: Embedding(7, 4, **OPTIONS), lambda: ids(3, 5)),
    "Dropout": (lambda: Dropout(0.4, seed=1, **OPTIONS), lambda: arrays(3, 4)),
    "WordDropout": (
        lambda: Sequential([WordDropout(0.4), Embedding(7, 4, **OPTIONS)], seed=1).network,
        lambda: ids(3, 5),
    ),
    "SpatialDropout1D": (lambda: SpatialDropout1D(0.4, seed=1, **OPTIONS), lambda: arrays(3, 5, 4)),
    "Flatten": (lambda: Flatten(**OPTIONS), lambda: arrays(3, 5, 4)),
    "Masking": (lambda: Masking(**OPTIONS), lambda: [x * (MASKS[0][..., None]) for x in arrays(3, 5, 4)]),
    "average": (lambda: GlobalAveragePooling1D(**OPTIONS), lambda: arrays(3, 5, 4)),
    "max": (lambda: GlobalMaxPooling1D(**OPTIONS), lambda: arrays(3, 5, 4)),
    "masked max": (lambda: MaskedGlobalMaxPooling1D(**OPTIONS), lambda: arrays(3, 5, 4)),
    "LayerNormalization": (lambda: LayerNormalization(**OPTIONS), lambda: arrays(3, 4)),
    "Concatenate": (
        lambda: Concatenate(**OPTIONS),
        lambda: list(zip(arrays(3, 4), arrays(3, 2), strict=True)),
    ),
    "Add": (lambda: Add(**OPTIONS), lambda: list(zip(arrays(3, 4), arrays(3, 1), strict=True))),
    "Multiply": (lambda: Multiply(**OPTIONS), lambda: list(zip(arrays(3, 5, 4), arrays(3, 5, 4), strict=True))),
    "Dot": (
        lambda: Dot(2, normalize=True, **OPTIONS),
        lambda: list(zip(arrays(3, 2, 4), arrays(3, 5, 4), strict=True)),
    ),
    "Attention": (
        lambda: Attention(use_scale=True, dropout=0.3, seed=1, **OPTIONS),
        lambda: list(zip(arrays(3, 5, 4), arrays(3, 5, 4), strict=True)),
    ),
    "Reshape": (lambda: Reshape((2, -1), **OPTIONS), lambda: arrays(3, 5, 4)),
    "RepeatVector": (lambda: RepeatVector(2, **OPTIONS), lambda: arrays(3, 4)),
    "Network": (network, lambda: list(zip(ids(3, 5), ids(3, 5), strict=True))),
}
RECURRENT_LAYERS = ("LSTM", "SimpleRNN", "GRU", "RNN", "Bidirectional")
every_case = pytest.mark.parametrize(("make", "draw"), CASES.values(), ids=CASES)


def flat(result):
    """All arrays of a backward pass' result, by name."""
    dx, grads = result
    several = dx if isinstance(dx, tuple | list) else [dx]
    found = {f"dx {number}": d for number, d in enumerate(several) if d is not None} | grads
    return {name: backend.host(g.dense() if isinstance(g, RowGradient) else g) for name, g in found.items()}


def same(one, other):
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert np.array_equal(array, other[name]), name


class Open:
    """Two passes of a layer, masked if it takes a mask, with the same dropout masks in every repetition."""

    def __init__(self, layer, batches):
        self.layer = layer
        self.batches = [self._there(batch) for batch in batches]
        self.masks = list(MASKS) if layer.takes_mask and not isinstance(layer, Network) else [None, None]
        if layer.takes_mask and isinstance(layer, Merging):
            self.masks = [[mask, mask] for mask in MASKS]
        self.runs = [Pass(True, keeps_states=False) for _ in batches]
        found = [layer.forward(x, run, mask) for x, run, mask in zip(self.batches, self.runs, self.masks, strict=True)]
        self.dys = [self._gradient(y) for y, _ in found]
        self.separate = []
        for k in range(2):
            _, cache = self.forward(k)
            self.separate.append(flat(layer.backward(self.dys[k], cache)))

    def _there(self, batch):
        if isinstance(batch, tuple):
            return type(batch)(self._there(part) for part in batch)
        integers = getattr(batch, "dtype", np.dtype(float)).kind in "iu"
        return batch if integers or not isinstance(batch, np.ndarray) else backend.to(self.layer.backend, batch)

    def _gradient(self, y):
        if isinstance(y, tuple):
            return tuple(map(self._gradient, y))
        return backend.to(self.layer.backend, RNG.normal(size=y.shape))

    def forward(self, k):
        return self.layer.forward(self.batches[k], self.runs[k].again(), self.masks[k])

    def backward(self, k, cache):
        same(flat(self.layer.backward(self.dys[k], cache)), self.separate[k])


def check_orders(layer, batches):
    """F1 F2 B1 B2, F1 F2 B2 B1, and each backward pass twice, in every order."""
    passes = Open(layer, batches)
    assert passes.separate[0].keys() == passes.separate[1].keys()
    assert any(not np.array_equal(a, passes.separate[1][name]) for name, a in passes.separate[0].items())
    for order in ([0, 1], [1, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 1, 0]):
        caches = [passes.forward(k)[1] for k in range(2)]
        for k in order:
            passes.backward(k, caches[k])


@every_case
def test_open_passes_equal_separate_ones(make, draw):
    check_orders(make(), draw())


@pytest.mark.parametrize("name", [name for name in CASES if "rows" not in name])
def test_open_passes_on_the_other_backend(name, device):
    make, draw = CASES[name]
    layer = make()
    layer.to("cupy")
    check_orders(layer, draw())


def test_every_layer_is_there():
    kinds = {type(make()).__name__ for make, _ in CASES.values()}
    in_a_network = CASES.keys() & {"WordDropout"}  # which has no gradients of its own
    assert kinds | in_a_network == set(layers.KNOWN)


@pytest.mark.parametrize("implementation", ["fused", "textbook"])
@pytest.mark.parametrize("around", [lambda layer: layer, Bidirectional])
def test_open_passes_of_a_stateful_layer(implementation, around):
    """The second pass begins with the states that the first ended with, whenever the backward passes come."""
    batches, dy = arrays(3, 5, 4), None
    found = []
    for order in (["F0", "B0", "F1", "B1"], ["F0", "F1", "B0", "B1"], ["F0", "F1", "B1", "B0", "B1"]):
        layer = around(LSTM(2, stateful=True, implementation=implementation, **OPTIONS))
        layer.build((5, 4), np.random.default_rng(1))
        caches, results = {}, {}
        for step in order:
            k = int(step[1])
            if step[0] == "F":
                y, caches[k] = layer.forward(batches[k], Pass(True))
                dy = RNG.normal(size=y.shape) if dy is None else dy
            else:
                results[k] = flat(layer.backward(dy, caches[k]))
        found.append((results[0], results[1], layer.extra_state()))
    assert not np.array_equal(found[0][0]["kernel" if "kernel" in found[0][0] else "forward/kernel"], 0)
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            same(one, two)


def test_a_pass_that_keeps_no_states_leaves_them():
    layer = LSTM(2, stateful=True, **OPTIONS)
    x = arrays(3, 5, 4)[0]
    layer(x)
    before = copy.deepcopy(layer.states)
    y, _ = layer.forward(x, Pass(keeps_states=False))
    assert all(np.array_equal(a, b) for a, b in zip(layer.states, before, strict=True))
    assert np.array_equal(layer(x), y), "it began with them"
    assert not np.array_equal(layer.states[0], before[0])


# --- nothing of a pass is on a layer ----------------------------------------------------------------------------------


def attributes(layer):
    """Name and identity of everything that a layer and the layers inside it hold."""
    return [{name: id(value) for name, value in vars(inner).items()} for inner in layer.with_inner()]


@every_case
def test_no_attribute_comes_with_a_pass(make, draw):
    layer, (first, second) = make(), draw()
    layer(first[0] if isinstance(first, tuple) and not layer.merges else first)  # builds it
    before, params = attributes(layer), {name: array.copy() for name, array in layer.params.items()}
    y, cache = layer.forward(second, Pass(True))
    dy = tuple(RNG.normal(size=part.shape) for part in y) if isinstance(y, tuple) else RNG.normal(size=y.shape)
    layer.backward(dy, cache)
    layer.infer(second)
    layer(first[0] if isinstance(first, tuple) and not layer.merges else first, training=True)
    assert attributes(layer) == before
    same(dict(layer.params), params)


def test_training_leaves_nothing_on_a_model_but_its_weights():
    model = Sequential([Embedding(7, 4, input_shape=(5,)), LSTM(2), Dense(1, "sigmoid")], seed=0)
    model.compile("adam", "binary_crossentropy")
    x, y = ids(8, 5)[0], RNG.integers(0, 2, 8)
    before = attributes(model.network)
    model.fit(x, y, batch_size=3, epochs=2, verbose=0)
    model.predict(x, verbose=0)
    assert attributes(model.network) == before


# --- weights that change, memory that is released ---------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in CASES if name.split()[0] in RECURRENT_LAYERS])
def test_a_recurrent_layers_backward_uses_the_weights_of_its_forward(name):
    make, draw = CASES[name]
    layer, batches = make(), draw()
    passes = Open(layer, batches)
    _, cache = passes.forward(0)
    for array in layer.params.values():
        array += 1
    passes.backward(0, cache)
    passes.backward(0, cache)


@pytest.mark.parametrize("implementation", ["fused", "textbook"])
def test_a_released_cache_says_so_and_the_next_pass_has_its_memory(implementation):
    layer, (x, other), spare = LSTM(2, implementation=implementation, **OPTIONS), arrays(3, 5, 4), Workspaces()
    run = Pass(True, workspaces=spare)
    y, cache = layer.forward(x, run)
    dy = np.ones_like(y)
    expected = flat(layer.backward(dy, cache))
    run.release()
    with pytest.raises(RuntimeError, match="the cache of lstm was released.*call backward before release"):
        layer.backward(dy, cache)
    held = len(spare.free)
    assert held == (implementation == "fused")
    y, cache = layer.forward(other, run)
    assert not spare.free
    layer.backward(dy, cache)  # a pass may be run again after its release
    run.release()
    assert len(spare.free) == held
    y, cache = layer.forward(x, Pass(True, workspaces=spare))
    same(flat(layer.backward(dy, cache)), expected)


def test_a_step_leaves_its_memory_to_the_next():
    model = Sequential([Embedding(7, 4, input_shape=(5,)), LSTM(2, return_sequences=True), LSTM(3), Dense(1)], seed=0)
    model.compile("sgd", "mse")
    x, y = ids(8, 5)[0], RNG.normal(size=8)
    model.train_on_batch(x, y)
    first = [id(workspace) for workspace in model.workspaces.free]
    assert len(first) == 2
    model.train_on_batch(x, y)
    assert sorted(map(id, model.workspaces.free)) == sorted(first)
    model.train_on_batch(x[:3], y[:3])
    assert len(model.workspaces.free) == 2, "of another size, the old ones are let go"


# --- what a pass is told ----------------------------------------------------------------------------------------------


def test_the_gradients_that_arrive_are_heard_at_every_layer():
    heard = {}
    run = Pass(True, seen=lambda cache, dy: heard.setdefault(cache.layer.name, []).append(dy))
    layer = network()
    x = [each[0] for each in (ids(3, 5), ids(3, 5))]
    y, cache = layer.forward(x, run)
    layer.backward(np.ones_like(y), cache)
    counts = {name: len(of) for name, of in heard.items()}
    assert (
        counts
        == {
            **{"functional": 1, "dense_1": 1, "concatenate": 1, "sequential": 2, "dropout": 2, "dense": 2, "lstm": 2},
            "embedding": 2,
        }
        or counts["lstm"] == counts["embedding"] == 2
    )


def test_again_repeats_the_masks_and_draws_nothing():
    layer = LSTM(2, dropout=0.5, recurrent_dropout=0.5, seed=1, **OPTIONS)
    x = arrays(3, 5, 4)[0]
    layer(x)
    run = Pass(True)
    y, _ = layer.forward(x, run)
    states_of = [source.rng.bit_generator.state for source in layer.dropout_masks]
    assert np.array_equal(layer.forward(x, run.again())[0], y)
    assert np.array_equal(layer.forward(x, run.again())[0], y)
    assert [source.rng.bit_generator.state for source in layer.dropout_masks] == states_of
    assert not np.array_equal(layer.forward(x, Pass(True))[0], y)


def test_rows_of_a_batch_get_the_masks_of_the_whole():
    x = RNG.normal(size=(6, 5, 4))
    whole, parts = [], []
    for spans in ([(0, 6)], [(0, 2), (2, 3), (3, 6)]):
        layer = TimeDistributed(LSTM(2, dropout=0.5, recurrent_dropout=0.5, seed=1, **OPTIONS))
        layer.build((5, 4, 1), np.random.default_rng(0))
        states_before = [source.rng.bit_generator.state for source in layer.dropout_masks]
        for first, last in spans:
            for source, state in zip(layer.dropout_masks, states_before, strict=True):
                source.rng.bit_generator.state = state
            y, _ = layer.forward(x[first:last, ..., None], Pass(True, rows=(first, 6)))
            (whole if len(spans) == 1 else parts).append(y)
    assert np.array_equal(np.concatenate(parts), whole[0])


# --- need -------------------------------------------------------------------------------------------------------------


@every_case
def test_the_parameters_gradients_do_not_depend_on_need(make, draw):
    layer, (x, _) = make(), draw()
    run = Pass(True)
    y, cache = layer.forward(x, run)
    dy = tuple(RNG.normal(size=part.shape) for part in y) if isinstance(y, tuple) else RNG.normal(size=y.shape)
    _, wanted = layer.backward(dy, cache, True)
    _, unwanted = layer.backward(dy, cache, False)
    same(flat((None, wanted)), flat((None, unwanted)))


# --- layers of one's own ----------------------------------------------------------------------------------------------


def test_an_initializer_of_ones_own_layer_may_be_named():
    class Scale(layers.Layer):
        def param_specs(self, input_shape):
            return {"scale": ((input_shape[-1],), "ones")}

        def forward(self, x):
            return x * self.params["scale"], x

        def backward(self, dy, cache):
            return dy * self.params["scale"], {"scale": (dy * cache).sum(axis=0)}

    x = RNG.normal(size=(3, 4))
    layer = Scale(dtype="float64")
    y, cache = layer.forward(x)
    dx, grads = layer.backward(np.ones_like(y), cache)
    assert np.array_equal(y, x)
    assert np.array_equal(grads["scale"], x.sum(axis=0))
    assert np.array_equal(dx, np.ones_like(x))


def test_a_subclass_may_change_one_half_and_call_the_other():
    """What super().forward and super().backward take and give is what a caller outside sees."""

    class Twice(Dense):
        def forward(self, x):
            y, cache = super().forward(x)
            return 2 * y, cache

        def backward(self, dy, cache, need=True):
            return super().backward(2 * dy, cache, need)

    class Clipped(Twice):
        def backward(self, dy, cache, need=True):
            return super().backward(np.clip(dy, -1, 1), cache, need)

    class Forward(Dense):
        def forward(self, x):
            return super().forward(x + 1)

    x, dy = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 2)) * 3
    plain = Dense(2, "tanh", **OPTIONS)
    plain.build((4,), np.random.default_rng(1))

    def result(kind, dy):
        layer = kind(2, "tanh", **OPTIONS)
        layer.build((4,), params=dict(plain.params))
        y, cache = layer.forward(x)
        return y, flat(layer.backward(dy, cache))

    y, expected = result(Dense, 2 * dy)
    twice, found = result(Twice, dy)
    assert np.array_equal(twice, 2 * y)
    same(found, expected)
    same(result(Clipped, dy)[1], result(Dense, 2 * np.clip(dy, -1, 1))[1])
    y, cache = plain.forward(x + 1)
    assert np.array_equal(result(Forward, dy)[0], y)
    same(result(Forward, dy)[1], flat(plain.backward(dy, cache)))
