"""The LSTM cell by hand: six equations forward, and their derivatives backward.

One step takes the input x_t, the previous hidden state h_prev and the previous cell c_prev:

    z = x_t W + h_prev U + b      four blocks of H columns each, in the order i f g o

    (1)  i = σ(z_i)               input gate:   how much of the candidate is written
    (2)  f = σ(z_f)               forget gate:  how much of the old cell is kept
    (3)  g = tanh(z_g)            candidate:    what could be written
    (4)  o = σ(z_o)               output gate:  how much of the cell is shown
    (5)  c = f c_prev + i g       the cell, the memory itself
    (6)  h = o tanh(c)            the hidden state, what the next layer sees

Products without a sign are elementwise. `d` before a name is the derivative of the loss L with respect to it,
dL/d(name), in the shape of the name. Sizes: B batch, T time steps, E input features, H units.

docs/derivation.md derives each numbered line, computes it for an example, and links its test and its exercise.

Source: Hochreiter & Schmidhuber (1997), with the forget gate of Gers, Schmidhuber & Cummins (2000); gate order
and single bias as in Keras. Every function is pure and runs on NumPy, on CuPy, and on any array module
of the Python array API standard.

To see what a change to a step does in a model, build `LSTM(units, implementation="textbook")`, which runs the two step
functions in the loop that all cells share (`cells/scan.py`); the loop here is the same for the LSTM alone, to be read.
The default, "fused", runs a fast kernel instead (`kernels/numba_lstm.py`, or without Numba `kernels/numpy_lstm.py`).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from scratchlstm._support.checks import fitting
from scratchlstm.backend import namespace, require_one

Array = Any  # an array of any module that follows the array API standard
Function = Callable[[Array], Array]


def sigmoid(x: Array) -> Array:
    """σ(x) = 1 / (1 + exp(-x)), any shape, without overflow for any finite x.

    For x < 0 it is computed as exp(x) / (1 + exp(x)), so that exp never sees a positive number.
    """
    xp = namespace(x)
    e = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, xp.ones_like(e), e) / (1 + e)


def sigmoid_prime(s: Array) -> Array:
    """σ'(x), written in s = σ(x): s (1 - s)."""
    return s * (1 - s)


def tanh(x: Array) -> Array:
    """tanh(x), any shape."""
    return namespace(x).tanh(x)


def tanh_prime(t: Array) -> Array:
    """tanh'(x), written in t = tanh(x): 1 - t²."""
    return 1 - t * t


class StepCache(NamedTuple):
    """What the backward step needs from the forward step."""

    x: Array  #       (B, E)  for dW
    h_prev: Array  #  (B, H)  for dU
    c_prev: Array  #  (B, H)  for df
    i: Array  #       (B, H)  for dg, and for its own σ'
    f: Array  #       (B, H)  for dc_prev, and for its own σ'
    g: Array  #       (B, H)  for di, and for its own tanh'
    o: Array  #       (B, H)  for dc, and for its own σ'
    tanh_c: Array  #  (B, H)  for do, and for the cell's tanh'


class StepGradients(NamedTuple):
    """What one backward step gives: to the input, to the step before, and to the parameters; and what it met inside."""

    dx: Array  #       (B, E)
    dh_prev: Array  #  (B, H)
    dc_prev: Array  #  (B, H)
    dW: Array  #       (E, 4H)
    dU: Array  #       (H, 4H)
    db: Array  #       (4H,)
    dc: Array  #       (B, H)   this step's cell, both ways to it added up
    dz: Array  #       (B, 4H)


@fitting("BE BK BH EZ KZ Z call call")
def lstm_step_forward(
    x: Array,
    h_prev: Array,
    c_prev: Array,
    W: Array,
    U: Array,
    b: Array,
    sigma: Function = sigmoid,
    phi: Function = tanh,
) -> tuple[Array, Array, StepCache]:
    """One time step, equations (1) to (6).

    Args:
        x: input, (B, E).
        h_prev, c_prev: hidden state and cell of the step before, (B, H).
        W: kernel, (E, 4H).
        U: recurrent kernel, (H, 4H).
        b: bias, (4H,).
        sigma: the gates' activation (Keras' `recurrent_activation`).
        phi: the candidate's and the cell's activation (Keras' `activation`).

    Returns:
        h (B, H), c (B, H), and what `lstm_step_backward` needs.
    """
    H = c_prev.shape[1]
    z = x @ W + h_prev @ U + b  #  (B, 4H)
    i = sigma(z[:, 0 * H : 1 * H])  # (B, H)  (1)
    f = sigma(z[:, 1 * H : 2 * H])  # (B, H)  (2)
    g = phi(z[:, 2 * H : 3 * H])  #   (B, H)  (3)
    o = sigma(z[:, 3 * H : 4 * H])  # (B, H)  (4)
    c = f * c_prev + i * g  #         (B, H)  (5)
    tanh_c = phi(c)  #                (B, H)
    h = o * tanh_c  #                 (B, H)  (6)
    return h, c, StepCache(x, h_prev, c_prev, i, f, g, o, tanh_c)


