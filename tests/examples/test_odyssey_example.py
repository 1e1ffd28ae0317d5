"""The example on what each gate is for: its tasks, its cells, what it prints and draws, and the page made from it."""

import re
from argparse import Namespace
from pathlib import Path

import numpy as np
import odyssey
import pytest
from odyssey import CELLS, CLAIMS, REVIEWERS, TASKS, Job, Size

pytestmark = pytest.mark.slow

TINY = Size(T=4, units=4, sequences=32, epochs=1)
PAGE = Path(__file__).parents[2] / "docs" / "gates_for.md"


def _rule(task, x):
    """The answers to one sequence (T, E), by the sentence that describes the task."""
    if task == "keep":
        (capital,) = [step.argmax() for step in x if step.argmax() < 4]
        return [float(letter == capital) for letter in range(4)]
    if task == "count":
        events, answers = 0, []
        for event, query in x:
            events += event
            answers.append([events / 5 if query else 0])
        return answers
    marked = [step for step, (_, mark) in enumerate(x) if mark]
    if task == "reset":
        return [sum(number for number, _ in x[marked[-1] + 1 :])]
    assert len(marked) == {"ignore": 1, "add": 2}[task]
    return [sum(x[step, 0] for step in marked)]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("T", [2, 15, 40])
def test_a_rule_solves_each_task_from_what_the_network_sees(task, T):
    x, y = TASKS[task](200, T, np.random.default_rng(0))
    assert (x.dtype, y.dtype, x.shape[:2], len(y)) == ("float32", "float32", (200, T), 200)
    np.testing.assert_allclose(y, [_rule(task, row) for row in x.astype(float)], atol=1e-6)


