"""`check_layer` names the gate whose gradient is wrong: of a cell of one's own, and of the LSTM's textbook."""

import dataclasses
from typing import NamedTuple

import numpy as np
import pytest

from scratchlstm import gates
from scratchlstm.activations import SIGMOID
from scratchlstm.cells import Cell
from scratchlstm.gates import sigmoid, tanh
from scratchlstm.gradcheck import check_layer
from scratchlstm.layers import LSTM, RNN, Bidirectional


class StepCache(NamedTuple):
    x: np.ndarray
    h_prev: np.ndarray
    a: np.ndarray
    g: np.ndarray


class LeakyCell(Cell):
    """That of docs/cells.md, with a place for each mistake."""

    gates = ("a", "g")
    mistake = ""

    def forward(self, x, h_prev, W, U, b):
        z_a, z_g = self.split(x @ W + h_prev @ U + b)
        a, g = sigmoid(z_a), tanh(z_g)
        return (1 - a) * h_prev + a * g, StepCache(x, h_prev, a, g)

    def backward(self, dh, cache, W, U, b):
        x, h_prev, a, g = cache
        da = dh * (g if self.mistake == "h_prev forgotten" else g - h_prev)
        dg = dh * (1 if self.mistake == "a forgotten" else a)
        dz = np.concatenate([da * a * (1 - a), dg * (1 - g * g)], axis=1)
        through_h = 0 if self.mistake == "direct path forgotten" else dh * (1 - a)
        grads = {"dx": dz @ W.T, "dh_prev": through_h + dz @ U.T, "dW": x.T @ dz, "dU": h_prev.T @ dz}
        return grads | {"db": dz.sum(axis=0)}


def problems(layer, x, **given):
    return {row.tensor: row.problem for row in check_layer(layer, x, **given).rows if not row.ok}


def with_mistake(mistake):
    return type("Wrong", (LeakyCell,), {"mistake": mistake})(3)


X = np.random.default_rng(0).normal(size=(2, 5, 4))


@pytest.mark.parametrize(
    ("mistake", "kernels", "others"),
    [
        ("h_prev forgotten", "in a (g ok)", {"x": "", "h0": ""}),
        ("a forgotten", "in g (a ok)", {"x": "", "h0": ""}),
        (
            "direct path forgotten",
            "over several steps, right in one",
            {"x": "over several steps, right in one: at steps 0 to 3, right at step 4", "h0": ""},
        ),
    ],
)
def test_the_gate_with_a_mistake_is_named(mistake, kernels, others):
    expected = dict.fromkeys(("kernel", "recurrent_kernel", "bias"), kernels) | others
    assert problems(RNN(with_mistake(mistake), return_sequences=True, dtype="float64"), X) == expected


DIAGNOSES = {
    "h_prev forgotten": "dz_a: it is right once h_prev dh a (1 - a) is subtracted",
    "a forgotten": "dz_g: the factor a is missing",
    "direct path forgotten": "dh_prev: it is right once dh (1 - a) is added",
}


@pytest.mark.parametrize("mistake", DIAGNOSES)
def test_the_report_ends_with_what_the_mistake_is(mistake):
    report = check_layer(RNN(with_mistake(mistake), return_sequences=True, dtype="float64"), X)
    assert report.diagnosis == [DIAGNOSES[mistake]]
    assert str(report).endswith(f"\n  {DIAGNOSES[mistake]}")


def test_a_right_cell_has_no_problem():
    report = check_layer(RNN(LeakyCell(3), return_sequences=True, dtype="float64"), X)
    assert report.ok
    assert report.diagnosis == []


def test_both_directions_are_told_apart():
    both = Bidirectional(RNN(LeakyCell(3), dtype="float64"))
    both.build(X.shape[1:])
    both.backward_layer.cell.mistake = "a forgotten"
    report = check_layer(both, X)
    found = {row.tensor: row.problem for row in report.rows if not row.ok}
    assert found["backward/kernel"] == "in g (a ok)"
    assert "forward/kernel" not in found
    assert report.diagnosis == [f"{both.backward_layer.name}: {DIAGNOSES['a forgotten']}"]


def test_the_cell_of_several_is_named():
    layer = RNN([LeakyCell(2), with_mistake("a forgotten")], return_sequences=True, dtype="float64")
    assert check_layer(layer, X).diagnosis == [f"{layer.name}/cell_1: {DIAGNOSES['a forgotten']}"]


