import re

import numpy as np
import pytest

from scratchlstm import Sequential
from scratchlstm.layers import LSTM, Dense, SimpleRNN


def test_it_prints_a_table_and_draws(run, colors_of, tmp_path):
    printed = run("gradient_flow.py", "--output", tmp_path / "made" / "here")
    rows = re.findall(r"^(\S.*\S) +\| +(\S+) \| +(\S+) \| (\S+)$", printed, re.MULTILINE)
    assert [name for name, *_ in rows] == ["SimpleRNN", "LSTM, forget bias 0", "LSTM, forget bias 1"]
    before = {name: float(value) for name, value, *_ in rows}
    assert before["LSTM, forget bias 0"] < before["LSTM, forget bias 1"] < 1
    assert all(float(error) < 0.4 for *_, error in rows)
    assert colors_of(tmp_path / "made" / "here" / "gradient_flow.png") > 100


@pytest.mark.parametrize("layer", [LSTM, SimpleRNN])
def test_each_norm_is_that_of_the_gradient_where_the_sequence_is_cut(functions, layer):
    """dL/dh_t is what reaches the initial state of the rest of the sequence."""
    rng = np.random.default_rng(0)
    T = 6
    x, y = rng.normal(size=(3, T, 2)), rng.normal(size=(3, 1))
    model = Sequential([layer(4, return_state=False, dtype="float64"), Dense(1, dtype="float64")], seed=0)
    model.build((None, T, 2))
    flow = functions("gradient_flow.py")["gradient_flow"](model, x, y)
    whole, dense = model.layers
    cell = layer(4, return_state=True, dtype="float64")
    cell.build((None, 2), params=whole.params)
    expected = []
    for t in range(1, T):
        _, *states = cell(x[:, :t])
        h, *_ = cell(x[:, t:], initial_state=states)
        cell.backward(dense.backward(2 * (dense(h) - y) / len(x)))
        expected.append(np.linalg.norm(cell.initial_state_grads[0]))
    np.testing.assert_allclose(flow[:-1], expected, rtol=1e-10)
    assert flow.shape == (T,)
