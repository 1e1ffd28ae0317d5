"""The adding problem, in its quick mode, and its data."""

import re

import numpy as np
import pytest

pytestmark = pytest.mark.slow


def test_the_lstm_solves_a_short_one_and_the_plain_network_does_not(run, colors_of, tmp_path):
    printed = run("adding_problem.py", "--output", tmp_path)
    rows = re.findall(r"^(\w+) *: mean squared error (\S+) .*, (never )?below 0.01", printed, re.MULTILINE)
    assert [(name, bool(never)) for name, _, never in rows] == [("LSTM", False), ("SimpleRNN", True)]
    errors = {name: float(error) for name, error, _ in rows}
    assert errors["LSTM"] < 0.01 < errors["SimpleRNN"]
    assert colors_of(tmp_path / "adding_problem.png") > 100


def test_the_sum_is_that_of_one_marked_number_in_each_half(functions):
    example = functions("adding_problem.py")
    x, y = example["make_data"](5000, 11, np.random.default_rng(0))
    assert x.shape == (5000, 11, 2)
    np.testing.assert_array_equal(x[:, :5, 1].sum(axis=1), 1)
    np.testing.assert_array_equal(x[:, 5:, 1].sum(axis=1), 1)
    np.testing.assert_allclose(y, (x[:, :, 0] * x[:, :, 1]).sum(axis=1), rtol=1e-6)
    assert np.mean((y - 1) ** 2) == pytest.approx(example["BASELINE"], rel=0.1)


@pytest.mark.parametrize("name", ["adding_problem.py", "gradient_flow.py"])
def test_a_length_goes_before_that_of_the_quick_mode(run, name, tmp_path):
    assert "T = 7" in run(name, "--length", "7", "--output", tmp_path)
