"""An LSTM learns a memory task with only NumPy and the equations of scratchlstm/gates.py.

Letters arrive one at a time. Most are noise (w, x, y, z); one or two are capitals (A, B, C, D). After the last letter
the network says which capital came last: C, if it read BxwzCyxz. A guess is right one time in four.
Run it (takes two seconds): python examples/by_hand.py
"""

import argparse

import numpy as np

from scratchlstm.gates import lstm_backward, lstm_forward

LETTERS, E, H, K = "ABCDwxyz", 8, 8, 4  # E letters, H units, K answers; a batch has B sequences of T letters


def draw(rng: np.random.Generator, B: int, T: int) -> tuple[np.ndarray, np.ndarray]:
    """Sequences (B, T), each letter as its index in LETTERS, and their answers (B,)."""
    letters, answers = rng.integers(K, E, size=(B, T)), rng.integers(K, size=B)  # only noise so far
    letters[:, 0] = rng.integers(K, size=B)  # start with a capital
    letters[np.arange(B), rng.integers(T, size=B)] = answers  # and put the answer anywhere, maybe over it
    return letters, answers


def forward(params: list[np.ndarray], letters: np.ndarray) -> tuple[np.ndarray, np.ndarray, list]:
    """The log-probability of each answer (B, K), and what the backward pass needs."""
    W, U, b, V, a = params
    x = np.eye(E)[letters]  # (B, T, E)  one-hot
    start = np.zeros((len(letters), H))  # (B, H)  h and c before the first letter
    hs, _, caches = lstm_forward(x, start, start, W, U, b)  # (B, T, H), and a cache for each step
    logits = hs[:, -1] @ V + a  # (B, K)  the last h gives the answer
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), hs, caches  # log softmax


def loss_and_gradients(params: list[np.ndarray], letters: np.ndarray, answers: np.ndarray) -> tuple[float, list]:
    """L, the mean cross-entropy, and dL/dp for each parameter p, in the shape of p."""
    W, U, _, V, _ = params
    log_p, hs, caches = forward(params, letters)
    dlogits = (np.exp(log_p) - np.eye(K)[answers]) / len(answers)  # (B, K)  predicted minus true probabilities
    dV, da = hs[:, -1].T @ dlogits, dlogits.sum(axis=0)  # (H, K) and (K,)
    dhs = np.zeros_like(hs)  # (B, T, H)  the output layer reads the last h only,
    dhs[:, -1] = dlogits @ V.T  # so the gradient enters there, and lstm_backward takes it back through time
    _, dW, dU, db, _, _ = lstm_backward(dhs, np.zeros_like(hs[:, -1]), caches, W, U)  # x, h0 and c0 are fixed
    return -log_p[np.arange(len(answers)), answers].mean(), [dW, dU, db, dV, da]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, choices=range(10), help="other weights and letters (default 0)")
    rng = np.random.default_rng(parser.parse_args().seed)
    W = rng.normal(size=(E, 4 * H)) / np.sqrt(E)  # (E, 4H)  four blocks of columns: i f g o
    U = rng.normal(size=(H, 4 * H)) / np.sqrt(H)  # (H, 4H)
    b = np.repeat([0.0, 1.0, 0.0, 0.0], H)  # (4H,)  the forget gate starts open, near sigmoid(1) = 0.73
    V, a = rng.normal(size=(H, K)) / np.sqrt(H), np.zeros(K)  # (H, K) and (K,)
    params = [W, U, b, V, a]

    # Are the gradients right? Multiply all parameters by s: at s = 1, dL/ds is the sum of dL/dp times p.
    batch = draw(rng, B=32, T=20)
    slope = sum((dp * p).sum() for dp, p in zip(loss_and_gradients(params, *batch)[1], params, strict=True))
    up, down = (loss_and_gradients([s * p for p in params], *batch)[0] for s in (1 + 1e-5, 1 - 1e-5))
    print(f"dL/ds from the gradients {slope:.8f}, measured {(up - down) / 2e-5:.8f}\n")

    print("step    loss   right  f at noise  at a capital  a sequence, and the answer given")
    means, squares = [0 * p for p in params], [0 * p for p in params]  # running, of each gradient
    for step in range(1, 1001):
        loss, grads = loss_and_gradients(params, *draw(rng, B=32, T=int(rng.integers(2, 21))))  # 2 to 20 letters
        for p, dp, m, v in zip(params, grads, means, squares, strict=True):
            m += 0.1 * (dp - m)
            v += 0.001 * (dp**2 - v)
            p -= 0.01 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)  # Adam, in place
        if step == 1 or step % 100 == 0:
            letters, answers = draw(rng, B=1000, T=40)  # new ones, twice as long as any training sequence
            log_p, _, caches = forward(params, letters)
            given = log_p.argmax(axis=1)  # (B,)
            f = np.stack([cache.f for cache in caches[1:]], axis=1)  # (B, T-1, H)  step 1 has nothing to forget
            new = letters[:, 1:] < K  # (B, T-1)  a capital comes in
            right, at_noise, at_new = (given == answers).mean(), f[~new].mean(), f[new].mean()
            text = "".join(LETTERS[n] for n in letters[0])
            print(f"{step:4}  {loss:.4f}  {right:6.1%} {at_noise:11.2f} {at_new:13.2f}  {text} -> {LETTERS[given[0]]}")
