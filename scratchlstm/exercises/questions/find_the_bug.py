"""Find the bug: three backward passes, one wrong line in each.

Run this file. For each of them it prints a table of `scratchlstm.gradcheck`: whether the gradients agree with numerical
ones, tensor by tensor, over one time step and over four. If a kernel is wrong, the table names the gates to blame.

Work out from the table where the mistake must be before you read the code. Then write the number of the wrong line's
equation into `first_bug`, `second_bug` and `third_bug`, fix the line, and run the file again.

    first   the LSTM's step, (7) to (21)
    second  the step of an LSTM with coupled gates, f = 1 - i: instead of (9) and (10) it has (C2) di = dc (g - c_prev)
    third   the LSTM's loop over time:  (22)  dh_t = dhs_t + dh_next     what came from above, and from step t + 1
                                        (23)  dW, (24) dU, (25) db       sums over all steps
            dh_next and dc_next are the dh_prev and dc_prev of step t + 1.

Shapes: x (B, E) or (B, T, E); W, U and b have a block of H columns for each gate, in the order i f g o (second: i g o);
all others (B, H), and dhs (B, T, H).
"""

import numpy as np

from scratchlstm.cells import CoupledLSTMCell, LSTMCell
from scratchlstm.gates import lstm_forward, lstm_step_backward
from scratchlstm.gradcheck import check_functions, check_layer
from scratchlstm.layers import RNN


def first_backward(dh, dc_next, cache, W, U):
    """(7 to 21), the gradients of one step of the LSTM."""
    x, h_prev, c_prev, i, f, g, o, tanh_c = cache
    do = dh * tanh_c  #                                   (7)
    dc = dc_next + dh * o * (1 - tanh_c * tanh_c)  #      (8)
    di = dc * g  #                                        (9)
    df = dc * c_prev  #                                  (10)
    dg = dc * i  #                                       (11)
    dc_prev = dc * f  #                                  (12)
    dz_i = di * i * (1 - i)  #                           (13)
    dz_f = df * f * (1 - f)  #                           (14)
    dz_g = dg * (1 - g * g)  #                           (15)
    dz_o = do * o * (1 - o)  #                           (16)
    dz = np.concatenate([dz_i, dz_f, dz_g, dz_o], axis=1)
    dx, dh_prev = dz @ W.T, dz @ U.T  #                  (17), (18)
    dW, dU, db = x.T @ dz, h_prev.T @ dz, np.sum(dz, axis=0)  # (19), (20), (21)
    return dx, dh_prev, dc_prev, dW, dU, db


def first_bug():
    """(7 to 21), the number of the equation that `first_backward` gets wrong."""
    return 14  # ?


def second_backward(dh, dc_next, coupled, W_igo, U_igo):
    """(7 to 21), the gradients of one step of the LSTM with coupled gates; `coupled` is its cache."""
    x, h_prev, c_prev, i, f, g, o, tanh_c = coupled
    h = o * tanh_c  #                                     (6)
    dc = dc_next + dh * o * (1 - tanh_c**2)  #            (8)
    dc_prev = dc * f  #                                  (12)
    dz_i = dc * (g - c_prev) * i * (1 - i)  #            (C2), (13)
    dz_g = dc * i * (1 - g**2)  #                        (11), (15)
    dz_o = dh * h * (1 - o)  #                            (7), (16)
    dz = np.concatenate([dz_i, dz_g, dz_o], axis=1)
    dx = dz @ W_igo.T  #                                 (17)
    dh_prev = dz @ U_igo.T  #                            (18)
    dW = x.T @ dz  #                                     (19)
    dU = h_prev.T @ dz  #                                (20)
    db = np.sum(dz, axis=0)  #                           (21)
    return dx, dh_prev, dc_prev, dW, dU, db


def second_bug():
    """(7 to 21), the number of the equation that `second_backward` gets wrong."""
    return 20  # ?


