"""A mistake planted in a line of the LSTM, or of the loop over its steps, is named by `check_layer`."""

import numpy as np
import planting
import pytest

from scratchlstm import gates, gradcheck
from scratchlstm.cells import LSTMCell, scan
from scratchlstm.kernels import numpy_lstm
from scratchlstm.layers import GRU, LSTM, RNN, Bidirectional, Dense, Embedding
from scratchlstm.models.model import Sequential

X = np.random.default_rng(0).normal(size=(2, 4, 3))
FORGOTTEN = "the factor {} is missing, the derivative of {}"
EQUATIONS = {  # the line, with the mistake -> what is said
    ("do = dh * tanh_c", "do = dh"): "(7) or (16) dz_o: the factor tanh_c is missing",
    ("dc = dc_next + dh * o", "dc = dh * o"): "(8) dc: the term dc_next is missing",
    ("dh * o * phi_prime(tanh_c)", "dh * o"): (
        "(8) dc: in the term dh o (1 - tanh_c²), the factor 1 - tanh_c² is missing, the derivative of tanh"
    ),
    ("di = dc * g", "di = dc * i"): "(9) or (13) dz_i: you have i where g belongs",
    ("df = dc * c_prev", "df = dc * (f * c_prev + i * g)"): "(10) dz_f: you have c where c_prev belongs",
    ("dg = dc * i", "dg = dc * o"): "(11) dz_g: you have o where i belongs",
    ("dc_prev = dc * f", "dc_prev = dc"): "(12) dc_prev: the factor f is missing",
    ("di * sigma_prime(i)", "di * i"): "(13) dz_i: the factor 1 - i is missing (as in i (1 - i), the derivative of σ)",
    ("df * sigma_prime(f)", "df"): f"(14) dz_f: {FORGOTTEN.format('f (1 - f)', 'σ')}",
    ("dg * phi_prime(g)", "dg"): f"(15) dz_g: {FORGOTTEN.format('1 - g²', 'tanh')}",
    ("do * sigma_prime(o)", "do"): f"(16) dz_o: {FORGOTTEN.format('o (1 - o)', 'σ')}",
    ("dz_i, dz_f, dz_g, dz_o]", "dz_f, dz_i, dz_g, dz_o]"): "(13) to (16) dz: the blocks of i and f are swapped",
    ("dx = dz @ W.T", "dx = -dz @ W.T"): "(17) dx: the sign is wrong",
    ("dh_prev = dz @ U.T", "dh_prev = 2 * dz @ U.T"): "(18) dh_prev: it is multiplied by 2",
    ("dW = x.T @ dz", "dW = x.T @ dz / len(x)"): ("(19) dW: it is divided by 4, the batch size: no mean belongs there"),
    ("dU = h_prev.T @ dz", "dU = (o * tanh_c).T @ dz"): "(20) dU: you have h.T @ dz where h_prev.T @ dz belongs",
    ("xp.sum(dz, axis=0)", "xp.mean(dz, axis=0)"): (
        "(21) db: it is divided by 4, the batch size: no mean belongs there"
    ),
}


def lstm(**options):
    return LSTM(2, return_sequences=True, return_state=True, implementation="textbook", dtype="float64", **options)


@pytest.mark.parametrize("mistake", EQUATIONS, ids=lambda mistake: mistake[1])
def test_an_equation_with_a_mistake_is_named(monkeypatch, mistake):
    planting.plant(monkeypatch, gates, *mistake)
    assert gradcheck.check_layer(lstm(), X).diagnosis == [EQUATIONS[mistake]]


