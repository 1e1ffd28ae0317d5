"""What docs/variants.md says about the cells: how they begin, and the LSTM that each of them is in a limit."""

import numpy as np
import pytest

from scratchlstm import cells
from scratchlstm.layers import RNN

B, T, E, H = 2, 6, 3, 2


def layer_of(cell, weights=None):
    layer = RNN(cell, return_sequences=True, return_state=True, dtype="float64")
    layer.build((T, E), np.random.default_rng(0))
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()] if weights is None else weights)
    return layer


def assert_same(one, other):
    """h at every step and the last h and c of two layers."""
    rng = np.random.default_rng(2)
    x, states = rng.normal(size=(B, T, E)), list(rng.normal(size=(2, B, H)))
    results = [
        layer(x, initial_state=[*states, *np.zeros((len(layer.state_sizes) - 2, B, H))])[:3] for layer in (one, other)
    ]
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "added"), [("PeepholeLSTMCell", (3, H)), ("FullGateLSTMCell", (3 * H, 3 * H))])
def test_with_its_own_parameter_at_0_a_cell_is_an_lstm(name, added):
    lstm = layer_of(cells.LSTMCell(H))
    cell = getattr(cells, name)(H)
    assert_same(layer_of(cell, [*lstm.get_weights(), np.zeros(added)]), lstm)
    without_bias = getattr(cells, name)(H, use_bias=False)
    W, U, _ = lstm.get_weights()
    assert_same(layer_of(without_bias, [W, U, np.zeros(added)]), layer_of(cells.LSTMCell(H, use_bias=False), [W, U]))


@pytest.mark.parametrize(
    ("name", "gate"), [("NoInputGateLSTMCell", "i"), ("NoForgetGateLSTMCell", "f"), ("NoOutputGateLSTMCell", "o")]
)
def test_a_gate_taken_away_is_a_gate_that_is_always_open(name, gate):
    ablated, place = layer_of(getattr(cells, name)(H)), "ifgo".index(gate)
    assert ablated.cell.gates == tuple("ifgo".replace(gate, ""))
    weights = []
    for columns, open_gate in zip(ablated.get_weights(), (0, 0, 50), strict=True):
        blocks = np.split(columns, 3, axis=-1)
        blocks.insert(place, np.full_like(blocks[0], open_gate))
        weights.append(np.concatenate(blocks, axis=-1))
    assert_same(ablated, layer_of(cells.LSTMCell(H), weights))


@pytest.mark.parametrize("name", ["NoInputActivationLSTMCell", "NoOutputActivationLSTMCell"])
def test_an_activation_taken_away_leaves_the_other(name):
    both = layer_of(getattr(cells, name)(H, activation="linear"))
    assert_same(both, layer_of(cells.LSTMCell(H, activation="linear"), both.get_weights()))
    one = layer_of(getattr(cells, name)(H), both.get_weights())
    x = np.random.default_rng(3).normal(size=(B, T, E))
    for other in (both, layer_of(cells.LSTMCell(H), both.get_weights())):
        assert np.abs(one(x)[0] - other(x)[0]).max() > 1e-3


def test_a_coupled_lstm_is_one_whose_forget_gate_sees_minus_what_its_input_gate_sees():
    coupled = layer_of(cells.CoupledLSTMCell(H))
    blocks = (np.split(each, 3, axis=-1) for each in coupled.get_weights())
    lstm = [np.concatenate([i, -i, g, o], axis=-1) for i, g, o in blocks]
    assert_same(coupled, layer_of(cells.LSTMCell(H), lstm))


def test_a_coupled_lstm_never_leaves_the_range_of_its_candidates():
    x = 10 * np.random.default_rng(4).normal(size=(B, 200, E))
    coupled = layer_of(cells.CoupledLSTMCell(H))
    assert np.abs(coupled(x)[2]).max() <= 1
    adding = layer_of(cells.NoForgetGateLSTMCell(H), coupled.get_weights())  # the same three blocks
    assert np.abs(adding(x)[2]).max() > 1


STARTS = {
    "PeepholeLSTMCell": [0, 1, 0, 0], "FullGateLSTMCell": [0, 1, 0, 0], "CoupledLSTMCell": [-1, 0, 0],
    "NoInputGateLSTMCell": [1, 0, 0], "NoForgetGateLSTMCell": [0, 0, 0], "NoOutputGateLSTMCell": [0, 1, 0],
    "NoInputActivationLSTMCell": [0, 1, 0, 0], "NoOutputActivationLSTMCell": [0, 1, 0, 0],
}  # fmt: skip


@pytest.mark.parametrize("name", STARTS)
def test_a_new_cell_remembers_unless_told_otherwise(name):
    for unit_forget_bias in (True, False):
        layer = RNN(getattr(cells, name)(H, unit_forget_bias=unit_forget_bias))
        layer.build((T, E), np.random.default_rng(0))
        expected = [start * unit_forget_bias for start in STARTS[name]]
        np.testing.assert_array_equal(layer.params["bias"], np.repeat(expected, H))
    if name == "PeepholeLSTMCell":
        np.testing.assert_array_equal(layer.params["peephole"], np.zeros((3, H)))


def test_gates_that_are_states_begin_at_0_and_go_on_in_a_stateful_layer():
    x = np.random.default_rng(5).normal(size=(B, T, E))
    whole = layer_of(cells.FullGateLSTMCell(H))
    np.testing.assert_array_equal(whole(x)[0], whole(x, initial_state=[*np.zeros((5, B, H))])[0])
    pieces = RNN(cells.FullGateLSTMCell(H), return_sequences=True, stateful=True, dtype="float64")
    pieces.build((T, E), np.random.default_rng(0))
    pieces.set_weights(whole.get_weights())
    found = np.concatenate([pieces(x[:, :2]), pieces(x[:, 2:])], axis=1)
    np.testing.assert_allclose(found, whole(x)[0], rtol=1e-12)
