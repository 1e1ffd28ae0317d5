"""From Adam to the adding problem: other ways to write what is right, and mistakes as people write them."""

import numpy as np
import pytest

from scratchlstm import gates, optimizers
from scratchlstm.cells import CoupledLSTMCell, GRUCell, LSTMCell, SimpleRNNCell
from scratchlstm.exercises.checking import find, judge
from scratchlstm.exercises.questions import adding_problem, find_the_bug, precision
from scratchlstm.gradcheck import numerical_gradient, relative_error


def verdict(function, name):
    return judge(find(name), name, function)


# --- right, in other words ---


def _in_nditer(loss, array, epsilon):
    gradient = np.zeros_like(array)
    iterator = np.nditer(array, flags=["multi_index"], op_flags=["readwrite"])
    while not iterator.finished:
        index = iterator.multi_index
        old = array[index]
        array[index] = old + epsilon
        plus = loss()
        array[index] = old - epsilon
        minus = loss()
        gradient[index] = (plus - minus) / (2 * epsilon)
        array[index] = old
        iterator.iternext()
    return gradient


def _in_flat_numbers(loss, array, epsilon):
    gradient = np.zeros(array.size)
    for k in range(array.size):
        old = array.flat[k]
        array.flat[k] = old - epsilon
        minus = loss()
        array.flat[k] = old + epsilon
        gradient[k] = (loss() - minus) / epsilon / 2
        array.flat[k] = old
    return gradient.reshape(array.shape)


def _in_whole_arrays(loss, array, epsilon):
    before, gradient = array.copy(), []
    for direction in np.eye(array.size).reshape(-1, *array.shape):
        array[...] = before + epsilon * direction
        plus = loss()
        array[...] = before - epsilon * direction
        gradient.append((plus - loss()) / (2 * epsilon))
    array[...] = before
    return np.array(gradient).reshape(array.shape)


def _adam_corrected(w, g, m, v, t, learning_rate, alpha, beta_1, beta_2, epsilon):
    mean, square = m / (1 - beta_1**t), v / (1 - beta_2**t)
    return w - learning_rate * mean / (np.sqrt(square) + epsilon / np.sqrt(1 - beta_2**t))


RIGHT = [
    ("numerical_gradient", _in_nditer),
    ("numerical_gradient", _in_flat_numbers),
    ("numerical_gradient", _in_whole_arrays),
    ("relative_error", lambda p, q: np.sqrt(np.sum((p - q) ** 2) / np.maximum(np.sum(p * p), np.sum(q * q)))),
    ("adam_m", lambda m, v, g, beta_1, beta_2: m + (1 - beta_1) * (g - m)),
    ("adam_v", lambda m, v, g, beta_1, beta_2: beta_2 * v + (1 - beta_2) * np.square(g)),
    ("adam_alpha", lambda t, rate, b1, b2: rate / (1 - np.power(b1, t)) * (1 - np.power(b2, t)) ** 0.5),
    ("adam_w", _adam_corrected),
    ("best_epsilon", lambda loss, slope, third, u: np.cbrt(3 * u * np.abs(loss / third))),
    ("right_digits", lambda loss, slope, a, b: np.log10(np.abs(slope)) - np.log10(a + b)),
    ("peephole_dp_i", lambda c, c_prev, i, di, dz_i, dz_f, dz_o, p_i: np.einsum("bh,bh->h", dz_i, c_prev)),
    ("peephole_dp_o", lambda c, c_prev, o, do, dz_i, dz_f, dz_o, p_o: sum(a * b for a, b in zip(dz_o, c, strict=True))),
    ("first_bug", lambda: np.int64(14)),
]


@pytest.mark.parametrize(("name", "function"), RIGHT, ids=lambda each: getattr(each, "__name__", each))
def test_other_ways_to_write_it_are_right(name, function):
    assert verdict(function, name).state == "right", verdict(function, name)


# --- wrong, in other words ---


def _forward_only(loss, array, epsilon):
    at_first, gradient = loss(), np.zeros_like(array)
    for place in np.ndindex(array.shape):
        old = array[place]
        array[place] = old + epsilon
        gradient[place] = (loss() - at_first) / epsilon
        array[place] = old
    return gradient


