"""Traces: the same numbers as the layers' own passes, every step's derivative, and a model that stays as it was."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from implementations import IMPLEMENTATIONS
from small_models import IDS, LABELS, lstm, stack

from scratchlstm import Input, Model, Sequential
from scratchlstm.gates import sigmoid, sigmoid_prime
from scratchlstm.inspection import trace
from scratchlstm.layers import (
    LSTM,
    Bidirectional,
    Concatenate,
    Dense,
    Dropout,
    Embedding,
    GlobalAveragePooling1D,
    SimpleRNN,
    TimeDistributed,
)


def gradients(model, x, y, sample_weight=None):
    """Of the model's own backward pass, by name, without dropout."""
    return gradients_of(model, *model.forward(x), y, sample_weight)


def gradients_of(model, prediction, cache, y, sample_weight=None):
    _, dy, from_logits = model.loss_with_gradient(np.asarray(y), prediction, cache.kept, sample_weight)
    found = model.gradients(dy, cache, from_logits)
    return {name: np.array(gradient) for name, gradient in zip(model.network.params, found, strict=True)}


def dz_of(layer):
    return np.concatenate([layer.dz_i, layer.dz_f, layer.dz_g, layer.dz_o], axis=-1)


def assert_sums_to(layer, grads, tolerance):
    """The steps' gradients, summed, are those of the parameters: (19) to (21)."""
    dz = dz_of(layer)
    sums = {
        "kernel": np.einsum("bte,btk->ek", layer.input, dz),
        "recurrent_kernel": np.einsum("bth,btk->hk", layer.h_prev, dz),
        "bias": dz.sum(axis=(0, 1)),
    }
    for name, total in sums.items():
        expected = grads[f"{layer.name}/{name}"]
        assert np.linalg.norm(total - expected) <= tolerance * np.linalg.norm(expected)
        assert np.any(expected)


