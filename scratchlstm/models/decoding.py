"""Generate sequences token by token, carrying states from step to step: greedily, by sampling, or by beam search.

A step takes the last token of each sequence and the states of the step before, so nothing is read twice. It is a
`Model` or a function with the same interface: it takes a list, `[tokens, *states]`, and returns `[p, *states]`.

    def step(given):
        tokens, *states = given
        h, *states = lstm(embedding(tokens), initial_state=states)  # return_sequences=True, return_state=True
        return [dense(h), *states]

    ids, log_p = greedy(step, start=1, states=[h, c], steps=20, end=0)

A state is any array with one row per sequence. Something the steps only read, such as an encoder's output, is a state
that they return unchanged.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from scratchlstm import backend
from scratchlstm._support import checks
from scratchlstm.backend import Array

Step = Callable[[list[Any]], Any]
TOLERANCE = 1e-3  # how far the probabilities' sum may differ from 1


def greedy(
    step: Step, start: Any, states: Sequence[Array], steps: int, end: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Take the most likely token at each step.

    Args:
        step: a Model, or a function, `[tokens, *states] -> [p, *states]`: tokens (B, 1), p (B, V) or (B, 1, V).
        start: the token each sequence starts with: one for all, or (B,). It is not part of the result.
        states: the states for the first step, arrays (B, ...).
        steps: the number of tokens to generate.
        end: the token that ends a sequence, which is then padded with it; None if there is none.

    Returns:
        the tokens, (B, steps), and the log-probability of each sequence, (B,).

    Raises:
        TypeError: step is not callable, or states are not arrays.
        ValueError: arrays with different numbers of rows, impossible tokens, or a step that does not return
            probabilities.
    """
    return _one_of_each(_decode(step, start, states, steps, end, lambda scores: scores.argmax(axis=1)[:, None]))


