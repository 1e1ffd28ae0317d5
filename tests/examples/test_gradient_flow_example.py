"""The example on the vanishing gradient, in its quick mode."""

import re


def test_it_prints_a_table_and_draws(run, colors_of, tmp_path):
    printed = run("gradient_flow.py", "--output", tmp_path / "made" / "here")
    rows = re.findall(r"^(\S.*\S) +\| +(\S+) \| +(\S+) \| (\S+)$", printed, re.MULTILINE)
    assert [name for name, *_ in rows] == ["SimpleRNN", "LSTM, forget bias 0", "LSTM, forget bias 1"]
    before = {name: float(value) for name, value, *_ in rows}
    assert before["LSTM, forget bias 0"] < before["LSTM, forget bias 1"] < before["SimpleRNN"] < 1
    errors = {name: float(error) for name, *_, error in rows}
    assert errors["SimpleRNN"] < 1 / 3  # the error of who always answers 0
    for picture in ("gradient_flow.png", "learning_curves.png"):
        assert colors_of(tmp_path / "made" / "here" / picture) > 100
