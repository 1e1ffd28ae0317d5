"""Traces of every kind of cell: steps are the cell's own, gradients are slopes of the loss, names follow the cell."""

import copy
import pickle

import numpy as np
import pytest
from own_cells import OneGateCell, SlowCache, SlowCell
from small_models import IDS, LABELS, stack

from scratchlstm import Sequential, cells
from scratchlstm.cells.base import IN_TRACE
from scratchlstm.inspection import explore, gate_heatmap, gates_over_words, gradient_norm_over_time, trace
from scratchlstm.inspection.trace import LayerTrace
from scratchlstm.layers import GRU, LSTM, RNN, Bidirectional, Dense, Embedding, SimpleRNN, TimeDistributed

FLOAT64 = {"dtype": "float64"}
CELLS = [OneGateCell, SlowCell, *(getattr(cells, name) for name in cells.__all__ if name.endswith("Cell"))]
CELLS = [cell for cell in CELLS if cell not in (cells.Cell, cells.GatedCell)]


def rnn(cell, units=4, **options):
    sizes = (units, 3) if cell is cells.ProjectedLSTMCell else (units,)
    return RNN(cell(*sizes), **FLOAT64, **options)


LAYERS = {
    "gru": lambda **options: GRU(4, **FLOAT64, **options),
    "gru before": lambda **options: GRU(4, reset_after=False, **FLOAT64, **options),
    "simple rnn": lambda **options: SimpleRNN(4, **FLOAT64, **options),
    **{cell.__name__: lambda cell=cell, **options: rnn(cell, **options) for cell in CELLS},
}


def one(found):
    return found[None]


def entering(cell, layer, t):
    """The arguments of the cell's `forward` before its parameters, at step t."""
    states = [layer.arrays[f"{state}_prev"][:, t] for state in cell.states]
    if "h_in" in cell.arguments:
        states = [states[0], *states] if "h_prev" in cell.arguments else states
    return [layer.input[:, t], *states]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_every_step_is_the_cells_own_and_its_gradients_add_up_to_the_layers(name, backwards):
    model = stack(LAYERS[name](go_backwards=backwards))
    rec = model.layers[1]
    cell, params, layer = rec.cell, rec.kernels(), one(trace(model, IDS, LABELS))
    prediction, cache = model.forward(IDS)
    _, dy, from_logits = model.loss_with_gradient(LABELS, prediction, cache.kept, None)
    expected = dict(zip(model.network.params, model.gradients(dy, cache, from_logits), strict=True))
    sums = [0.0] * len(params)
    previous = None
    for t in range(IDS.shape[1])[:: -1 if backwards else 1]:
        counts = IDS[:, t, None] != 0
        *states, step = cell.forward(*entering(cell, layer, t), *params)
        for gate in set(cell.gates) - set(cell.states):
            np.testing.assert_array_equal(layer.arrays[gate][:, t], getattr(step, gate))
        for state, value in zip(cell.states, states, strict=True):
            before = layer.arrays[f"{state}_prev"][:, t]
            np.testing.assert_array_equal(layer.arrays[state][:, t], np.where(counts, value, before))
            if previous is not None:
                np.testing.assert_array_equal(before, layer.arrays[state][:, previous])
                handed_on, got = layer.arrays[f"d{state}_prev"][:, t], layer.arrays[f"d{state}_next"][:, previous]
                np.testing.assert_array_equal(handed_on, got)
        arriving = [layer.dh[:, t], *(layer.arrays[f"d{state}_next"][:, t] for state in cell.states[1:])]
        back = cell.backward(*(np.where(counts, d, 0) for d in arriving), step, *params)
        np.testing.assert_allclose(layer.d_input[:, t], back["dx"], atol=1e-16)
        sums = [total + back[f"d{param}"] for total, param in zip(sums, cell.params, strict=True)]
        previous = t
    np.testing.assert_array_equal(layer.dh, layer.dh_above + layer.dh_next)
    for param, total in zip(cell.param_specs(3), sums, strict=True):
        own = np.asarray(expected[f"{rec.name}/{param}"])
        np.testing.assert_allclose(total, own, rtol=1e-9, atol=1e-15)
        assert own.any()
    table = np.zeros((6, 3))
    np.add.at(table, IDS, layer.d_input)
    np.testing.assert_allclose(table, np.asarray(expected["embedding/embeddings"]), rtol=1e-9, atol=1e-15)