def sample(
    step: Step,
    start: Any,
    states: Sequence[Array],
    steps: int,
    end: int | None = None,
    temperature: float = 1.0,
    seed: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw tokens at random, each with probability proportional to p^(1 / temperature).

    It takes the largest of log p / temperature + Gumbel noise, which amounts to the same.

    Args:
        step, start, states, steps, end: see `greedy`.
        temperature: 1 draws from p itself; the closer to 0, the more often the most likely token is drawn.
        seed: the same seed draws the same sequences; None draws different ones each time.

    Returns:
        the tokens, (B, steps), and the log-probability of each sequence under p itself, (B,).

    Raises:
        TypeError, ValueError: see `greedy`; or a temperature that is not above 0.
    """
    temperature = checks.number("temperature", temperature, above=0)
    rng = np.random.default_rng(checks.seed(seed))

    def draw(scores: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):  # a temperature near 0 turns all but the largest into -inf
            logits = (scores - scores.max(axis=1, keepdims=True)) / temperature
        return (logits + rng.gumbel(size=scores.shape)).argmax(axis=1)[:, None]

    return _one_of_each(_decode(step, start, states, steps, end, draw))


def beam(
    step: Step, start: Any, states: Sequence[Array], steps: int, end: int | None = None, *, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Beam search: at each step the `width` most likely beginnings are extended by every token.

    Args:
        step, start, states, steps, end: see `greedy`. From the second step on, the arrays have up to B · width rows.
        width: the number of beginnings to keep. 1 gives `greedy`, V^steps an exhaustive search.

    Returns:
        the tokens, (B, width, steps), most likely sequence first, and the log-probabilities, (B, width). These are -inf
        for impossible sequences, if fewer than `width` have a probability above 0.

    Raises:
        TypeError, ValueError: see `greedy`; or a width above the number of sequences.
    """
    width = checks.positive_int("width", width)

    def likeliest(scores: np.ndarray) -> np.ndarray:
        count = min(width, scores.shape[1])
        found = np.sort(np.argpartition(-scores, count - 1, axis=1)[:, :count], axis=1)
        order = np.argsort(-np.take_along_axis(scores, found, axis=1), axis=1, kind="stable")
        return np.take_along_axis(found, order, axis=1)

    ids, log_p = _decode(step, start, states, steps, end, likeliest)
    if (count := log_p.shape[1]) < width:
        raise ValueError(f"width must be at most {count}, the number of sequences of {steps} tokens, not {width}")
    return ids, log_p


def _one_of_each(found: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(B, 1, steps) and (B, 1), with the 1 removed."""
    ids, log_p = found
    return ids[:, 0], log_p[:, 0]


def _decode(
    step: Step,
    start: Any,
    states: Sequence[Array],
    steps: int,
    end: int | None,
    choose: Callable[[np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """K sequences for each of the B rows, (B, K, steps), and their log-probabilities, (B, K).

    Args:
        choose: takes the log-probability of each sequence so far extended by each token, (B, K_before · V), and returns
            the positions of the K to continue with, (B, K).
    """
    checks.function("step", step)
    steps = checks.positive_int("steps", steps)
    tokens, states = _begin(start, states)
    inputs = getattr(step, "input_names", None)  # if it is a Model
    if inputs is not None and len(inputs) != 1 + len(states):
        wanted = f"an array for each input of step after the tokens ({', '.join(inputs[1:]) or 'none'})"
        raise ValueError(f"states must hold {wanted}, but holds {len(states)}")
    B, K = len(tokens), 1
    total, ids = np.zeros((B, 1)), np.empty((B, 0), dtype=int)
    for t in range(steps):
        p, states = _advance(step, tokens, states)
        V = p.shape[1]
        with np.errstate(divide="ignore"):
            log_p = np.log(p)  # (B K, V)
        if end is not None and checks.index("end", end, V) in tokens and t > 0:
            log_p[tokens == end] = np.where(np.arange(V) == end, 0, -np.inf)  # finished sequences stay finished
        scores = (total.reshape(-1, 1) + log_p).reshape(B, K * V)
        chosen = choose(scores)
        total = np.take_along_axis(scores, chosen, axis=1)
        rows = (chosen // V + K * np.arange(B)[:, None]).ravel()  # rows of the sequences to continue
        tokens, moved = (chosen % V).ravel(), chosen.shape[1] > 1 or K > 1
        K = chosen.shape[1]
        ids = np.concatenate([ids[rows], tokens[:, None]], axis=1)
        if end is not None and np.all(tokens == end):
            ids = np.pad(ids, ((0, 0), (0, steps - t - 1)), constant_values=end)
            break
        if moved:
            states = [state.take(backend.beside(state, rows), axis=0) for state in states]
    return ids.reshape(B, K, steps), total


def _begin(start: Any, states: Any) -> tuple[np.ndarray, list[Array]]:
    """The first tokens, (B,), and the states, checked.

    Raises:
        TypeError, ValueError: arrays that do not match, or something that cannot be a token.
    """
    checks.instance("states", states, list | tuple, "a list of arrays, one row for each sequence")
    states = [state if backend.is_array(state) else checks.array("each of states", state) for state in states]
    tokens = checks.array("start", start)
    rows = [len(array) for array in [*states, tokens] if array.ndim]
    if not rows or len(set(rows)) > 1 or tokens.ndim > 1 or any(not state.ndim for state in states):
        wanted = "must have one row for each sequence, and start one token for all or for each"
        raise ValueError(f"each of states {wanted}, but their shapes are {_shapes(states)} and {tokens.shape}")
    if tokens.dtype.kind not in "iu" or np.any(tokens < 0):
        raise ValueError(f"start must be a token, a whole number of at least 0, not {checks.came(start)}")
    return np.broadcast_to(tokens, rows[:1]), states


def _advance(step: Step, tokens: np.ndarray, states: list[Array]) -> tuple[np.ndarray, list[Array]]:
    """One step's results, checked: probabilities, (N, V), and states.

    Raises:
        ValueError: anything else.
    """
    given = step([tokens[:, None], *states])
    given = list(given.values()) if isinstance(given, Mapping) else given
    given = list(given) if isinstance(given, list | tuple) else [given]
    if len(given) != 1 + len(states) or not all(np.shape(each)[:1] == tokens.shape for each in given):
        wanted = f"step must return [probabilities, *states] with {len(states)} states, {len(tokens)} rows in each"
        raise ValueError(f"{wanted}, but it returned shapes {_shapes(given)}")
    p = backend.host(given[0])
    p = p[:, 0] if p.ndim == 3 and p.shape[1] == 1 else p
    if p.ndim != 2 or p.dtype.kind != "f":
        raise ValueError(f"step must return probabilities, ({len(tokens)}, V), not {p.dtype} of shape {p.shape}")
    if not (p.min() >= 0 and np.allclose(p.sum(axis=1), 1, rtol=0, atol=TOLERANCE)):
        problem = "they are negative, not finite, or do not add up to 1"
        raise ValueError(f"step must return probabilities, as softmax does, but {problem}")
    return p, given[1:]


def _shapes(arrays: Sequence[Any]) -> str:
    return ", ".join(str(np.shape(array)) for array in arrays) or "none"