LOOP = "right in one step, wrong over several: the loop. "
ADDED = 'total += step.gradients[f"d{name}"]'
LOOPS = {
    ("[step[name] for name in leaving]", "[step[name] * (name[1] == 'h') for name in leaving]"): (
        "the loop. dc is not carried from step to step: add dc_prev at the previous step"
    ),
    ("arrived = [dhs[:, t] + handed_on[0], *", "arrived = [dhs[:, t] + 0, *"): (
        f"{LOOP}dh is not carried from step to step: add dh_prev at the previous step"
    ),
    ("dhs[:, t] + handed_on[0]", "dhs[:, t] if t == len(kept.caches) - 1 else handed_on[0]"): (
        f"{LOOP}dh from above is overwritten by the gradient from step t+1: add the two"
    ),
    ("kept.caches[t], *", "kept.caches[t - 1], *"): f"{LOOP}step t reads what the forward pass kept at step t-1",
    ("kept.caches[t], *", "kept.caches[(t + 1) % len(kept.caches)], *"): (
        f"{LOOP}step t reads what the forward pass kept at step t+1"
    ),
    ("reversed(range(len(kept.caches)))", "range(len(kept.caches))"): (
        f"{LOOP}the steps are processed from the first to the last: start at the last"
    ),
    ("xp.stack(dxs[::-1], axis=1)", "xp.stack(dxs, axis=1)"): (
        f"{LOOP}dx is in the order of the loop, its last step first: reverse it"
    ),
    (ADDED, "total += step.gradients[f'd{name}'] if not dxs or name != 'U' else 0"): (
        f"{LOOP}dU: only the gradient of the last step, where the sum over all steps belongs"
    ),
    (ADDED, "total[...] = step.gradients[f'd{name}']"): (
        f"{LOOP}dW, dU, db: only the gradient of step 0, where the sum over all steps belongs"
    ),
    (ADDED, "total += step.gradients[f'd{name}'] / len(kept.caches)"): (
        f"{LOOP}dW, dU, db: the mean over the steps, where their sum belongs"
    ),
    (ADDED, "total += step.gradients[f'd{name}'] * 1.01 ** len(dxs)"): LOOP.removesuffix(". "),
}


@pytest.mark.parametrize("mistake", LOOPS, ids=lambda mistake: mistake[1])
def test_a_mistake_in_the_loop_is_named(monkeypatch, mistake):
    planting.plant(monkeypatch, scan, *mistake)
    assert gradcheck.check_layer(lstm(), X).diagnosis == [LOOPS[mistake]]


def test_so_is_one_in_a_loop_that_goes_backwards(monkeypatch):
    mistake = "xp.stack(dxs[::-1], axis=1)", "xp.stack(dxs, axis=1)"
    planting.plant(monkeypatch, scan, *mistake)
    assert gradcheck.check_layer(lstm(go_backwards=True), X).diagnosis == [LOOPS[mistake]]


def test_the_step_before_which_a_gradient_is_lost_is_named(monkeypatch):
    planting.plant(monkeypatch, scan, "[step[name] for name in leaving]", "[0 * step[name] for name in leaving]")
    rows = {row.tensor: row for row in gradcheck.check_layer(lstm(), X).rows}
    assert rows["x"].problem == "over several steps, right in one: at steps 0 to 2, right at step 3"


def test_the_fast_recurrence_is_looked_into_as_well(monkeypatch):
    planting.plant(monkeypatch, numpy_lstm, "dc *= f  # (12)", "pass")
    layer = LSTM(3, return_sequences=True, implementation="numpy", dtype="float64")
    assert gradcheck.check_layer(layer, X).diagnosis == ["(12) dc_prev: the factor f is missing"]


def test_a_model_names_the_layer_if_there_are_several(monkeypatch):
    planting.plant(monkeypatch, gates, "dc_prev = dc * f", "dc_prev = dc")
    embedding = Embedding(5, 3, input_shape=(4,), dtype="float64")
    layers = [
        embedding,
        LSTM(2, return_sequences=True, dtype="float64"),
        LSTM(3, implementation="textbook", dtype="float64"),
    ]
    model = Sequential([*layers, Dense(1, "sigmoid", dtype="float64")], seed=0)
    model.compile("sgd", "binary_crossentropy")
    report = gradcheck.check_model(model, np.arange(8).reshape(2, 4) % 5, [0, 1])
    assert report.diagnosis == [f"{layers[2].name}: (12) dc_prev: the factor f is missing"]


@pytest.mark.parametrize(
    "layer",
    [
        lstm(),
        LSTM(3, "relu", "hard_sigmoid", go_backwards=True, dtype="float64"),
        GRU(2, reset_after=False, dtype="float64"),
        Bidirectional(RNN(LSTMCell(2, use_bias=False), dtype="float64")),
    ],
)
def test_a_right_layer_has_no_diagnosis(layer):
    """Nor does one that is taken for wrong, as with too small a tolerance."""
    assert gradcheck.check_layer(layer, X).diagnosis == []
    report = gradcheck.check_layer(layer, X, tolerance=1e-15)
    assert not report.ok
    assert report.diagnosis == []