# --- the numbers ------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.tuples(*(st.integers(1, 5) for _ in range(3))),
    mask_zero=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
    options=st.fixed_dictionaries(
        {
            "implementation": st.sampled_from(IMPLEMENTATIONS),
            "go_backwards": st.booleans(),
            "use_bias": st.booleans(),
            "zero_output_for_mask": st.booleans(),
            "activation": st.sampled_from(["tanh", "relu"]),
            "recurrent_activation": st.sampled_from(["sigmoid", "hard_sigmoid"]),
        }
    ),
)
def test_values_and_gradients_are_those_of_the_layers_own_passes(seed, sizes, mask_zero, dtype, options):
    rng, (B, T, H) = np.random.default_rng(seed), sizes
    model = Sequential(
        [
            Embedding(4, 3, mask_zero=mask_zero, input_shape=(T,), dtype=dtype),
            LSTM(H, return_sequences=True, dtype=dtype, dropout=0.3, recurrent_dropout=0.3, **options),
        ]
    )
    model.set_weights([rng.normal(size=w.shape) * 0.5 for w in model.params])
    model.compile("sgd", "mse")
    x, y = rng.integers(0, 4, size=(B, T)), rng.normal(size=(B, T, H))
    found = trace(model, x, y)
    layer, tolerance = found.lstm, 1e-12 if dtype == "float64" else 1e-6
    assert all(array.dtype == dtype for name, array in layer.as_dict().items() if name != "mask")
    np.testing.assert_array_equal(layer.mask, x != 0 if mask_zero else np.ones((B, T), bool))
    expected = np.array(model.forward(x)[0])
    np.testing.assert_allclose(found.prediction, expected, rtol=tolerance, atol=tolerance)
    in_time = expected[:, ::-1] if options["go_backwards"] else expected
    np.testing.assert_allclose(layer.h[layer.mask], in_time[layer.mask], rtol=10 * tolerance, atol=tolerance)
    assert found.loss == pytest.approx(model.evaluate(x, y, verbose=0), rel=tolerance)
    grads = gradients(model, x, y)
    table = np.zeros_like(grads["embedding/embeddings"])
    np.add.at(table, x, layer.d_input)
    dz = dz_of(layer)
    found_sums = {
        "embedding/embeddings": table,
        "lstm/kernel": np.einsum("bte,btk->ek", layer.input, dz),
        "lstm/recurrent_kernel": np.einsum("bth,btk->hk", layer.h_prev, dz),
        "lstm/bias": dz.sum(axis=(0, 1)),
    }
    for name in grads:
        np.testing.assert_allclose(found_sums[name], grads[name], rtol=100 * tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("backwards", [False, True])
def test_the_six_equations_hold_at_every_step_and_states_go_past_masked_ones(backwards):
    layer = trace(stack(lstm(go_backwards=backwards)), IDS, LABELS).lstm
    z = layer.input @ layer.kernel + layer.h_prev @ layer.recurrent_kernel + layer.bias
    np.testing.assert_allclose(np.concatenate([layer.z_i, layer.z_f, layer.z_g, layer.z_o], -1), z, atol=1e-14)
    for gate, of_z in (("i", sigmoid), ("f", sigmoid), ("g", np.tanh), ("o", sigmoid)):
        np.testing.assert_allclose(getattr(layer, gate), of_z(getattr(layer, f"z_{gate}")), atol=1e-14)
    counts = layer.mask[..., None]
    c = np.where(counts, layer.f * layer.c_prev + layer.i * layer.g, layer.c_prev)
    np.testing.assert_allclose(layer.c, c, atol=1e-14)
    np.testing.assert_allclose(layer.h, np.where(counts, layer.o * np.tanh(c), layer.h_prev), atol=1e-14)
    later, earlier = (slice(None, -1), slice(1, None)) if backwards else (slice(1, None), slice(None, -1))
    np.testing.assert_array_equal(layer.c_prev[:, later], layer.c[:, earlier])
    np.testing.assert_array_equal(layer.h_prev[:, later], layer.h[:, earlier])
    first = -1 if backwards else 0
    assert not layer.c_prev[:, first].any()
    assert not layer.h_prev[:, first].any()
    assert not layer.mask.all()
    for name in ("dz_i", "dz_f", "dz_g", "dz_o", "d_input"):
        gradient = getattr(layer, name)
        assert not gradient[~layer.mask].any()
        assert gradient[layer.mask].all(axis=1).any()
    np.testing.assert_allclose(layer.dz_i, layer.dc * layer.g * sigmoid_prime(layer.i) * counts, atol=1e-16)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
def test_a_step_gets_what_the_one_after_it_hands_back(backwards, sequences):
    """And adds what comes from above: at every step, or at the last one alone; a step that does not count adds too."""
    top = [GlobalAveragePooling1D(dtype="float64")] if sequences else []
    layer = trace(stack(lstm(go_backwards=backwards, return_sequences=sequences), *top), IDS, LABELS).lstm
    later, earlier = (slice(None, -1), slice(1, None)) if backwards else (slice(1, None), slice(None, -1))
    last = 0 if backwards else -1
    for name in "hc":
        handed_back, got = getattr(layer, f"d{name}_prev"), getattr(layer, f"d{name}_next")
        np.testing.assert_array_equal(got[:, earlier], handed_back[:, later])
        assert not got[:, last].any()
    np.testing.assert_array_equal(layer.dh, layer.dh_above + layer.dh_next)
    counts = layer.mask[..., None]
    through_h = layer.dh * layer.o * (1 - np.tanh(layer.c) ** 2) * counts
    np.testing.assert_allclose(layer.dc, layer.dc_next + through_h, atol=1e-16)
    np.testing.assert_allclose(layer.dc_prev, np.where(counts, layer.dc * layer.f, layer.dc), atol=1e-16)
    dh_prev = np.where(counts, dz_of(layer) @ layer.recurrent_kernel.T, layer.dh)
    np.testing.assert_allclose(layer.dh_prev, dh_prev, atol=1e-16)
    assert layer.dh_above[:, last].all()
    assert bool(layer.dh_above[:, earlier].any()) == sequences


@pytest.mark.parametrize("y", [None, LABELS])
def test_importance_is_what_hangs_on_the_cell(y):
    layer = trace(stack(lstm()), IDS, y).lstm
    slopes = np.ones_like(layer.c) if y is None else layer.dc
    by_hand = [sum(abs(slopes[1, t, unit] * layer.c[1, t, unit]) for t in (0, 1, 3, 4)) for unit in range(4)]
    np.testing.assert_allclose(layer.importance(1), by_hand)
    np.testing.assert_allclose(layer.importance(1, slice(2, 4)), np.abs(slopes * layer.c)[1, 3])
    assert layer.importance().shape == (4,)
    with pytest.raises(ValueError, match="sample must be from 0 to 2, not 3"):
        layer.importance(3)


def test_what_explodes_is_shown_as_it_is():
    model = stack(lstm(128, dtype="float32"), dtype="float32")
    model.set_weights([1.3 * w for w in model.get_weights()])
    with np.errstate(over="ignore", invalid="ignore"):
        layer = trace(model, np.tile([[1, 2, 3]], 80), [0]).lstm
    assert np.isfinite(layer.c).all()
    assert not np.isfinite(layer.dh[0, 0]).any()
    assert np.isfinite(layer.dh[0, -1]).all()
    large = np.flatnonzero(np.isfinite(layer.d_input).all(axis=(0, 2)))[0]
    assert np.abs(layer.d_input[0, large]).max() > 1e20  # whose square float32 cannot hold
    assert np.isfinite(layer.d_words[0, large])


@pytest.mark.parametrize("name", ["h", "c"])
def test_the_gradient_of_a_state_is_the_slope_of_the_loss(name):
    """From the state after step t on, the rest of the sequence is run again, with that state moved a little."""
    model = stack(lstm())
    layer, head, x = trace(model, IDS, LABELS).lstm, model.layers[-1], model.layers[0](IDS)

    def loss(t, states):
        h = states[0]
        if t + 1 < IDS.shape[1]:
            h = model.layers[1](np.asarray(x)[:, t + 1 :], mask=IDS[:, t + 1 :] != 0, initial_state=states)
        return model.loss(LABELS, head(h))

    step, rng = 1e-6, np.random.default_rng(0)
    for t in range(IDS.shape[1] - (name == "c")):  # after the last step only h is read
        v = rng.normal(size=layer.h[:, t].shape)
        states = {"h": layer.h[:, t], "c": layer.c[:, t]}
        above, below = (loss(t, [*(states | {name: states[name] + s * v}).values()]) for s in (step, -step))
        gradient = getattr(layer, f"d{name}")[:, t]
        if name == "c":  # `dc` counts the way through this step's own h, too
            through_h = layer.dh[:, t] * layer.o[:, t] * (1 - np.tanh(layer.c[:, t]) ** 2)
            gradient = gradient - through_h * layer.mask[:, t, None]
        assert np.sum(gradient * v) == pytest.approx((above - below) / (2 * step), rel=1e-5)


def test_all_implementations_have_the_same_trace():
    *fast, textbook = (trace(stack(lstm(implementation=each)), IDS, LABELS).lstm.as_dict() for each in IMPLEMENTATIONS)
    for found in fast:
        assert found.keys() == textbook.keys()
        for name, array in found.items():
            np.testing.assert_allclose(array, textbook[name], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("merge_mode", ["concat", "mul"])
def test_every_lstm_of_a_model_has_its_trace(implementation, merge_mode):
    model = stack(
        Bidirectional(lstm(return_sequences=True, implementation=implementation), merge_mode=merge_mode),
        Dropout(0.5, dtype="float64"),
        lstm(3, go_backwards=True, return_sequences=True, implementation=implementation),
        SimpleRNN(3, return_sequences=True, dtype="float64"),
        lstm(2, implementation=implementation, name="top"),
    )
    found, grads = trace(model, IDS, LABELS), gradients(model, IDS, LABELS)
    lstms = ["bidirectional/forward", "bidirectional/backward", "lstm", "top"]
    assert list(found.layers) == [*lstms[:3], "simple_rnn", "top"]
    for name in lstms:
        layer = found.layers[name]
        assert layer.name == name
        assert layer is found[name]
        assert_sums_to(layer, grads, 1e-12)
    assert [found[name].go_backwards for name in lstms] == [False, True, True, False]
    with pytest.raises(ValueError, match=r"several layers; choose one by name: bidirectional/forward, "):
        _ = found.lstm


def test_ways_that_part_and_meet_again():
    words = Input((5,))
    vectors = Embedding(6, 3, mask_zero=True, dtype="float64")(words)
    ways = [lstm(name="one")(vectors), lstm(name="two")(vectors), GlobalAveragePooling1D(dtype="float64")(vectors)]
    model = Model(words, Dense(1, "sigmoid", dtype="float64")(Concatenate(dtype="float64")(ways)), seed=0)
    model.compile("adam", "binary_crossentropy")
    found, grads = trace(model, IDS, LABELS), gradients(model, IDS, LABELS)
    for name in ("one", "two"):
        assert_sums_to(found[name], grads, 1e-12)


def test_one_within_time_distributed_has_a_row_for_each_outer_step():
    x = np.random.default_rng(0).integers(0, 6, size=(2, 3, 5))
    model = Sequential(
        [
            Embedding(6, 3, mask_zero=True, input_shape=(3, 5), dtype="float64"),
            TimeDistributed(lstm(4)),
            lstm(2),
            Dense(1, "sigmoid", dtype="float64"),
        ]
    )
    model.compile("adam", "binary_crossentropy")
    found = trace(model, x, [0, 1])
    inner, outer = found["time_distributed/lstm"], found["lstm"]
    assert inner.h.shape == (6, 5, 4)
    np.testing.assert_allclose(inner.h[:, -1].reshape(2, 3, 4), outer.input, atol=1e-14)
    np.testing.assert_allclose(inner.dh[:, -1].reshape(2, 3, 4), outer.d_input, atol=1e-14)


def test_sample_weights_are_those_of_the_loss():
    model, weight = stack(lstm()), np.array([0.0, 2.0, 1.0])
    found = trace(model, IDS, LABELS, sample_weight=weight)
    assert found.loss == pytest.approx(model.evaluate(IDS, LABELS, sample_weight=weight, verbose=0), rel=1e-12)
    assert not found.lstm.dh[0].any()
    assert_sums_to(found.lstm, gradients(model, IDS, LABELS, weight), 1e-12)


def test_a_stateful_layer_goes_on_from_its_states_and_keeps_them():
    model = stack(lstm(stateful=True), mask_zero=False)
    model.predict(IDS, verbose=0)
    before = [state.copy() for state in model.layers[1].states]
    layer = trace(model, IDS, LABELS).lstm
    np.testing.assert_array_equal(layer.h_prev[:, 0], before[0])
    np.testing.assert_array_equal(layer.c_prev[:, 0], before[1])
    assert before[0].any()
    for now, state in zip(model.layers[1].states, before, strict=True):
        np.testing.assert_array_equal(now, state)


# --- the model stays as it was ----------------------------------------------------------------------------------------


def everything(thing, seen):
    """Everything reachable from an object, down to the bytes of arrays."""
    if isinstance(thing, np.ndarray):
        return thing.shape, thing.dtype.str, thing.tobytes()
    if isinstance(thing, np.random.Generator):
        return str(thing.bit_generator.state)
    if isinstance(thing, dict):
        return [(key, everything(value, seen)) for key, value in thing.items()]
    if isinstance(thing, list | tuple):
        return [everything(each, seen) for each in thing]
    if hasattr(thing, "__dict__") and not isinstance(thing, type) and not callable(getattr(thing, "__name__", None)):
        if id(thing) in seen:
            return "seen"
        seen.add(id(thing))
        return type(thing), everything(vars(thing), seen)
    return repr(thing)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_nothing_of_the_model_changes(implementation):
    options = {"implementation": implementation, "dropout": 0.2, "recurrent_dropout": 0.2}
    model = stack(Bidirectional(lstm(return_sequences=True, **options)), Dropout(0.5, dtype="float64"), lstm(**options))
    model.fit(IDS, LABELS, epochs=2, verbose=0)
    before = everything(model, set())
    trace(model, IDS[:2, 1:], LABELS[:2])
    trace(model, IDS[:1])
    assert everything(model, set()) == before
    model.predict(IDS, verbose=0)
    assert everything(model, set()) == before
    model.train_on_batch(IDS, LABELS)
    assert everything(model, set()) != before


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_trace_between_a_models_forward_and_backward_is_not_noticed(implementation):
    model = stack(lstm(implementation=implementation))
    expected = gradients(model, IDS, LABELS)
    one_pass = model.forward(IDS)
    trace(model, IDS[::-1], LABELS)
    found = gradients_of(model, *one_pass, LABELS)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        np.testing.assert_array_equal(gradient, expected[name])


def test_the_trace_is_its_own():
    """Neither later training nor a change of x reaches what was traced, and the arrays given are not changed."""
    model, x = stack(lstm()), IDS.copy()
    found = trace(model, x, LABELS)
    arrays = {"x": found.x, "prediction": found.prediction, **found.lstm.as_dict()}
    before = {name: array.copy() for name, array in arrays.items()}
    np.testing.assert_array_equal(x, IDS)
    x[...] = 1
    model.fit(IDS, LABELS, verbose=0)
    model.layers[1].params["bias"] += 1
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[name])


# --- what it looks like -----------------------------------------------------------------------------------------------


def test_without_a_target_there_are_values_alone():
    found = trace(stack(lstm()), IDS)
    layer = found.lstm
    assert found.loss is found.y is layer.dh is layer.d_input is None
    assert set(layer.as_dict()) == {
        *("kernel", "recurrent_kernel", "bias", "mask", "input", "h_prev", "c_prev", "i", "f", "g", "o", "c", "h"),
        *("z_i", "z_f", "z_g", "z_o"),
    }
    assert "dh" not in layer.table()[0]
    with pytest.raises(ValueError, match=r"d_input is a gradient, so the trace needs a target: trace\(model, x"):
        _ = layer.d_words


def test_a_table_has_a_row_for_each_step():
    layer = trace(stack(lstm()), IDS, LABELS).lstm
    table = layer.table(sample=1, unit=2)
    assert [row["step"] for row in table] == [0, 1, 2, 3, 4]
    assert [row["counts"] for row in table] == [True, True, False, True, True]
    for row in table:
        for name in set(row) - {"step", "counts"}:
            assert row[name] == getattr(layer, name)[1, row["step"], 2]
            assert type(row[name]) is float
    np.testing.assert_allclose(layer.d_words[1, 3], np.sqrt(np.sum(layer.d_input[1, 3] ** 2)))
    too_large = {"d_input": layer.d_input * 1e200}  # whose squares no float holds
    large = dataclasses.replace(layer, arrays=layer.arrays | too_large)
    np.testing.assert_allclose(large.d_words / 1e200, layer.d_words)


def test_the_repr_says_what_is_there():
    found = trace(stack(lstm(go_backwards=True)), IDS, LABELS)
    head, layer, *rows = repr(found).splitlines()
    assert head == f"Trace of 3 samples, prediction (3, 1), loss {found.loss:.4g}"
    assert layer == "LayerTrace 'lstm': 3 samples, 5 steps, 3 features, 4 units, backwards; 80% of the steps count"
    assert [row.split()[0] for row in rows] == ["mean", "i", "f", "g", "o", "c", "h", "dh", "dc"]
    f = found.lstm.f[found.lstm.mask]
    assert [float(number) for number in rows[2].split()[1:]] == [
        float(f"{of(f):.3g}") for of in (np.mean, np.min, np.max)
    ]
    assert repr(trace(stack(lstm()), IDS * 0)).endswith("(none)")


def test_the_repr_of_one_sample_shows_what_was_read_and_said():
    found = trace(stack(lstm()), IDS[2:])
    head, layer, *_ = repr(found).splitlines()
    assert head == f"Trace of 1 sample, input {IDS[2]}, prediction [{found.prediction[0, 0]:.4f}]"
    assert layer.startswith("LayerTrace 'lstm': 1 sample, 5 steps")
    long = trace(stack(lstm()), np.tile(IDS[2:], 20))
    assert len(repr(long).splitlines()[0]) < 100


# --- bad input --------------------------------------------------------------------------------------------------------


def uncompiled():
    return Sequential([Embedding(6, 3, input_shape=(5,)), LSTM(4), Dense(1, "sigmoid")])


@pytest.mark.parametrize(
    ("model", "x", "y", "error", "match"),
    [
        (lambda: Sequential([Embedding(6, 3), LSTM(4)]), IDS, None, ValueError, "trace needs a model with parameters"),
        (lambda: LSTM(4), IDS, None, TypeError, "trace takes a Sequential or a Model, not "),
        (uncompiled, IDS, LABELS, RuntimeError, r"call compile\(.*\) before trace with y"),
        (uncompiled, IDS[:, :3], None, ValueError, r"x: .*shape \(None, 5\), but got \(None, 3\)"),
        (uncompiled, IDS * 3, None, ValueError, "x: .*too large"),
        (uncompiled, [[1, 2], [3]], None, ValueError, "x has rows of different lengths"),
        (uncompiled, IDS[:0], None, ValueError, "x is empty"),
        (lambda: stack(lstm()), IDS, LABELS[:2], ValueError, "x has 3 samples, but y has 2"),
        (lambda: stack(lstm()), IDS, [0, 1, np.nan], ValueError, r"y holds nan at \(2,\)"),
        (
            lambda: stack(GlobalAveragePooling1D(dtype="float64")), IDS, None, ValueError,
            r"shows the gates of recurrent layers, but the model has none: it has embedding .*, dense \(Dense\)$",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_traced_is_refused(model, x, y, error, match):
    with pytest.raises(error, match=match):
        trace(model(), x, y)


def test_what_is_not_there_is_named():
    found = trace(stack(lstm()), IDS)
    with pytest.raises(ValueError, match=r"there is no layer 'lstm_1' here; there is lstm"):
        found["lstm_1"]
    with pytest.raises(ValueError, match="sample must be from 0 to 2, not 3"):
        found.lstm.table(sample=3)
    with pytest.raises(ValueError, match="unit must be from 0 to 3, not 4"):
        found.lstm.table(unit=4)
    with pytest.raises(ValueError, match="unit must be a whole number of at least 0, not -1"):
        found.lstm.table(unit=-1)
    with pytest.raises(ValueError, match="sample_weight needs a loss, but y is missing"):
        trace(stack(lstm()), IDS, sample_weight=[1, 1, 1])