@fitting("BH BH cache EZ KZ call call")
def lstm_step_backward(
    dh: Array,
    dc_next: Array,
    cache: StepCache,
    W: Array,
    U: Array,
    sigma_prime: Function = sigmoid_prime,
    phi_prime: Function = tanh_prime,
) -> StepGradients:
    """The derivatives of one time step, (7) to (21).

    Args:
        dh: dL/dh of this step, (B, H): from the layer above plus from step t+1.
        dc_next: dL/dc of this step as far as it comes from step t+1, (B, H).
        cache: from `lstm_step_forward`.
        W, U: kernel (E, 4H) and recurrent kernel (H, 4H).
        sigma_prime, phi_prime: the activations' derivatives, written in the activations' values.

    Returns:
        The gradients, see `StepGradients`.
    """
    x, h_prev, c_prev, i, f, g, o, tanh_c = cache
    xp = namespace(dh)
    # h = o tanh(c): c is reached twice, through this h and through the next step's cell, so the two add up
    do = dh * tanh_c  #                             (B, H)   (7)
    dc = dc_next + dh * o * phi_prime(tanh_c)  #    (B, H)   (8)
    # c = f c_prev + i g
    di = dc * g  #                                  (B, H)   (9)
    df = dc * c_prev  #                             (B, H)  (10)
    dg = dc * i  #                                  (B, H)  (11)
    dc_prev = dc * f  #                             (B, H)  (12)
    # back through each gate's own activation
    dz_i = di * sigma_prime(i)  #                   (B, H)  (13)
    dz_f = df * sigma_prime(f)  #                   (B, H)  (14)
    dz_g = dg * phi_prime(g)  #                     (B, H)  (15)
    dz_o = do * sigma_prime(o)  #                   (B, H)  (16)
    # z = x W + h_prev U + b
    dz = xp.concat([dz_i, dz_f, dz_g, dz_o], axis=1)  # (B, 4H)
    dx = dz @ W.T  #                                (B, E)  (17)
    dh_prev = dz @ U.T  #                           (B, H)  (18)
    dW = x.T @ dz  #                               (E, 4H)  (19)
    dU = h_prev.T @ dz  #                          (H, 4H)  (20)
    db = xp.sum(dz, axis=0)  #                       (4H,)  (21)
    return StepGradients(dx, dh_prev, dc_prev, dW, dU, db, dc, dz)


@fitting("BTE BH BH EZ HZ Z call call BT? B4H?")
def lstm_forward(
    x: Array,
    h0: Array,
    c0: Array,
    W: Array,
    U: Array,
    b: Array,
    sigma: Function = sigmoid,
    phi: Function = tanh,
    mask: Array | None = None,
    recurrent_dropout: Array | None = None,
) -> tuple[Array, Array, list[StepCache]]:
    """The cell over a whole sequence: the same W, U and b at every step.

    Args:
        x: inputs, (B, T, E).
        h0, c0: initial states, (B, H).
        W, U, b, sigma, phi: as in `lstm_step_forward`.
        mask: (B, T); where False, a row's state goes on unchanged to the next step.
        recurrent_dropout: (B, 4, H), what multiplies h_prev on its way to each gate; the same at every step.

    Returns:
        every h_t (B, T, H), the last c (B, H), and one cache per step.
    """
    require_one(x=x, h0=h0, c0=c0, W=W, U=U, b=b, mask=mask)
    xp = namespace(x)
    if recurrent_dropout is not None:
        U = block_diagonal(U)  #  (4H, 4H)
    h, c, hs, caches = h0, c0, [], []
    for t in range(x.shape[1]):
        h_in = h  #                                             (B, H)
        if recurrent_dropout is not None:
            h_in = gate_copies(h, recurrent_dropout)  #         (B, 4H)
        h_t, c_t, cache = lstm_step_forward(x[:, t, :], h_in, c, W, U, b, sigma, phi)
        if mask is not None:
            valid = mask[:, t, None]  #                         (B, 1)
            h_t = xp.where(valid, h_t, h)  #                    (B, H)
            c_t = xp.where(valid, c_t, c)  #                    (B, H)
        h, c = h_t, c_t  #                                      (B, H) each
        hs.append(h)
        caches.append(cache)
    return xp.stack(hs, axis=1), c, caches