def third_backward(dhs, dc_last, caches, W, U):
    """(22 to 25), the gradients of the LSTM's loop over time; each step is right, that of `scratchlstm.gates`."""
    dW, dU, db = np.zeros_like(W), np.zeros_like(U), np.zeros(W.shape[1])
    dh_next, dc_next, dxs = np.zeros_like(dc_last), dc_last, []
    for t in reversed(range(len(caches))):
        dh = dhs[:, t] + dh_next  #                      (22)
        step = lstm_step_backward(dh, dc_next, caches[t], W, U)
        dh_next, dc_next = step.dh_prev, step.dc_prev
        dW += step.dW  #                                 (23)
        dU += step.dU  #                                 (24)
        db += step.db  #                                 (25)
        dxs.insert(0, step.dx)
    dx = np.stack(dxs, axis=1)
    return dx, dh_next, dc_next, dW, dU, db


def third_bug():
    """(22 to 25), the number of the equation that `third_backward` gets wrong."""
    return 22  # ?


def table_of_step(backward, cell_class, T):
    """gradcheck's table for a cell of this class with a different backward pass, over T steps."""

    class Cell(cell_class):
        def backward(self, dh, dc_next, cache, W, U, b):
            names = "dx", "dh_in", "dc_prev", "dW", "dU", "db"
            return dict(zip(names, backward(dh, dc_next, cache, W, U), strict=True))

    layer = RNN(Cell(2), return_sequences=True, return_state=True, dtype="float64")
    report = check_layer(layer, np.random.default_rng(0).normal(size=(3, T, 4)))
    report.diagnosis.clear()  # it would name the bug
    return report


def table_of_loop(backward, T):
    """gradcheck's table for a loop over T steps; its forward pass is that of `scratchlstm.gates`."""

    def forward(x, h0, c0, W, U, b):
        hs, c, caches = lstm_forward(x, h0, c0, W, U, b)
        return (hs, c), (caches, W, U)

    rng = np.random.default_rng(0)
    shapes = {"x": (3, T, 4), "h0": (3, 2), "c0": (3, 2), "W": (4, 8), "U": (2, 8), "b": (8,)}
    inputs = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    return check_functions(forward, lambda d, cache: backward(*d, *cache), inputs)


if __name__ == "__main__":
    for T in (1, 4):
        print(f"first, T = {T}: {table_of_step(first_backward, LSTMCell, T)}\n")
    for T in (1, 4):
        print(f"second, T = {T}: {table_of_step(second_backward, CoupledLSTMCell, T)}\n")
    for T in (1, 4):
        print(f"third, T = {T}: {table_of_loop(third_backward, T)}\n")


# --- the checker's part ---

from scratchlstm import gates  # noqa: E402
from scratchlstm.exercises.mistakes import Mistake  # noqa: E402
from scratchlstm.exercises.scenes import step  # noqa: E402

