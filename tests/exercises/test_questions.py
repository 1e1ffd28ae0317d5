"""Every exercise: what is handed out, and that each known mistake is recognized and named with its equation."""

import ast
import inspect
import re

import pytest

from scratchlstm.exercises import questions
from scratchlstm.exercises.checking import judge
from scratchlstm.exercises.exercise import EXERCISES
from scratchlstm.exercises.mistakes import planted
from scratchlstm.exercises.running import load

FUNCTIONS = [pytest.param(exercise, name, id=name) for exercise in EXERCISES for name in exercise.functions]
every_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=questions.ORDER)
every_function = pytest.mark.parametrize(("exercise", "name"), FUNCTIONS)
FEW = 60  # mistakes of one function; of more, which repeat those of functions before, every sixth is tried


def names_in(source, folder):
    """What a learner's file defines."""
    folder.joinpath("answer.py").write_text(source, encoding="utf-8")
    return load(folder / "answer.py")


def test_no_two_exercises_ask_for_a_function_of_the_same_name():
    names = [name for exercise in EXERCISES for name in exercise.functions]
    assert len(set(names)) == len(names)
    # so that `check NAME` and `hint NAME` mean one thing
    assert not set(names) & set(questions.ORDER) - {"every_step", "truncated"}  # the only functions of theirs


def test_there_are_enough_known_mistakes():
    assert sum(len(exercise.mistakes) for exercise in EXERCISES) >= 60
    few = {name: n for each in EXERCISES for name in each.functions if (n := len(each.mistakes_in(name))) < 2}
    assert not few


@every_function
def test_the_solution_is_right(exercise, name, tmp_path):
    verdict = judge(exercise, name, names_in(exercise.solution, tmp_path)[name])
    assert (verdict.state, verdict.says) == ("right", "")  # in float64


@every_function
def test_what_is_handed_out_is_open_or_has_a_bug(exercise, name, tmp_path):
    handed_out = names_in(exercise.text, tmp_path)[name]
    verdict = judge(exercise, name, handed_out)
    source = inspect.getsource(exercise.functions[name])
    to_mend = any(bug.old in source for bug in getattr(exercise.module, "BUGS", ()))
    assert verdict.state == ("wrong" if to_mend else "open"), verdict


@every_exercise
def test_the_solution_is_not_handed_out(exercise):
    ast.parse(exercise.text)
    answers = re.findall(r"^ *(.*?)  # (?:\(.+?\) )?\?-?$", exercise.solution, re.MULTILINE)
    assert answers or hasattr(exercise.module, "BUGS")
    assert not [line for line in answers if line in exercise.text]
    assert exercise.solution not in exercise.text
    assert "Mistake" not in exercise.text
    assert "HINTS" not in exercise.text


@every_function
def test_a_function_says_its_equation_and_its_shapes_and_has_three_hints(exercise, name):
    doc = inspect.getdoc(exercise.functions[name])
    assert exercise.equation(name), doc
    assert re.search(r"\([A-Z0-9]\w*, .*?\)|shape|number", doc + (exercise.module.__doc__ or "")), doc
    hints = exercise.hints[name]
    assert len(hints) == len(set(hints)) == 3
    assert exercise.hints.keys() == exercise.functions.keys()


@every_function
def test_each_mistake_is_recognized_with_its_equation(exercise, name, tmp_path):
    known = exercise.mistakes_in(name)
    for mistake in known if len(known) <= FEW else known[::6]:
        wrong = names_in(planted(exercise.solution, exercise.name, mistake), tmp_path)[name]
        verdict = judge(exercise, name, wrong)
        assert verdict.state == "wrong", mistake
        assert mistake.says in verdict.says, (mistake, verdict.says)
        assert f"{name} {exercise.equation(name)} is wrong: " in str(verdict)


@every_exercise
def test_a_mistake_is_in_a_function(exercise):
    recognized = {mistake for name in exercise.functions for mistake in exercise.mistakes_in(name)}
    assert recognized == set(exercise.mistakes)
