"""The plain recurrent cell by hand, the LSTM's older sister: one equation forward, and its derivatives backward.

    z = x_t W + h_prev U + b
    h = φ(z)

With U's powers its gradient vanishes or explodes over many steps (Hochreiter, 1991; Bengio, Simard & Frasconi, 1994),
which is what the LSTM's cell was made for. Names, sizes and conventions are those of `gates`; Source: Elman (1990).
"""

from collections.abc import Sequence
from typing import NamedTuple

from scratchlstm.backend import namespace
from scratchlstm.gates import Array, Function, tanh, tanh_prime


class StepCache(NamedTuple):
    """What the backward step needs from the forward step."""

    x: Array  #       (B, E)  for dW
    h_prev: Array  #  (B, H)  for dU
    h: Array  #       (B, H)  for φ'


class StepGradients(NamedTuple):
    """What one backward step gives."""

    dx: Array  #       (B, E)
    dh_prev: Array  #  (B, H)
    dW: Array  #       (E, H)
    dU: Array  #       (H, H)
    db: Array  #       (H,)


def rnn_step_forward(
    x: Array, h_prev: Array, W: Array, U: Array, b: Array, phi: Function = tanh
) -> tuple[Array, StepCache]:
    """One time step.

    Args:
        x: input, (B, E).
        h_prev: hidden state of the step before, (B, H).
        W, U, b: kernel (E, H), recurrent kernel (H, H), bias (H,).
        phi: the activation.

    Returns:
        h (B, H), and what `rnn_step_backward` needs.
    """
    h = phi(x @ W + h_prev @ U + b)  # (B, H)
    return h, StepCache(x, h_prev, h)


def rnn_step_backward(
    dh: Array, cache: StepCache, W: Array, U: Array, phi_prime: Function = tanh_prime
) -> StepGradients:
    """The derivatives of one time step.

    Args:
        dh: dL/dh of this step, (B, H): from the layer above plus from step t+1.
        cache: from `rnn_step_forward`.
        W, U: kernel (E, H) and recurrent kernel (H, H).
        phi_prime: the activation's derivative, written in its value.
    """
    x, h_prev, h = cache
    dz = dh * phi_prime(h)  #                                    (B, H)
    db = namespace(dz).sum(dz, axis=0)  #             (H,)
    return StepGradients(dx=dz @ W.T, dh_prev=dz @ U.T, dW=x.T @ dz, dU=h_prev.T @ dz, db=db)


def rnn_forward(
    x: Array,
    h0: Array,
    W: Array,
    U: Array,
    b: Array,
    phi: Function = tanh,
    mask: Array | None = None,
    recurrent_dropout: Array | None = None,
) -> tuple[Array, list[StepCache]]:
    """The cell over a whole sequence.

    Args:
        x: inputs, (B, T, E).
        h0: initial state, (B, H).
        W, U, b, phi: as in `rnn_step_forward`.
        mask: (B, T); where False, a row's state goes on unchanged to the next step.
        recurrent_dropout: (B, H), what multiplies h_prev on its way into the cell; the same at every step.

    Returns:
        every h_t (B, T, H), and one cache per step.
    """
    xp = namespace(x)
    h, hs, caches = h0, [], []
    for t in range(x.shape[1]):
        h_in = h if recurrent_dropout is None else h * recurrent_dropout
        h_t, cache = rnn_step_forward(x[:, t, :], h_in, W, U, b, phi)
        h = h_t if mask is None else xp.where(mask[:, t, None], h_t, h)
        hs.append(h)
        caches.append(cache)
    return xp.stack(hs, axis=1), caches


def rnn_backward(
    dhs: Array,
    caches: Sequence[StepCache],
    W: Array,
    U: Array,
    phi_prime: Function = tanh_prime,
    mask: Array | None = None,
    recurrent_dropout: Array | None = None,
) -> tuple[Array, Array, Array, Array, Array]:
    """Backpropagation through time.

    Args:
        dhs: dL/dh_t from the layer above for every step, (B, T, H).
        caches, mask, recurrent_dropout: as in, and from, `rnn_forward`.
        W, U, phi_prime: as in `rnn_step_backward`.

    Returns:
        dx (B, T, E), dW (E, H), dU (H, H), db (H,), dh0 (B, H).
    """
    xp = namespace(dhs)
    dW, dU, db = xp.zeros_like(W), xp.zeros_like(U), xp.zeros_like(U[0, :])
    dh_next = xp.zeros_like(dhs[:, 0, :])
    dxs = []
    for t in reversed(range(len(caches))):
        dh = dhs[:, t, :] + dh_next
        dh_past = xp.zeros_like(dh)
        if mask is not None:  # past a masked step the gradient goes unchanged, and nothing of it into the cell
            dh_past = xp.where(mask[:, t, None], dh_past, dh)
        step = rnn_step_backward(dh - dh_past, caches[t], W, U, phi_prime)
        dh_prev = step.dh_prev if recurrent_dropout is None else step.dh_prev * recurrent_dropout
        dh_next = dh_prev + dh_past
        dW, dU, db = dW + step.dW, dU + step.dU, db + step.db
        dxs.append(step.dx)
    return xp.stack(dxs[::-1], axis=1), dW, dU, db, dh_next