class Later:
    """The loss as a function of the states after step t: the rest of the sequence is run again from there."""

    def __init__(self, name, t):
        self.model, self.t = stack(LAYERS[name]()), t
        embed, self.rec, self.head = self.model.layers
        self.x, self.cell = np.asarray(embed(IDS)), self.rec.cell
        self.layer = one(trace(self.model, IDS, LABELS))

    def at(self, suffix=""):
        return [self.layer.arrays[f"{state}{suffix}"][:, self.t] for state in self.cell.states]

    def loss(self, states):
        h, rest = states[0], slice(self.t + 1, None)
        if self.t + 1 < IDS.shape[1]:
            h = self.rec(self.x[:, rest], mask=IDS[:, rest] != 0, initial_state=list(states))
        return self.model.loss(LABELS, self.head(h))


def slope(of):
    return (of(1e-6) - of(-1e-6)) / 2e-6


@pytest.mark.parametrize("t", [1, 3])
@pytest.mark.parametrize("name", LAYERS)
def test_the_gradient_of_a_state_is_the_slope_of_the_loss(name, t):
    later, rng = Later(name, t), np.random.default_rng(0)
    after = later.at()
    for number, state in enumerate(later.cell.states):
        v = [rng.normal(size=a.shape) * (k == number) for k, a in enumerate(after)]
        expected = slope(lambda s, v=v: later.loss([a + s * push for a, push in zip(after, v, strict=True)]))
        found = later.layer.arrays[f"d{state}_next" if number else "dh"][:, t]
        assert np.sum(found * v[number]) == pytest.approx(expected, rel=1e-5, abs=1e-10), state


@pytest.mark.parametrize("t", [1, 3])
@pytest.mark.parametrize("name", sorted({*LAYERS} - {"OneGateCell"}))
def test_the_gradient_of_a_pre_activation_is_the_slope_of_the_loss(name, t):
    """z is moved at a single step: its bias is."""
    later = Later(name, t)
    cell, layer, params, counts = later.cell, later.layer, later.rec.kernels(), IDS[:, t, None] != 0
    number = cell.params.index("b")
    v = np.random.default_rng(0).normal(size=params[number].shape)
    if v.ndim == 2:
        v[1] = 0  # a GRU's bias for h_prev, which is not in z

    def moved(s):
        nudged = [*params[:number], params[number] + s * v, *params[number + 1 :]]
        *new, _ = cell.forward(*entering(cell, layer, t), *nudged)
        return later.loss([np.where(counts, n, before) for n, before in zip(new, later.at("_prev"), strict=True)])

    dz = np.concatenate([layer.arrays[f"dz_{block}"][:, t] for block in cell.blocks], axis=1)
    assert np.sum(dz * v.reshape(-1, dz.shape[1])[0]) == pytest.approx(slope(moved), rel=1e-5, abs=1e-10)


def test_the_whole_gradient_of_a_state_has_the_path_through_h():
    layer = one(trace(stack(rnn(SlowCell)), IDS, LABELS))
    through_h = layer.dh * (1 - layer.h**2) * layer.mask[..., None]
    np.testing.assert_allclose(layer.dm, layer.dm_next + through_h, atol=1e-15)
    assert layer.importance(1) == pytest.approx(np.abs(layer.dm * layer.m)[1][layer.mask[1]].sum(axis=0))


# --- names ------------------------------------------------------------------------------------------------------------

