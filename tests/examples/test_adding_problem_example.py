"""The adding problem, in its quick mode, and its data."""

import re

import numpy as np
import pytest


def test_both_networks_learn_a_short_one(run, colors_of, tmp_path):
    printed = run("adding_problem.py", "--output", tmp_path)
    errors = dict(re.findall(r"^(\w+) *: mean squared error (\S+) ", printed, re.MULTILINE))
    assert set(errors) == {"LSTM", "SimpleRNN"}
    assert all(float(error) < 0.1 for error in errors.values())
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
def test_a_length_that_cannot_be_is_named(functions, name, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [name, "--length", "1"])
    with pytest.raises(SystemExit):
        functions(name)["main"]()
    assert "argument --length: must be at least 2, not 1" in capsys.readouterr().err