def _there_and_back(loss, array, epsilon):
    """Adds and takes away, so that the array is what it was but for a rounding error."""
    gradient = np.zeros_like(array)
    for place in np.ndindex(array.shape):
        array[place] += epsilon
        plus = loss()
        array[place] -= 2 * epsilon
        gradient[place] = (plus - loss()) / (2 * epsilon)
        array[place] += epsilon
    return gradient


def _left_below(loss, array, epsilon):
    gradient = np.zeros_like(array)
    for place in np.ndindex(array.shape):
        array[place] += epsilon
        plus = loss()
        array[place] -= 2 * epsilon
        gradient[place] = (plus - loss()) / (2 * epsilon)
    return gradient


def _left_at_last(loss, array, epsilon):
    """Puts each number back when it comes to the next one, and so never the last one."""
    gradient, last = np.zeros_like(array), None
    for place in np.ndindex(array.shape):
        if last:
            array[last[0]] = last[1]
        last = place, array[place]
        array[place] = last[1] + epsilon
        plus = loss()
        array[place] = last[1] - epsilon
        gradient[place] = (plus - loss()) / (2 * epsilon)
    return gradient


def _in_a_copy(loss, array, epsilon):
    gradient = np.zeros_like(array)
    for place in np.ndindex(array.shape):
        moved = array.copy()
        moved[place] += epsilon
        plus = loss()
        moved[place] -= 2 * epsilon
        gradient[place] = (plus - loss()) / (2 * epsilon)
    return gradient


def _with_an_argument(loss, array, epsilon):
    return (loss(array + epsilon) - loss(array - epsilon)) / (2 * epsilon)


def _adam_of_the_paper(w, g, m, v, t, learning_rate, alpha, beta_1, beta_2, epsilon):
    mean, square = m / (1 - beta_1**t), v / (1 - beta_2**t)
    return w - learning_rate * mean / (np.sqrt(square) + epsilon)


def _adam_in_place(m, v, g, beta_1, beta_2):
    m *= beta_1
    m += (1 - beta_1) * g
    return m


WRONG = [
    ("numerical_gradient", _forward_only, "one-sided"),
    ("numerical_gradient", _there_and_back, "not restored exactly"),
    ("numerical_gradient", _left_below, "the array is not restored"),
    ("numerical_gradient", _left_at_last, "the array is not restored: each element"),
    ("numerical_gradient", _in_a_copy, "A copy of the array does not help"),
    ("numerical_gradient", _with_an_argument, "loss() takes no argument"),
    ("relative_error", lambda p, q: np.sqrt(np.sum(np.square(p - q))), "absolute error"),
    ("relative_error", lambda p, q: np.abs((p - q) / np.maximum(abs(p), abs(q))).max(), "Compare the norms"),
    ("adam_w", _adam_of_the_paper, "the form of the paper's Algorithm 1"),
    ("adam_m", _adam_in_place, "it changes its argument m"),
    ("adam_alpha", lambda t, rate, b1, b2: rate * (1 - b2 ** (t - 1)) ** 0.5 / (1 - b1 ** (t - 1)), "t counts from 1"),
    ("best_epsilon", lambda loss, slope, third, u: u ** (1 / 3), "rule of thumb"),
    ("peephole_dc", lambda *a: gates_dc(*a) + a[8] * a[-1], "so dz_o belongs here, not do"),
    ("first_bug", lambda: 8, "the line of (8) is right"),
    ("first_bug", lambda: 99, "there is no equation (99) here: the numbers are to the right of the lines"),
    ("first_bug", lambda: 10, "compare its two lines"),
    ("third_bug", lambda: 24, "more is wrong in the table"),
]


def gates_dc(dc_next, dh, i, f, o, c, c_prev, tanh_c, *others):
    return dc_next + dh * o * (1 - tanh_c**2)


@pytest.mark.parametrize(("name", "function", "says"), WRONG, ids=lambda each: getattr(each, "__name__", each))
def test_mistakes_are_named_however_they_are_written(name, function, says):
    found = verdict(function, name)
    assert found.state == "wrong"
    assert says in found.says