@fitting("BTH BH cache EZ HZ call call BT? B4H?")
def lstm_backward(
    dhs: Array,
    dc_last: Array,
    caches: Sequence[StepCache],
    W: Array,
    U: Array,
    sigma_prime: Function = sigmoid_prime,
    phi_prime: Function = tanh_prime,
    mask: Array | None = None,
    recurrent_dropout: Array | None = None,
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Backpropagation through time: the steps in reverse, the parameters' gradients summed over them.

    Args:
        dhs: dL/dh_t from the layer above for every step, (B, T, H).
        dc_last: dL/dc of the last step from outside, (B, H).
        caches: from `lstm_forward`.
        W, U, sigma_prime, phi_prime: as in `lstm_step_backward`.
        mask, recurrent_dropout: as in `lstm_forward`.

    Returns:
        dx (B, T, E), dW (E, 4H), dU (H, 4H), db (4H,), dh0 (B, H), dc0 (B, H).
    """
    xp = namespace(dhs)
    if recurrent_dropout is not None:
        U = block_diagonal(U)  #  (4H, 4H)
    dW, dU, db = xp.zeros_like(W), xp.zeros_like(U), xp.zeros_like(U[0, :])
    none = xp.zeros_like(dc_last)  #                            (B, H)
    dh_next, dc_next = none, dc_last  #                         (B, H) each
    dxs = []
    for t in reversed(range(len(caches))):
        # h_t goes two ways: up to the next layer and on to step t+1
        dh = dhs[:, t, :] + dh_next  #                          (B, H)  (22)
        dh_past, dc_past = none, none  #                        (B, H) each
        if mask is not None:
            # a masked row's state went past the cell: so do its gradients, and none of them enters the gates  (27)
            valid = mask[:, t, None]  #                         (B, 1)
            dh_past = xp.where(valid, none, dh)  #              (B, H)
            dc_past = xp.where(valid, none, dc_next)  #         (B, H)
            dh = xp.where(valid, dh, none)  #                   (B, H)
            dc_next = xp.where(valid, dc_next, none)  #         (B, H)
        step = lstm_step_backward(dh, dc_next, caches[t], W, U, sigma_prime, phi_prime)
        dh_prev = step.dh_prev  #                               (B, H), or (B, 4H) where h_prev was copied
        if recurrent_dropout is not None:
            dh_prev = sum_copies(dh_prev, recurrent_dropout)  # (B, H)
        dh_next = dh_prev + dh_past  #                          (B, H)
        dc_next = step.dc_prev + dc_past  #                     (B, H)
        dW = dW + step.dW  #                                    (E, 4H)  (23)
        dU = dU + step.dU  #                                    (H, 4H), or (4H, 4H)  (24)
        db = db + step.db  #                                    (4H,)  (25)
        dxs.append(step.dx)  #                                  (B, E)
    if recurrent_dropout is not None:
        dU = diagonal_blocks(dU)  #  (H, 4H)
    return xp.stack(dxs[::-1], axis=1), dW, dU, db, dh_next, dc_next


# --- dropout with a mask of its own for each gate ---------------------------------------------------------------------
#
# Each gate sees its own masked copy of x or h_prev. That is the same cell on copies side by side; the kernel's blocks
# lie along a diagonal, so the equations above stay as they are. k features are copied, E or H, n times: for the LSTM 4.


def gate_copies(a: Array, masks: Array) -> Array:
    """(..., k) and (..., n, k) -> (..., nk): a times each gate's mask."""
    copies = a[..., None, :] * masks
    return namespace(copies).reshape(copies, (*a.shape[:-1], masks.shape[-2] * a.shape[-1]))


def sum_copies(d_copies: Array, masks: Array) -> Array:
    """The gradient of `gate_copies`: (..., nk) -> (..., k)."""
    xp = namespace(d_copies)
    by_gate = xp.reshape(d_copies, (*d_copies.shape[:-1], masks.shape[-2], masks.shape[-1]))
    return xp.sum(by_gate * masks, axis=-2)


def block_diagonal(kernel: Array, n: int = 4) -> Array:
    """(k, nH) -> (nk, nH): each gate's columns only in the rows of its own copy."""
    xp, H = namespace(kernel), kernel.shape[1] // n
    gate = xp.arange(n * H) // H  # of each column
    return xp.concat([xp.where(gate == own, kernel, xp.zeros_like(kernel)) for own in range(n)], axis=0)


def diagonal_blocks(d_kernel: Array, n: int = 4) -> Array:
    """The gradient of `block_diagonal`: (nk, nH) -> (k, nH)."""
    xp, k, H = namespace(d_kernel), d_kernel.shape[0] // n, d_kernel.shape[1] // n
    return xp.concat([d_kernel[own * k : (own + 1) * k, own * H : (own + 1) * H] for own in range(n)], axis=1)
