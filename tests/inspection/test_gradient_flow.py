"""Gradient norms against time: the numbers, what is drawn, and what is refused."""

import io

import numpy as np
import pytest
from small_models import IDS, LABELS, lstm, stack

from scratchlstm.inspection import gradient_norm_over_time, gradient_norms, trace
from scratchlstm.layers import Bidirectional, Embedding, GlobalAveragePooling1D, SimpleRNN


def rnn(units=4, **options):
    return SimpleRNN(units, dtype="float64", **options)


def test_of_an_lstm_it_is_the_norm_that_the_trace_has():
    model = stack(lstm(go_backwards=True))
    dh = trace(model, IDS, LABELS).lstm.dh
    expected = [np.mean([np.sqrt(np.sum(row**2)) for row in dh[:, t]]) for t in range(5)]
    np.testing.assert_allclose(gradient_norm_over_time(model, IDS, LABELS), expected)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
def test_of_a_plain_recurrent_network_it_is_the_slope_of_the_loss(backwards, sequences):
    """The rest of the sequence is run again, from a state that was moved a little."""
    top = [GlobalAveragePooling1D(dtype="float64")] if sequences else []
    model, t = stack(rnn(go_backwards=backwards, return_sequences=sequences), *top, mask_zero=False), 2
    x = IDS[1:2]  # for a single sample the mean of the norms is the norm
    embed, layer, head = model.layers[0], model.layers[1], model.layers[-1]
    before, after = (slice(t, None), slice(0, t)) if backwards else (slice(0, t + 1), slice(t + 1, None))
    vectors = np.asarray(embed(x))
    outputs = layer(vectors[:, before])
    h = outputs[:, -1] if sequences else outputs

    def loss(h):
        rest = layer(vectors[:, after], initial_state=[h])
        if sequences:
            rest = np.concatenate([outputs[:, :-1], h[:, None], rest], axis=1).mean(axis=1)
        return model.loss(LABELS[1:2], head(rest))

    step = 1e-6
    slopes = [(loss(h + step * e) - loss(h - step * e)) / (2 * step) for e in np.eye(4)]
    assert gradient_norm_over_time(model, x, LABELS[1:2])[t] == pytest.approx(np.linalg.norm(slopes), rel=1e-6)


def test_one_of_several_layers_is_chosen_by_name():
    model = stack(Bidirectional(rnn(return_sequences=True)), lstm())
    norms = {
        name: gradient_norm_over_time(model, IDS, LABELS, layer=name)
        for name in ("bidirectional/forward", "bidirectional/backward", "lstm")
    }
    assert len({norm.tobytes() for norm in norms.values()}) == 3
    with pytest.raises(ValueError, match="choose one by name: bidirectional/forward, bidirectional/backward, lstm"):
        gradient_norm_over_time(model, IDS, LABELS)


def test_a_masked_step_passes_the_gradient_on():
    model = stack(rnn())
    norms = gradient_norm_over_time(model, IDS[1:2], LABELS[1:2])
    assert norms[1] == norms[2] > 0
    assert norms[3] != norms[2]


def test_sample_weights_count():
    model = stack(rnn())
    twice = gradient_norm_over_time(model, IDS, LABELS, sample_weight=[2.0, 2.0, 2.0])
    np.testing.assert_allclose(twice, 2 * gradient_norm_over_time(model, IDS, LABELS))


def test_nothing_to_look_into():
    with pytest.raises(ValueError, match="needs a recurrent layer, but the model has none"):
        gradient_norm_over_time(stack(GlobalAveragePooling1D(dtype="float64")), IDS, LABELS)
    with pytest.raises(ValueError, match="needs targets y"):
        gradient_norm_over_time(stack(rnn()), IDS, None)
    with pytest.raises(TypeError, match="gradient_norm_over_time takes a Sequential or a Model"):
        gradient_norm_over_time(Embedding(3, 2), IDS, LABELS)


# --- the picture ------------------------------------------------------------------------------------------------------


def test_lines_on_a_logarithmic_axis():
    (panel,) = gradient_norms({"LSTM": [1e-3, 1e-2], "RNN": np.float32([0, 1e-1])}, title="two kinds").axes
    assert (panel.get_yscale(), panel.get_title(), panel.get_xlabel()) == ("log", "two kinds", "step t")
    assert [text.get_text() for text in panel.texts] == ["LSTM", "RNN"]
    first, second = panel.lines
    np.testing.assert_array_equal(first.get_ydata(), [1e-3, 1e-2])
    np.testing.assert_array_equal(second.get_ydata(), [np.nan, np.float32(1e-1)])
    assert first.get_color() != second.get_color()
    assert first.get_linestyle() == second.get_linestyle() == "--"  # as all gradients


def test_a_line_without_any_gradient_is_named():
    (panel,) = gradient_norms({"LSTM": [1.0], "RNN": [0.0]}).axes
    assert [line.get_label() for line in panel.lines] == ["LSTM", "RNN (0 throughout)"]
    assert [text.get_text() for text in panel.texts] == ["LSTM", "RNN (0 throughout)"]


def test_several_panels_have_one_axis():
    norms = {"before": {"LSTM": [1e-3, 1.0], "RNN": [1e-2, 1.0]}, "after": {"LSTM": [2.0, 1.0], "RNN": [3.0, 1.0]}}
    figure = gradient_norms(norms, title="both")
    before, after = figure.axes
    assert (figure.get_suptitle(), before.get_title(), after.get_title()) == ("both", "before", "after")
    assert before.get_ylim() == after.get_ylim()
    for panel in (before, after):
        assert [line.get_label() for line in panel.lines] == ["LSTM", "RNN"]
        np.testing.assert_array_equal([line.get_ydata() for line in panel.lines], [*norms[panel.get_title()].values()])
        assert [text.get_text() for text in panel.texts] == ["LSTM", "RNN"]


@pytest.mark.parametrize("label", ["$\\x$", "costs $5 and $6", "_hidden"])
def test_labels_and_titles_are_shown_letter_by_letter(label):
    for norms in ({label: [1.0, 2.0], "b": [1.0, 1.0]}, {label: {label: [1.0, 2.0]}, "b": {"c": [1.0, 2.0]}}):
        figure = gradient_norms(norms, title=label)
        figure.savefig(io.BytesIO())
        (first, *_) = figure.axes[0].texts
        assert first.get_text() == label == figure.axes[0].get_title()
        assert not first.get_parse_math()
        assert not figure.axes[0].title.get_parse_math()


@pytest.mark.parametrize(
    ("norms", "error", "match"),
    [
        ([1.0], TypeError, "norms must be a dict of labels and norms"),
        ({}, ValueError, "at least one value above 0"),
        ({"before": {}}, ValueError, "at least one value above 0"),
        ({"before": {"a": [1.0]}, "after": [1.0]}, ValueError, "norms of 'before' must be finite numbers"),
        ({"a": [0.0]}, ValueError, "at least one value above 0"),
        ({"a": []}, ValueError, "norms of 'a' must be finite numbers of at least 0, one for each step"),
        ({"a": [[1.0]]}, ValueError, "norms of 'a' must be"),
        ({"a": [1.0, -1.0]}, ValueError, "norms of 'a' must be"),
        ({"a": [1.0, np.inf]}, ValueError, "norms of 'a' must be"),
        ({"a": ["x"]}, ValueError, "norms of 'a' must be"),
    ],
)
def test_what_are_no_norms_is_refused(norms, error, match):
    with pytest.raises(error, match=match):
        gradient_norms(norms)