NAMES = {
    "gru": "kernel recurrent_kernel bias input mask h_prev u r n h",
    "simple rnn": "kernel recurrent_kernel bias input mask h_prev z_h h",
    "OneGateCell": "kernel recurrent_kernel bias input mask h_prev open idea h",
    "SlowCell": "kernel recurrent_kernel bias input mask h_prev m_prev z_open z_idea open idea h m",
    "PeepholeLSTMCell": "kernel recurrent_kernel bias peephole input mask h_prev c_prev i f g o h c",
    "CoupledLSTMCell": "kernel recurrent_kernel bias input mask h_prev c_prev z_i z_g z_o i f g o h c",
}
GRADIENTS = {
    "gru": "dh_above dh_next dh dh_prev dz_u dz_r dz_n d_input",
    "simple rnn": "dh_above dh_next dh dh_prev dz_h d_input",
    "OneGateCell": "dh_above dh_next dh dh_prev d_input",
    "SlowCell": "dh_above dh_next dh dh_prev dm_next dm dm_prev dz_open dz_idea d_input",
}


@pytest.mark.parametrize("name", NAMES)
def test_arrays_are_called_as_the_cell_calls_them(name):
    layer = one(trace(stack(LAYERS[name]()), IDS))
    assert list(layer.as_dict()) == NAMES[name].split()
    assert set(NAMES[name].split()) < set(dir(layer))
    for each, array in layer.as_dict().items():
        assert getattr(layer, each) is array


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_called_so_too(name):
    layer = one(trace(stack(LAYERS[name]()), IDS, LABELS))
    assert layer.gradients == GRADIENTS[name].split()
    assert list(layer.as_dict()) == NAMES[name].split() + GRADIENTS[name].split()
    assert [row.split()[0] for row in repr(layer).splitlines()[2:]] == [
        *layer.gates, *layer.memory, *(f"d{state}" for state in layer.states)
    ]  # fmt: skip
    without = one(trace(stack(LAYERS[name]()), IDS))
    assert set(layer.gradients) <= set(without.gradients) < set(dir(without))
    assert without.dh is None
    shaped = [each for each, array in layer.as_dict().items() if array.shape == (3, 5, 4)]
    assert set(layer.table(1, 2)[0]) == {"step", "counts", *shaped}
    assert layer.table(1, 2)[3]["dh"] == layer.dh[1, 3, 2]


def test_what_a_trace_does_not_have_is_named():
    layer = one(trace(stack(LAYERS["gru"]()), IDS, LABELS))
    match = r"the trace of gru \(GRUCell\) has no 'f'; it has kernel, .*, u, r, n, h, dh_above, .*, d_input$"
    with pytest.raises(AttributeError, match=match):
        _ = layer.f
    assert not hasattr(layer, "dc")
    with pytest.raises(ValueError, match="one of dh_above, dh_next, dh, dh_prev, dz_u, dz_r, dz_n, d_input, not 'dc'"):
        layer.gradient("dc")
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert twin.gates == ("u", "r", "n")
        np.testing.assert_array_equal(twin.dz_r, layer.dz_r)