BUGS = [
    Mistake(
        "dz_f = df * f * (1 - f)",
        "dz_f = df * f * (1 - i)",
        "the bug is still there. Run the file: its first table names the gate whose block of the kernels is wrong, so "
        "look only at the lines of this gate",
    ),
    Mistake(
        "dU = h_prev.T @ dz",
        "dU = h.T @ dz",
        "the bug is still there. Run the file: in its second table only one tensor is wrong, so all the others are "
        "also computed from is right",
    ),
    Mistake(
        "dh = dhs[:, t] + dh_next",
        "dh = dhs[:, t]",
        "the bug is still there. Run the file: its third table is right for one step and wrong for several, so "
        "something that one step passes to another is lost",
    ),
]
HINTS = {
    "first_backward": (
        "The first table: kernel, recurrent_kernel and bias are wrong in f; i, g and o are ok. What is about f?",
        "df and dz_f. c0 is ok for T = 1, so dc is right. Compare the line of each with the equation in your notes.",
        "dz_f = df * f * (1 - f): the slope of σ in terms of f itself; the file has 1 - i.",
    ),
    "first_bug": (
        "The number is to the right of the wrong line.",
        "Two equations are about the gate f, (10) and (14): one of their lines is right.",
        "It is (14), dz_f = df f (1 - f).",
    ),
    "second_backward": (
        "The second table: only the recurrent kernel is wrong, in all its blocks. Which line computes only that?",
        "dz must be right, since dW, db and dx are computed from it and are ok. That leaves the line of dU.",
        "dU = h_prev.T @ dz: z = x W + h_prev U + b, with the h of the previous step; the file has this step's h.",
    ),
    "second_bug": (
        "The number is to the right of the wrong line.",
        "Which equation gives the gradient of U, the recurrent kernel?",
        "It is (20), dU = h_prevᵀ dz.",
    ),
    "third_backward": (
        "The third tables: one step is right, but with four nearly all is wrong. What does a single step not need?",
        "A wrong sum over steps spoils one tensor, but all are wrong: look at what goes from step t + 1 to step t.",
        "dh = dhs[:, t] + dh_next: h_t goes up to the next layer and on to the next step; the file drops dh_next.",
    ),
    "third_bug": (
        "The number is to the right of the wrong line.",
        "Which equation uses what step t + 1 has passed back?",
        "It is (22), dh_t = dhs_t + dh_next.",
    ),
}
MISTAKES = [
    *BUGS,
    Mistake(
        "dz_f = df * f * (1 - f)", "dz_f = df * (1 - f)", "the bug was here, but now the factor f is missing, (14)"
    ),
    Mistake("dz_f = df * f * (1 - f)", "dz_f = df * i * (1 - i)", "the bug was here, but i is not in (14) at all"),
    Mistake("dz_f = df * f * (1 - f)", "dz_f = df", "the bug was here, but now the slope of σ is missing, (14)"),
    Mistake("return 14", "return 10", "it is the right gate, but compare its two lines with (10) and (14) again"),
    Mistake("return 14", "return 13", "(13) is about i, and i is ok in the table"),
    Mistake("dU = h_prev.T @ dz", "dU = (h * h_prev).T @ dz", "the bug was here, but h is not in (20) at all"),
    Mistake(
        "return 20",
        "return 19",
        "(19) gives dW, and the kernel is ok in the table; the recurrent kernel is not",
    ),
    Mistake("return 20", "return 18", "(18) gives dh_prev, and h0 is ok in the table"),
    Mistake("return 20", "return 16", "if (16) were wrong, kernel and bias would be, too: they use the same dz"),
    Mistake(
        "dh = dhs[:, t] + dh_next", "dh = dh_next", "the bug was here, but now the gradient from above is missing, (22)"
    ),
    Mistake("dh = dhs[:, t] + dh_next", "dh = dhs[:, t] * dh_next", "the bug was here, but the two are added, (22)"),
    Mistake("dh = dhs[:, t] + dh_next", "dh = dhs[:, t] + dc_next", "the bug was here, but dc_next belongs to c, (22)"),
    Mistake("return 22", "return 23", "if (23) were wrong, only the kernel would be; more is wrong in the table"),
    Mistake(
        "return 22",
        "return 24",
        "if (24) were wrong, only the recurrent kernel would be; more is wrong in the table",
    ),
    Mistake("return 22", "return 25", "if (25) were wrong, only the bias would be; more is wrong in the table"),
]


def scene(rng, B, T, E, H):
    """One step, and a sequence, with correct values."""
    scene = step(rng, B, T, E, H)
    x, dhs, (h0, c0, dc_last) = rng.normal(size=(B, T, E)), rng.normal(size=(B, T, H)), rng.normal(size=(3, B, H))
    caches = gates.lstm_forward(x, h0, c0, *(scene[name] for name in "WUb"))[2]
    scene |= {"W_igo": scene["W"][:, : 3 * H], "U_igo": scene["U"][:, : 3 * H]}
    coupled = scene["cache"]._replace(f=1 - scene["i"])
    return scene | {"coupled": coupled, "dhs": dhs, "dc_last": dc_last, "caches": caches}


def explain(name, function, scene):
    """For a wrong number, say that its line is right, but not which line is wrong."""
    if not name.endswith("_bug"):
        return None
    if (number := function()) not in range(7, 26):
        return f"there is no equation ({number}) here: the numbers are to the right of the lines"
    return f"the line of ({number}) is right; look at the table again: what is wrong in it, and what is ok?"