def test_what_is_not_recognised_is_not_explained():
    class Odd(LeakyCell):
        def backward(self, dh, cache, W, U, b):
            return super().backward(np.tanh(dh) * 1.37, cache, W, U, b)

    report = check_layer(RNN(Odd(3), dtype="float64"), X)
    assert not report.ok
    assert report.diagnosis == []


@pytest.mark.parametrize("gate", "ifgo")
def test_a_mistake_in_the_textbook_is_traced_to_its_gate(monkeypatch, gate):
    right = gates.lstm_step_backward

    def wrong(dh, dc_next, cache, W, U, *primes):
        step = right(dh, dc_next, cache, W, U, *primes)
        k, H = "ifgo".index(gate), dh.shape[1]
        dz = step.dz.copy()
        dz[:, k * H : (k + 1) * H] *= 1.5  # as if a factor of the line was another
        h_in, x = cache.h_prev, cache.x
        return step._replace(dx=dz @ W.T, dh_prev=dz @ U.T, dW=x.T @ dz, dU=h_in.T @ dz, db=dz.sum(axis=0), dz=dz)

    monkeypatch.setattr(gates, "lstm_step_backward", wrong)
    found = problems(LSTM(3, implementation="textbook", return_sequences=True, return_state=True, dtype="float64"), X)
    others = ", ".join(name for name in "ifgo" if name != gate)
    assert {found[name] for name in ("kernel", "recurrent_kernel", "bias")} == {f"in {gate} ({others} ok)"}
    assert found["c0"] == "over several steps, right in one"


def test_the_derivative_of_an_activation_may_be_what_is_wrong():
    """As if `sigmoid_prime` of `gates.py` was changed, which the diagnosis does not take the right values from."""
    layer = LSTM(3, implementation="textbook", return_sequences=True, dtype="float64")
    layer.cell.recurrent_activation = dataclasses.replace(SIGMOID, prime=lambda s: s)
    forgotten = "the factor 1 - {0} is missing (as in {0} (1 - {0}), the derivative of σ)"
    numbers = {"i": 13, "f": 14, "o": 16}
    assert check_layer(layer, X).diagnosis == [f"({n}) dz_{of}: {forgotten.format(of)}" for of, n in numbers.items()]


class PeepingCell(LeakyCell):
    """The gate sees h_prev through p, which starts at 0; `backward` may forget that."""

    def param_specs(self, features):
        return super().param_specs(features) | {"peephole": ((self.units,), "zeros")}

    def forward(self, x, h_prev, W, U, b, p):
        z_a, z_g = self.split(x @ W + h_prev @ U + b)
        a, g = sigmoid(z_a + p * h_prev), tanh(z_g)
        return (1 - a) * h_prev + a * g, StepCache(x, h_prev, a, g)

    def backward(self, dh, cache, W, U, b, p):
        _x, h_prev, a, g = cache
        grads = super().backward(dh, cache, W, U, b)
        dz_a = dh * (g - h_prev) * a * (1 - a)
        through_p = 0 if self.mistake == "p forgotten" else dz_a * p
        return grads | {"dh_prev": grads["dh_prev"] + through_p, "dp": (dz_a * h_prev).sum(axis=0)}


@pytest.mark.parametrize(("mistake", "wrong"), [("", set()), ("p forgotten", {"kernel", "recurrent_kernel", "h0"})])
def test_a_mistake_is_seen_that_makes_no_difference_at_first(mistake, wrong):
    cell = type("Own", (PeepingCell,), {"mistake": mistake})(3)
    layer = RNN(cell, return_sequences=True, dtype="float64")
    layer.build(X.shape[1:])
    before = layer.get_weights()
    found = problems(layer, X)
    assert wrong <= found.keys()
    assert bool(found) == bool(wrong)
    assert all(np.array_equal(a, b) for a, b in zip(before, layer.get_weights(), strict=True))


def test_a_parameter_that_is_called_like_a_state_is_refused():
    class Own(LeakyCell):
        def param_specs(self, features):
            return {("h0" if name == "bias" else name): of for name, of in super().param_specs(features).items()}

    with pytest.raises(ValueError, match="a parameter of RNN and an input of the check are both called h0"):
        problems(RNN(Own(3), dtype="float64"), X)


def test_a_cell_by_itself_is_no_layer():
    with pytest.raises(TypeError, match=r"layer must be a layer, not the cell LeakyCell: RNN\(cell\) makes"):
        check_layer(LeakyCell(3), X)