def test_a_gradient_that_backward_does_not_return_is_missing():
    """Only the cell knows the whole gradient of a state other than the output; likewise that of z."""

    class Short(SlowCell):
        def backward(self, dh, dm_next, cache, W, U, b):
            step = super().backward(dh, dm_next, cache, W, U, b)
            return {name: step[name] for name in step if name not in ("dm", "dz")}

    found, whole = (trace(stack(rnn(cell)), IDS, LABELS) for cell in (Short, SlowCell))
    layer = one(found)
    assert layer.gradients == ["dh_above", "dh_next", "dh", "dh_prev", "dm_next", "dm_prev", "d_input"]
    for name in layer.gradients:
        np.testing.assert_array_equal(layer.arrays[name], one(whole).arrays[name])
    with pytest.raises(AttributeError, match=r"has no 'dm': backward of Short does not return dm; it has kernel, "):
        _ = layer.dm
    with pytest.raises(AttributeError, match=r"has no 'dz_open': backward of Short does not return dz; it has"):
        _ = layer.dz_open
    with pytest.raises(ValueError, match="one of dh_above, .*, not 'dm': backward of Short does not return dm$"):
        layer.gradient("dm")
    words = ["word"] * IDS.shape[1]
    with pytest.raises(ValueError, match=r"gate must be one of open, .*, m, h, dh, not 'dm': backward of Short does"):
        gate_heatmap(found, words, "dm")
    assert layer.importance(1) == pytest.approx(np.abs(layer.dh * layer.h)[1][layer.mask[1]].sum(axis=0))
    assert "dm" not in repr(layer)
    assert "dm" not in layer.table()[0]
    assert gates_over_words(found, words).axes
    assert gate_heatmap(found, words, "dh").axes


def test_the_names_that_no_gate_or_state_may_have_are_those_of_a_trace():
    own = {name for name in (*dir(LayerTrace), *LayerTrace.__match_args__) if not name.startswith("_")}
    assert own | {"input", "mask", "d_input"} == IN_TRACE


def test_a_gate_called_z_is_a_gate():
    """Keras' GRU has one; then "z" in the cache and "dz" are not those of all blocks."""

    class Keras(OneGateCell):
        gates = ("z",)
        blocks = ("z",)

        def forward(self, x, h_prev, W, U, b):
            z = np.tanh(x @ W + h_prev @ U + b)
            return z, SlowCache(x, h_prev, None, z, None, None)

        def backward(self, dh, cache, W, U, b):
            d = dh * (1 - cache.z**2)
            back = {"dx": d @ W.T, "dh_prev": d @ U.T, "dW": cache.x.T @ d, "dU": cache.h_prev.T @ d}
            return back | {"db": d.sum(axis=0), "dz": dh}

    layer = one(trace(stack(rnn(Keras)), IDS, LABELS))
    np.testing.assert_array_equal(layer.z[layer.mask], layer.h[layer.mask])
    assert not hasattr(layer, "z_z")
    assert layer.gradients == GRADIENTS["OneGateCell"].split()


def test_the_lstm_is_the_only_lstm():
    found = trace(stack(LSTM(3, return_sequences=True, **FLOAT64), GRU(2, **FLOAT64)), IDS)
    assert found.lstm is found["lstm"]
    found = trace(stack(GRU(2, **FLOAT64)), IDS)
    with pytest.raises(ValueError, match=r"trace.lstm shows an LSTM, but the model has none: it has gru \(GRUCell\)"):
        _ = found.lstm


def test_the_page_shows_an_lstm(tmp_path):
    model = Sequential([Embedding(20, 3, input_shape=(4,)), GRU(2), Dense(1, "sigmoid")])
    match = r"explore shows an LSTM, but the model has none: it has gru \(GRUCell\)"
    with pytest.raises(ValueError, match=match):
        explore(model, "good", tmp_path / "page.html", word_index={"good": 1})