# --- the claims of the questions ---


def test_adam_is_the_packages():
    """The functions of the solution, four steps long, except the optimizer, which is checked against Keras'."""
    solved = find("adam_w").functions
    rng = np.random.default_rng(0)
    w, ours = rng.normal(size=(2, 3, 4))
    ours[...] = w
    options = {"beta_1": 0.8, "beta_2": 0.95}
    optimizer = optimizers.Adam(0.1, epsilon=0.1, **options)
    m = v = np.zeros_like(w)
    for t in range(1, 5):
        g = rng.normal(size=w.shape)
        m, v = solved["adam_m"](m, v, g, **options), solved["adam_v"](m, v, g, **options)
        alpha = solved["adam_alpha"](t, 0.1, **options)
        w = solved["adam_w"](w, g, m, v, t, 0.1, alpha, epsilon=0.1, **options)
        optimizer.apply([ours], [g])
    np.testing.assert_allclose(w, ours, rtol=1e-12)


def test_the_solution_of_gradient_check_is_the_packages():
    solved = find("numerical_gradient").functions
    array = np.random.default_rng(0).normal(size=(2, 3))
    loss = lambda: float(np.sum(np.sin(array)))  # noqa: E731
    theirs = solved["numerical_gradient"](loss, array, 1e-5)
    np.testing.assert_allclose(theirs, numerical_gradient(loss, array, 1e-5), rtol=1e-7)
    assert solved["relative_error"](theirs, np.cos(array)) == pytest.approx(relative_error(theirs, np.cos(array)))


def _lstm_check(dtype, epsilon):
    """The error of the gradient with respect to W of an LSTM over five steps, checked in this precision."""
    rng = np.random.default_rng(0)
    shapes = {"x": (3, 5, 4), "h0": (3, 3), "c0": (3, 3), "W": (4, 12), "U": (3, 12), "b": (12,)}
    given = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    r = rng.normal(size=(3, 5, 3))
    none = np.zeros((3, 3))
    _, _, caches = gates.lstm_forward(**given)
    analytic = gates.lstm_backward(r, none, caches, given["W"], given["U"])[1]
    rounded = {name: array.astype(dtype) for name, array in given.items()}
    loss = lambda: np.sum(r.astype(dtype) * gates.lstm_forward(**rounded)[0], dtype=dtype)  # noqa: E731
    numerical = find("numerical_gradient").functions["numerical_gradient"](loss, rounded["W"], dtype(epsilon))
    return relative_error(analytic, numerical)


@pytest.mark.parametrize(("dtype", "u"), [(np.float32, 2**-24), (np.float64, 2**-53)])
def test_the_lesson_on_precision_is_what_an_lstm_shows(dtype, u):
    """The best epsilon of the formulas is the best one here; the digits they promise are right, give or take one."""
    best = precision.best_epsilon(1, 1, 1, u)
    errors = [_lstm_check(dtype, best * factor) for factor in (1 / 30, 1, 30)]
    assert min(errors) == errors[1]
    rounding, truncation = precision.rounding_error(1, 1, 1, u, best), precision.truncation_error(1, 1, 1, u, best)
    assert -np.log10(errors[1]) == pytest.approx(precision.right_digits(1, 1, rounding, truncation), abs=1)


# --- find the bug ---


def _handed_out(name):
    scope = {"__name__": "theirs"}
    exec(find(name).text, scope)
    return scope


@pytest.mark.parametrize("which", ["first", "second", "third"])
def test_the_bug_is_handed_out_and_is_still_there(which):
    function = _handed_out("first_bug")[f"{which}_backward"]
    found = verdict(function, f"{which}_backward")
    assert found.state == "wrong"
    assert found.says.startswith("the bug is still there")
    assert verdict(_handed_out("first_bug")[f"{which}_bug"], f"{which}_bug").state == "open"


def _wrong(report):
    return {row.tensor: row.problem for row in report.rows if not row.ok}


