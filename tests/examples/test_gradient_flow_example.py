"""The example on the vanishing gradient: what it measures, prints and draws."""

import re

import numpy as np
import pytest

pytestmark = pytest.mark.slow


def test_it_prints_a_table_and_draws(run, colors_of, tmp_path):
    printed = run("gradient_flow.py", "--length", "50", "--output", tmp_path / "made" / "here")
    rows = re.findall(r"^(\w+) +([kb] = [\d.]+) .*\| (\S+)  (\w+)$", printed, re.MULTILINE)
    assert [(name, swept, word) for name, swept, _, word in rows] == [
        ("SimpleRNN", "k = 0.5", "vanishes"),
        ("SimpleRNN", "k = 0.75", "vanishes"),
        ("SimpleRNN", "k = 1.0", "fades"),
        ("SimpleRNN", "k = 1.25", "holds"),
        ("SimpleRNN", "k = 1.5", "explodes"),
        ("LSTM", "b = 0", "vanishes"),
        ("LSTM", "b = 1", "vanishes"),
        ("LSTM", "b = 2", "fades"),
        ("LSTM", "b = 5", "holds"),
    ]
    assert colors_of(tmp_path / "made" / "here" / "gradient_flow.png") > 100


@pytest.fixture(scope="module")
def example(functions):
    return functions("gradient_flow.py")


@pytest.mark.parametrize(("k", "arrives"), [(0.5, 4e-16), (0.9, 3e-4), (1.0, 1e-2), (1.1, 0.13), (1.5, 33)])
def test_of_a_plain_network_the_scale_of_u_decides(example, k, arrives):
    flow = example["plain_flow"](k, T=50, seed=0)
    assert flow.shape == (50,)
    assert flow[-1] == 1
    assert arrives / 3 < flow[0] < 3 * arrives


@pytest.mark.parametrize(("forget_bias", "arrives"), [(0, 6e-12), (1, 3e-5), (3, 0.74), (5, 2.4)])
def test_of_an_lstm_the_forget_gate_decides(example, forget_bias, arrives):
    flow = example["lstm_flow"](forget_bias, T=50, seed=0)
    assert flow.shape == (50,)
    assert flow[-1] == 1
    assert arrives / 3 < flow[0] < 3 * arrives


def test_an_lstm_loses_most_in_the_step_through_the_gates_and_then_little(example):
    """One step back from h leads through the gates; from there on the gradient stays on the cell."""
    flow = example["lstm_flow"](5.0, T=50, seed=0)[::-1]
    assert flow[1] < 0.2
    assert min(flow[2:]) > 0.5 * flow[1]


def test_lines_run_from_the_last_step_back_and_end_in_their_labels(example):
    plain, lstm = {"k = 0.5": np.array([1e-9, 1e-3, 1.0])}, {"b = 0": np.array([0.0, 0.02, 1.0])}
    figure = example["draw"](plain, lstm)
    assert figure.get_suptitle().startswith("U decides whether a plain network's gradient lasts")
    assert figure.axes[-1].get_xlabel() == "steps back from the end"
    for panel, back, label in zip(
        figure.axes, ([1.0, 1e-3, 1e-9], [1.0, 0.02]), ("k = 0.5: vanishes", "b = 0: vanishes"), strict=True
    ):
        assert panel.get_yscale() == "log"
        _, line = panel.lines  # the first is at 1
        np.testing.assert_array_equal(line.get_ydata(), back)  # what underflowed to 0 is not on the logarithmic axis
        (text,) = panel.texts
        assert text.get_text() == label
        np.testing.assert_allclose(text.xy[0], (len(back) - 1) / (len(plain["k = 0.5"]) - 1))
        assert text.get_color() == line.get_color()
