"""`python -m scratchlstm exercises`: its files, checks and messages; nothing of the learner's is lost."""

import json
import re
import subprocess
import sys
import time

import pytest

from scratchlstm.__main__ import main
from scratchlstm.exercises import command
from scratchlstm.exercises.exercise import EXERCISES

RIGHT = "def do(dh, o, c, tanh_c):\n    return dh * tanh_c\n"
WRONG = "def do(dh, o, c, tanh_c):\n    return dh\n"
FILE = next(each.file for each in EXERCISES if each.name == "hidden_state")


@pytest.fixture
def exercises(tmp_path, monkeypatch, capsys):
    """A folder of exercises in the current one; returns (exit code, output, errors) of a command."""

    def run(*arguments):
        code = main(["exercises", *arguments])
        return code, *capsys.readouterr()

    monkeypatch.chdir(tmp_path)
    assert run()[0] == 0
    return run


def progress(folder):
    return json.loads((folder / "exercises" / "progress.json").read_text())


def test_written_files_are_those_to_fill_in(exercises, tmp_path):
    files = sorted(path.name for path in (tmp_path / "exercises").iterdir())
    assert files == [*(each.file for each in EXERCISES), "progress.json"]
    for each in EXERCISES:
        assert (tmp_path / "exercises" / each.file).read_text(encoding="utf-8") == each.text


def test_writing_again_keeps_what_is_there_and_adds_what_is_missing(exercises, tmp_path):
    folder = tmp_path / "exercises"
    (folder / FILE).write_text(WRONG)
    (folder / EXERCISES[0].file).unlink()
    (folder / "own.txt").write_text("notes")
    assert exercises("hint", "do")[0] == 0
    code, output, _ = exercises()
    assert code == 0
    assert output.startswith(f"1 exercises written to 'exercises'; the other {len(EXERCISES) - 1} already exist")
    assert (folder / FILE).read_text() == WRONG
    assert (folder / "own.txt").read_text() == "notes"
    assert (folder / EXERCISES[0].file).read_text(encoding="utf-8") == EXERCISES[0].text
    assert progress(tmp_path)["hints"] == {"do": 1}


def test_a_file_numbered_by_another_version_stays_the_learners(exercises, tmp_path):
    (tmp_path / "exercises" / FILE).rename(tmp_path / "exercises" / "77_hidden_state.py")
    assert exercises()[1].startswith("0 exercises written")
    assert "77_hidden_state.py: Back through" in exercises("check", "hidden_state")[1]


def test_wrong_then_right_then_the_next(exercises, tmp_path):
    path = tmp_path / "exercises" / FILE
    path.write_text(WRONG)
    code, output, _ = exercises("check", "hidden_state")
    assert code == 1
    assert "do (7) is wrong: the factor tanh(c) is missing: h is o times tanh(c)" in output
    assert "hint do" in output
    assert progress(tmp_path)["done"] == []
    path.write_text(RIGHT)
    code, output, _ = exercises("check", FILE)
    assert code == 0
    assert "do (7) is right" in output
    assert f"Continue with {command._DEFAULT / EXERCISES[0].file}" in output
    assert f"1 of {len(EXERCISES)} exercises done" in output
    assert progress(tmp_path)["done"] == ["hidden_state"]
    path.write_text(WRONG)
    exercises("check", str(path))
    assert progress(tmp_path)["done"] == []


def test_the_next_open_one_is_checked(exercises, tmp_path):
    code, output, _ = exercises("check")
    assert code == 1
    assert output.startswith(str(command._DEFAULT / EXERCISES[0].file))
    assert "is not written yet" in output


def test_all_done(exercises, tmp_path, monkeypatch):
    state = {"format": 1, "done": [each.name for each in EXERCISES], "hints": {}}
    (tmp_path / "exercises" / "progress.json").write_text(json.dumps(state))
    code, output, _ = exercises("check")
    assert code == 0
    assert output.startswith(f"All {len(EXERCISES)} exercises are done.")
    assert exercises("watch")[0] == 0


def test_three_hints_one_after_another(exercises):
    hints = next(each.hints["do"] for each in EXERCISES if "do" in each.hints)
    for count in (1, 2, 3, 3):
        code, output, _ = exercises("hint", "do")
        assert code == 0
        assert [f"  {n}. {hint}" for n, hint in enumerate(hints[:count], start=1)] == output.splitlines()[1:]


def test_a_hint_by_exercise_is_for_what_is_not_right_yet(exercises, tmp_path):
    (tmp_path / "exercises" / EXERCISES[0].file).write_text("def sigmoid_prime(s):\n    return s * (1 - s)\n")
    assert exercises("hint", "slopes")[1].startswith("tanh_prime")


def test_verdicts_for_a_program(exercises, tmp_path):
    (tmp_path / "exercises" / FILE).write_text("print('to whom?')\n" + WRONG)
    code, output, _ = exercises("check", "hidden_state", "--json")
    verdict = {"exercise": "hidden_state", "function": "do", "equation": "(7)", "state": "wrong"}
    says = "the factor tanh(c) is missing: h is o times tanh(c)"
    assert (code, json.loads(output)) == (1, [verdict | {"says": says}])