def test_the_tables_show_what_the_hints_say():
    bug, right = _handed_out("first_bug"), find_the_bug
    for T in (1, 4):
        assert right.table_of_step(right.first_backward, LSTMCell, T).ok
        assert right.table_of_step(right.second_backward, CoupledLSTMCell, T).ok
        assert right.table_of_loop(right.third_backward, T).ok
    first = _wrong(right.table_of_step(bug["first_backward"], LSTMCell, 1))
    assert set(first) == {"kernel", "recurrent_kernel", "bias", "x", "h0"}
    assert all(first[name].startswith("in f (i, g, o ok)") for name in ("kernel", "recurrent_kernel", "bias"))
    for T in (1, 4):
        assert set(_wrong(right.table_of_step(bug["second_backward"], CoupledLSTMCell, T))) == {"recurrent_kernel"}
    assert right.table_of_loop(bug["third_backward"], 1).ok
    assert len(_wrong(right.table_of_loop(bug["third_backward"], 4))) >= 5


# --- the adding problem ---


class Forgets(adding_problem.OwnCell):
    """Right gradients, and no memory."""

    def forward(self, x, h_prev, W, U, b):
        return super().forward(x, np.zeros_like(h_prev), W, U, b)

    def backward(self, dh, cache, W, U, b):
        return super().backward(dh, cache, W, U, b) | {"dh_prev": np.zeros_like(dh)}


class MoreIntoI(adding_problem.OwnCell):
    """A mistake that is not in the collection: the columns of i are too large."""

    def backward(self, dh, cache, W, U, b):
        back, wider = super().backward(dh, cache, W, U, b), np.repeat([1.0, 1.5, 1.0], self.units)
        return back | {name: back[name] * wider for name in ("dW", "dU", "db")}


class Cut(adding_problem.OwnCell):
    """Two mistakes at once, which leave no gradient for the step before."""

    def backward(self, dh, cache, W, U, b):
        return super().backward(dh, cache, W, U, b) | {"dh_prev": np.zeros_like(dh)}


class WithoutDU(adding_problem.OwnCell):
    def backward(self, dh, cache, W, U, b):
        back = super().backward(dh, cache, W, U, b)
        del back["dU"]
        return back


@pytest.mark.parametrize("cell", [adding_problem.OwnCell, LSTMCell, GRUCell])
def test_any_cell_that_solves_the_adding_problem_is_right(cell):
    assert verdict(cell, "OwnCell").state == "right"


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        (Forgets, "it forgets, and the first step makes no difference"),
        (SimpleRNNCell, "it remembers too little"),
        (MoreIntoI, "kernel in i (f, g ok)"),
        (Cut, "right in one"),
        (WithoutDU, "has no dU"),
        (lambda x: x, "must be a subclass"),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_a_cell_that_does_not_solve_it_is_told_why(cell, says):
    found = verdict(cell, "OwnCell")
    assert found.state == "wrong"
    assert says in found.says


def _written(text):
    scope = {"__name__": "theirs"}
    exec(compile(text, "theirs.py", "exec"), scope)
    return scope["OwnCell"]


def test_a_cell_with_dots_left_is_open():
    exercise = find("OwnCell")
    some = exercise.text.replace("h = ...", "h = f * h_prev + i * g").replace("df = ...", "df = dh * h_prev")
    last = exercise.solution.replace("h = f * h_prev + i * g", "h = ...")
    assert [verdict(_written(text), "OwnCell").state for text in (exercise.text, some, last)] == ["open"] * 3


def test_two_mistakes_in_a_cell_are_both_named():
    exercise = find("OwnCell")
    text = exercise.solution.replace("di = dh * g", "di = dh").replace("dh_prev = dh * f + dz", "dh_prev = dz")
    says = verdict(_written(text), "OwnCell").says
    assert says == "di: the factor g is missing; and dh_prev: the path through the sum (S1) is missing, dh f"


def test_a_cell_of_ones_own_solves_it_whatever_the_seed():
    errors = [adding_problem.trained(adding_problem.OwnCell(8), seed=seed)[0] for seed in (1, 2)]
    assert max(errors) < adding_problem.SOLVED