# --- layers of several cells, and around others -----------------------------------------------------------------------


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
def test_cells_on_top_of_each_other_are_traced_as_layers_on_top_of_each_other(backwards, sequences):
    kinds, masked = (cells.LSTMCell, OneGateCell, cells.GRUCell), not backwards
    top = [LSTM(3, **FLOAT64)] if sequences else []
    layer = RNN([kind(4) for kind in kinds], return_sequences=sequences, go_backwards=backwards, **FLOAT64)
    stacked = stack(layer, *top, mask_zero=masked)
    apart = []  # a sequence is given out in the order of computation, so only the first of them runs backwards
    for number, kind in enumerate(kinds):
        options = {"return_sequences": sequences or number < 2, "go_backwards": backwards and number == 0}
        apart.append(RNN(kind(4), **options, **FLOAT64))
    model = stack(*apart, *(LSTM(3, **FLOAT64) for _ in top), mask_zero=masked)
    model.set_weights(stacked.get_weights())
    found, expected = trace(stacked, IDS, LABELS), list(trace(model, IDS, LABELS).layers.values())
    assert list(found.layers) == ["rnn/cell_0", "rnn/cell_1", "rnn/cell_2", *(["lstm"] if sequences else [])]
    for number, (layer, other) in enumerate(zip(found.layers.values(), expected, strict=True)):
        for name, array in layer.as_dict().items():
            turned = backwards and 0 < number < 3 and array.ndim >= 2 and array.shape[:2] == IDS.shape
            twin = other.arrays[name][:, ::-1] if turned else other.arrays[name]
            np.testing.assert_allclose(array, twin, rtol=1e-10, atol=1e-15)
    norms = gradient_norm_over_time(stacked, IDS, LABELS, layer="rnn/cell_1")
    np.testing.assert_allclose(norms, np.linalg.norm(found["rnn/cell_1"].dh, axis=-1).mean(axis=0))


def test_final_states_of_several_cells_bring_their_gradients():
    from scratchlstm import Input, Model
    from scratchlstm.layers import Concatenate

    words = Input((5,))
    x = Embedding(6, 3, mask_zero=True, **FLOAT64)(words)
    y, h, c, _ = RNN([cells.LSTMCell(4), OneGateCell(4)], return_state=True, **FLOAT64)(x)
    model = Model(words, Dense(1, "sigmoid", **FLOAT64)(Concatenate(**FLOAT64)([y, h, c])), seed=0)
    model.compile("adam", "binary_crossentropy")
    below = trace(model, IDS, LABELS)["rnn/cell_0"]
    kernel = model.layers[-1].params["kernel"][:, 0]
    slope = (trace(model, IDS).prediction - LABELS[:, None]) / 3  # of the logits
    np.testing.assert_allclose(below.dc_next[:, -1], slope * kernel[8:], rtol=1e-9)
    through_h = below.dh_above[:, -1] - slope * kernel[4:8]
    above = trace(model, IDS, LABELS)["rnn/cell_1"]
    np.testing.assert_allclose(through_h, above.d_input[:, -1], rtol=1e-9)


def test_both_directions_and_inside_others():
    model = stack(Bidirectional(GRU(4, return_sequences=True, **FLOAT64)), rnn(SlowCell))
    found = trace(model, IDS, LABELS)
    assert list(found.layers) == ["bidirectional/forward", "bidirectional/backward", "rnn"]
    assert found["bidirectional/backward"].go_backwards
    both = np.concatenate([found[f"bidirectional/{end}"].h for end in ("forward", "backward")], axis=-1)
    np.testing.assert_allclose(both * found["rnn"].mask[..., None], found["rnn"].input, atol=1e-15)
    x = np.random.default_rng(0).integers(0, 6, size=(2, 3, 5))
    model = Sequential([Embedding(6, 3, mask_zero=True, input_shape=(3, 5), **FLOAT64)])
    model.add(TimeDistributed(rnn(OneGateCell)))
    model.add(GRU(2, **FLOAT64))
    model.compile("adam", "mse")
    found = trace(model, x, np.ones((2, 2)))
    inner, outer = found["time_distributed/rnn"], found["gru"]
    np.testing.assert_allclose(inner.dh[:, -1].reshape(2, 3, 4), outer.d_input, atol=1e-14)


def test_a_stateful_layer_continues_from_its_states():
    model = stack(GRU(4, stateful=True, **FLOAT64), mask_zero=False)
    model.predict(IDS, verbose=0)
    (before,) = (state.copy() for state in model.layers[1].states)
    np.testing.assert_array_equal(one(trace(model, IDS)).h_prev[:, 0], before)
    np.testing.assert_array_equal(model.layers[1].states[0], before)