def test_what_has_to_be_kept_or_forgotten_may_come_at_any_step():
    rng, T = np.random.default_rng(0), 8
    letters = TASKS["keep"](2000, T, rng)[0].argmax(axis=2)
    assert set(np.argmax(letters < 4, axis=1)) == set(range(T))
    assert set(letters.ravel()) == set(range(8))
    for task in ("ignore", "reset"):
        marks = TASKS[task](2000, T, rng)[0][:, :, 1]
        last = T - 1 - np.argmax(marks[:, ::-1], axis=1)
        assert set(last) == set(range(T))
    assert 2 < marks.sum(axis=1).mean() < 3  # a sequence of `reset` has mostly something to forget
    marks = TASKS["add"](2000, T, rng)[0][:, :, 1]
    np.testing.assert_array_equal(marks.reshape(-1, 2, T // 2).sum(axis=2), 1)
    x, y = TASKS["count"](2000, T, rng)
    assert x.mean(axis=(0, 1)) == pytest.approx([0.3, 0.1], abs=0.02)
    assert not y[x[:, :, 1] == 0].any()


def test_every_cell_has_about_as_many_parameters():
    for task, make in TASKS.items():
        x, y = make(2, 4, np.random.default_rng(0))
        counts = {}
        for cell in CELLS:
            layer = odyssey.layer_of(Job(cell, task, 0, odyssey.FULL), x.shape[-1], y.shape[-1])
            layer.build(x.shape[1:])
            counts[cell] = sum(param.size for param in layer.params.values()) + (layer.output_size + 1) * y.shape[-1]
        assert all(0.93 * counts["LSTM"] < count < 1.07 * counts["LSTM"] for count in counts.values()), counts


def _options(**changed):
    return Namespace(**{"seed": 3, "seeds": 2, "quick": True, "workers": 1, "backend": None, "path": None} | changed)


def test_a_table_of_all_cells_and_a_picture(capsys, colors_of, tmp_path):
    odyssey.experiment(tmp_path, _options(), TINY, list(CELLS), ["ignore", "count"])
    printed = capsys.readouterr().out
    errors = _errors(printed)
    assert list(errors) == [(cell, task) for cell in CELLS for task in ("ignore", "count")]
    assert all(0 <= low <= median <= high < 10 for median, low, high in errors.values())
    _check_verdicts(printed, errors)
    assert colors_of(tmp_path / "odyssey.png") > 100


def _errors(text):
    """(cell, task) -> median, lowest and highest of the seeds, from a table."""
    header, _, *rows = [
        [part.strip() for part in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"
    ]
    spread = r"(\S+) \((\S+) to (\S+)\)"
    return {
        (cell, task): tuple(float(number) for number in re.fullmatch(spread, value).groups())
        for cell, *values in rows
        for task, value in zip(header[1:], values, strict=True)
    }


def _verdicts(text):
    found = re.findall(r"^(\S.*\S) +is worse at (\w+) .* (holds|does not hold)$", text, re.MULTILINE)
    return {(cell, task): verdict == "holds" for cell, task, verdict in found}


def _check_verdicts(text, errors):
    """The conclusions follow from the table, to the precision of its two digits."""
    verdicts = _verdicts(text)
    assert set(verdicts) == {claim for claim in CLAIMS if claim in errors}
    for (cell, task), holds in verdicts.items():
        lowest, of_lstm = errors[cell, task][1], errors["LSTM", task][2]
        assert lowest == of_lstm or holds == (lowest > of_lstm)


def test_a_conclusion_holds_if_every_seed_says_so():
    errors = {("LSTM", "ignore"): [0.1, 0.3], ("no input gate", "ignore"): [0.31, 0.4]}
    assert _verdicts("\n".join(odyssey.conclusions(errors))) == {("no input gate", "ignore"): True}
    errors["no input gate", "ignore"] = [0.3, 0.9]
    assert _verdicts("\n".join(odyssey.conclusions(errors))) == {("no input gate", "ignore"): False}


def test_processes_change_nothing():
    jobs = [Job(cell, "add", seed, TINY) for cell in ("LSTM", "projection") for seed in (0, 1)]
    alone = dict(odyssey.results(jobs, 1))
    assert dict(odyssey.results(jobs, 2)) == alone
    assert len({*alone.values()}) == len(jobs)


def test_an_error_of_1_is_a_guess_and_an_lstm_learns():
    untrained = odyssey.run(Job("LSTM", "count", 0, TINY))
    assert 0.8 < untrained < 1.5
    assert odyssey.run(Job("LSTM", "count", 0, odyssey.QUICK)) < 0.3


def test_reviews(monkeypatch, capsys, colors_of, tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    rows = [(rng.integers(1, 40, size=rng.integers(3, 30)) * 2 + label).tolist() for label in labels]
    arrays = {"x": np.concatenate(rows), "lengths": [*map(len, rows)], "y": labels}
    np.savez(
        tmp_path / "imdb.npz", **{f"{name}_{part}": of for name, of in arrays.items() for part in ("train", "test")}
    )
    options = "--reviews", "--path", tmp_path / "imdb.npz", "--seeds", 2, "--workers", 1, "--output", tmp_path / "out"
    monkeypatch.setattr("sys.argv", ["odyssey.py", "--quick", *map(str, options)])
    monkeypatch.setattr(odyssey, "QUICK_REVIEWS", TINY)
    odyssey.main()
    printed = capsys.readouterr().out
    errors = _errors(printed)
    _check_verdicts(printed, errors)
    assert list(errors) == [(cell, "reviews") for cell in REVIEWERS]
    assert all(0.5 < low <= high < 1.5 for _, low, high in errors.values())
    assert colors_of(tmp_path / "out" / "odyssey.png") > 100


def test_the_page_says_what_its_tables_say():
    page = PAGE.read_text(encoding="utf-8")
    reviews, made_up = map(_errors, re.findall(r"^\| error .*?\n\n", page, re.MULTILINE | re.DOTALL))
    assert list(reviews) == [(cell, "reviews") for cell in REVIEWERS]
    assert list(made_up) == [(cell, task) for cell in CELLS for task in TASKS]
    _check_verdicts(page, reviews | made_up)
