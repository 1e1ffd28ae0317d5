"""Decoding, compared with all sequences that there are, and with a pass over the whole prefix."""

import itertools

import numpy as np
import pytest

from scratchlstm import Model
from scratchlstm.layers import LSTM, Dense, Embedding, Input
from scratchlstm.models import decoding

B, V, H, STEPS = 3, 4, 5, 4


def softmax(z):
    p = np.exp(z - z.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def tiny(seed=0, tokens=V):
    """A step with a state and a matrix that it only reads, and states for B sequences."""
    rng = np.random.default_rng(seed)
    table, U, out = rng.normal(size=(tokens, H)), rng.normal(size=(H, H)), 2 * rng.normal(size=(H, tokens))

    def step(given):
        tokens, h, context = given
        assert tokens.shape == (len(h), 1)
        h = np.tanh(h @ U + table[tokens[:, 0]] + context.mean(axis=1))
        return softmax(h @ out), h, context

    return step, [rng.normal(size=(B, H)), rng.normal(size=(B, 2, H))]


def log_probability(step, start, states, sequence, end=None):
    """Of one token after the other, for all B."""
    total, token = np.zeros(B), start
    for position, following in enumerate(sequence):
        if end is not None and position and token == end:
            return total if all(rest == end for rest in sequence[position:]) else np.full(B, -np.inf)
        p, *states = step([np.full((B, 1), token), *states])
        total, token = total + np.log(p[:, following]), following
    return total


def all_sequences(step, start, states, end=None):
    """Every sequence that can be written, (N, STEPS), and its log-probability, (B, N)."""
    sequences = list(itertools.product(range(V), repeat=STEPS))
    log_p = np.array([log_probability(step, start, states, each, end) for each in sequences]).T
    possible = np.isfinite(log_p[0])
    return np.array(sequences)[possible], log_p[:, possible]


@pytest.mark.parametrize("end", [None, 2])
def test_a_beam_as_wide_as_all_sequences_finds_them_in_order(end):
    step, states = tiny()
    sequences, log_p = all_sequences(step, 1, states, end)
    assert np.exp(log_p).sum(axis=1) == pytest.approx(1)
    ids, found = decoding.beam(step, 1, states, STEPS, end, width=V**STEPS)
    order, count = np.argsort(-log_p, axis=1), len(sequences)
    assert count == (V**STEPS if end is None else 3**STEPS + sum(3**t for t in range(STEPS)))
    np.testing.assert_allclose(found[:, :count], np.take_along_axis(log_p, order, axis=1), rtol=1e-12)
    np.testing.assert_array_equal(ids[:, :count], sequences[order])
    assert np.all(found[:, count:] == -np.inf)


@pytest.mark.parametrize("end", [None, 2])
@pytest.mark.parametrize("width", [1, 3, 6])
def test_a_narrow_beam_keeps_the_likeliest_beginnings(width, end):
    step, states = tiny(seed=1)
    expected = [[((), 0.0)] for _ in range(B)]
    for _ in range(STEPS):
        for b, kept in enumerate(expected):
            longer = [(*sequence, token) for sequence, _ in kept for token in range(V)]
            scored = [(each, log_probability(step, 1, states, each, end)[b]) for each in longer]
            expected[b] = sorted(scored, key=lambda one: -one[1])[:width]
    ids, log_p = decoding.beam(step, 1, states, STEPS, end, width=width)
    np.testing.assert_array_equal(ids, [[sequence for sequence, _ in kept] for kept in expected])
    np.testing.assert_allclose(log_p, [[score for _, score in kept] for kept in expected], rtol=1e-12)


def test_a_beam_of_one_is_greedy_and_a_wider_one_finds_no_less():
    step, states = tiny(seed=2)
    ids, log_p = decoding.greedy(step, 0, states, STEPS, end=3)
    first, of_first = decoding.beam(step, 0, states, STEPS, end=3, width=1)
    np.testing.assert_array_equal(first[:, 0], ids)
    np.testing.assert_array_equal(of_first[:, 0], log_p)
    assert np.all(decoding.beam(step, 0, states, STEPS, end=3, width=8)[1][:, 0] >= log_p - 1e-12)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_samples_are_distributed_as_the_model_says(temperature):
    step, states = tiny(seed=3)
    draws = 20_000
    many = [np.repeat(state[:1], draws, axis=0) for state in states]
    ids, log_p = decoding.sample(step, 1, many, 2, temperature=temperature, seed=7)

    def tempered(p):
        return softmax(np.log(p) / temperature)

    first, *after = step([np.full((B, 1), 1), *states])
    expected, of_model = np.empty((2, V, V))
    for token in range(V):
        second, *_ = step([np.full((B, 1), token), *after])
        expected[token] = tempered(first)[0, token] * tempered(second)[0]
        of_model[token] = np.log(first[0, token] * second[0])
    counts = np.bincount(ids[:, 0] * V + ids[:, 1], minlength=V * V).reshape(V, V)
    often = draws * expected > 5
    chi_square = np.sum((counts - draws * expected)[often] ** 2 / (draws * expected)[often])
    assert chi_square < 40  # of at most 15 degrees of freedom: one in two thousand is above
    np.testing.assert_allclose(log_p, of_model[ids[:, 0], ids[:, 1]], rtol=1e-12)


def test_a_low_temperature_is_greedy_and_a_seed_repeats():
    step, states = tiny(seed=4)
    ids, log_p = decoding.greedy(step, 1, states, 9, end=0)
    for temperature in (1e-3, 5e-324):
        cold, of_cold = decoding.sample(step, 1, states, 9, end=0, temperature=temperature, seed=1)
        np.testing.assert_array_equal(cold, ids)
        np.testing.assert_array_equal(of_cold, log_p)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    drawn = [decoding.sample(step, 1, states, 9, seed=seed)[0] for seed in (5, 5, 6)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert np.any(drawn[0] != drawn[2])
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_what_has_ended_stays_so_and_all_stop_when_all_have():
    calls = []

    def step(given):
        tokens, countdown = given
        calls.append(len(tokens))
        p = np.where(np.arange(V) == np.where(countdown > 0, 3, 0), 0.7, 0.1)
        return p, countdown - 1

    ids, log_p = decoding.greedy(step, 0, [np.array([[2], [0], [1]])], 6, end=0)  # beginning with it ends nothing
    assert ids.tolist() == [[3, 3, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0]]
    np.testing.assert_allclose(log_p, np.log(0.7) * np.array([3, 1, 2]))
    assert calls == [3, 3, 3]


def test_kept_states_give_what_a_pass_over_the_whole_prefix_gives():
    embedding, dense = Embedding(V, 3), Dense(V, activation="softmax")
    lstm = LSTM(H, return_sequences=True, return_state=True)
    for layer, shape in ((embedding, (None,)), (lstm, (None, 3)), (dense, (None, H))):
        layer.build(shape)  # for any number of steps
    h, c = np.random.default_rng(0).normal(size=(2, B, H)).astype("float32")
    starts = np.array([0, 1, 2])

    def step(given):
        tokens, *states = given
        h, *states = lstm(embedding(tokens), initial_state=states)
        return [dense(h), *states]

    ids, log_p = decoding.greedy(step, starts, [h, c], 7)
    prefix = np.concatenate([starts[:, None], ids[:, :-1]], axis=1)
    p = dense(lstm(embedding(prefix), initial_state=[h, c])[0])
    np.testing.assert_array_equal(ids, p.argmax(axis=2))
    np.testing.assert_allclose(log_p, np.log(p.max(axis=2)).sum(axis=1), rtol=1e-5)

    token, *given = (Input(shape, name=name) for name, shape in (("token", (None,)), ("h", (H,)), ("c", (H,))))
    out, *states = lstm(embedding(token), initial_state=given)
    model = Model([token, *given], [dense(out), *states])
    np.testing.assert_array_equal(decoding.greedy(model, starts, [h, c], 7)[0], ids)
    by_name = Model([token, *given], dict(zip("phc", [dense(out), *states], strict=True)))
    np.testing.assert_array_equal(decoding.greedy(by_name, starts, [h, c], 7)[0], ids)
    with pytest.raises(ValueError, match=r"states must hold an array for each input of step .*\(h, c\), but holds 1"):
        decoding.greedy(model, starts, [h], 7)
    with pytest.raises(ValueError, match="rows for ids 0 to 3, but the input holds the id 4"):
        decoding.greedy(step, 4, [h, c], 7)


def bad(p, *states):
    """A step that gives this."""
    return lambda given: [np.asarray(p), *(states or given[1:])]


@pytest.mark.parametrize(
    ("step", "change", "message"),
    [
        (None, {"states": [np.zeros((3, 5)), np.zeros((2, 5))]}, r"one row for each.*\(3, 5\), \(2, 5\) and \(\)"),
        (None, {"start": [0, 1]}, r"start one token for all or for each, .* \(3, 2, 5\) and \(2,\)"),
        (None, {"states": []}, "shapes are none"),
        (None, {"states": np.zeros((3, 5))}, "states must be a list of arrays"),
        (None, {"start": -1}, "start must be a token, a whole number of at least 0, not -1"),
        (None, {"start": 0.5}, "start must be a token"),
        (None, {"steps": 0}, "steps must be a whole number above 0, not 0"),
        (None, {"end": 4}, "end must be from 0 to 3, not 4"),
        (bad(np.full((3, V), np.nan)), {}, "not finite"),
        (bad(np.full((3, V), [-0.5, 0.5, 0.5, 0.5])), {}, "negative"),
        (bad(np.ones((3, V))), {}, "as softmax does, but .* add up to 1"),
        (bad(np.full((3, 2, V), 0.25)), {}, r"must return probabilities, \(3, V\), not float64 of shape \(3, 2, 4\)"),
        (bad(np.full((3, V), 0.25), np.zeros((3, 5))), {}, r"with 2 states, 3 rows .* \(3, 4\), \(3, 5\)$"),
        (bad(np.full((3, V), 0.25), np.zeros((3, 5)), np.zeros((2, 5))), {}, r"3 rows in each.*\(2, 5\)$"),
        ("model", {}, "step must be a function, not 'model'"),
    ],
)
def test_bad_input_is_named(step, change, message):
    own, states = tiny()
    with pytest.raises((TypeError, ValueError), match=message):
        decoding.greedy(step or own, **({"start": 1, "states": states, "steps": 3, "end": None} | change))


def test_a_width_or_a_temperature_that_cannot_be_is_named():
    step, states = tiny()
    with pytest.raises(ValueError, match="width must be at most 16, the number of sequences of 2 tokens, not 17"):
        decoding.beam(step, 1, states, 2, width=17)
    for temperature in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="temperature must be above 0"):
            decoding.sample(step, 1, states, 2, temperature=temperature)