def test_grading_changes_nothing_and_needs_the_answers_alone(exercises, tmp_path):
    folder = tmp_path / "handed in"
    folder.mkdir()
    (folder / FILE).write_text(RIGHT)
    code, output, _ = exercises("check", "do", "--json", "--folder", "handed in")
    assert (code, json.loads(output)[0]["state"]) == (0, "right")
    assert [file.name for file in folder.iterdir()] == [FILE]


def test_a_folder_of_another_name(exercises, tmp_path, monkeypatch):
    assert "check --folder course" in exercises("course")[1]
    (tmp_path / "course" / FILE).write_text(RIGHT)
    assert exercises("check", "do", "--folder", "course")[0] == 0
    monkeypatch.chdir(tmp_path / "course")
    assert exercises("check", "do")[0] == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            None,
            r"'.*exercises' is not a folder of exercises: it has no progress\.json; `python -m scratchlstm exercises",
        ),
        ("{", "is damaged, or does not belong to these exercises: if it was, remove it"),
        ("[]", "is damaged"),
        ('{"format": 1, "done": {}, "hints": {}}', "is damaged"),
        ('{"format": 1, "done": [], "hints": {"do": "2"}}', "is damaged"),
        ('{"format": 2, "done": [], "hints": {}}', "was written by a newer version of scratchlstm: upgrade"),
    ],
)
def test_no_folder_of_exercises(exercises, tmp_path, content, message):
    path = tmp_path / "exercises" / "progress.json"
    path.write_text(content or "")
    if not content:  # nor an exercise
        for file in path.parent.iterdir():
            file.unlink()
    for what in ["check"], ["hint", "do"], ["watch"]:
        code, output, errors = exercises(*what)
        assert (code, output) == (2, "")
        assert errors.startswith("python -m scratchlstm exercises: ")
        assert re.search(message, errors)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (["check", "no_such"], "there is no exercise 'no_such'; there are slopes, "),
        (["hint", "no_such"], "there is no exercise 'no_such'"),
        (["hint"], "what should be done?"),
        (["check", "do", "dc"], "what should be done?"),
        (["chek"], "'chek' is not a command; did you mean check? (For a folder of this name, write ./chek.)"),
        (["list"], "'list' is not a command; python -m scratchlstm exercises check all lists them."),
    ],
)
def test_what_cannot_be_done(exercises, what, message):
    code, output, errors = exercises(*what)
    assert (code, output) == (2, "")
    assert message in errors


def test_a_folder_called_like_a_command_with_a_slip(exercises, tmp_path):
    assert exercises("./chek")[0] == 0
    assert exercises("chek")[0] == 0


@pytest.mark.parametrize("order", [("check", "do", "--folder", "my course"), ("check", "--folder", "my course", "do")])
def test_options_before_and_behind_and_a_folder_with_a_blank(exercises, tmp_path, order):
    assert "check --folder 'my course'" in exercises("my course")[1]
    (tmp_path / "my course" / FILE).write_text(WRONG)
    code, output, _ = exercises(*order)
    assert code == 1
    assert "hint do --folder 'my course'" in output


def test_an_option_that_there_is_not(exercises, capsys):
    with pytest.raises(SystemExit):
        exercises("check", "--jsn")
    assert "unrecognized arguments: --jsn" in capsys.readouterr().err


def test_ctrl_c_while_a_file_is_checked(exercises, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "judge_file", interrupted)
    assert exercises("check") == (130, "", "")


def test_a_folder_that_cannot_be_made(exercises, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, errors = exercises("file")
    assert code == 2
    assert "'file' is a file; choose another name for the folder of exercises" in errors


def test_a_verdict_comes_though_it_cannot_be_noted(exercises, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    (tmp_path / "exercises" / FILE).write_text(RIGHT)
    monkeypatch.setattr("scratchlstm.exercises.folder.atomic_write", full)
    code, output, errors = exercises("check", "do")
    assert code == 0
    assert "do (7) is right" in output
    assert "this was not recorded in progress.json: [Errno 28] No space left on device" in errors


def test_a_progress_file_that_an_editor_gave_a_mark(exercises, tmp_path):
    path = tmp_path / "exercises" / "progress.json"
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert exercises("hint", "do")[0] == 0


def test_watch_checks_at_each_save(exercises, tmp_path):
    program = [sys.executable, "-u", "-m", "scratchlstm", "exercises", "watch"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, encoding="utf-8") as watch:
        try:
            lines = iter(watch.stdout.readline, "")
            assert next(lines).startswith("Watching")
            assert any("exercises done" in line for line in lines)  # the first one has been checked
            time.sleep(0.01)  # so that the file is newer
            (tmp_path / "exercises" / FILE).write_text(RIGHT)
            assert any("do (7) is right" in line for line in lines)
            assert any(f"1 of {len(EXERCISES)} exercises done" in line for line in lines)
        finally:
            watch.kill()


def test_a_file_that_is_just_being_replaced_is_watched_on(exercises, tmp_path, monkeypatch):
    folder = command.Folder(tmp_path / "exercises")
    (tmp_path / "exercises" / FILE).unlink()  # after the command has found it
    monkeypatch.setattr("pathlib.Path.exists", lambda path: True)
    assert command._saved(folder)["hidden_state"] is None
