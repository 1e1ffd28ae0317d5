"""Two mistakes in one function: at least one of them is named, and none that is not there."""

import itertools
import random

import pytest

from scratchlstm.exercises.checking import judge
from scratchlstm.exercises.exercise import EXERCISES
from scratchlstm.exercises.mistakes import planted
from scratchlstm.exercises.running import load

pytestmark = pytest.mark.slow

COUNT = 300
AT_ONCE = 40  # mistakes of a function from which pairs are drawn


def pairs_of(exercise, function, rng):
    """Pairs of mistakes that can be made together."""
    known = exercise.mistakes_in(function)
    for pair in itertools.combinations(rng.sample(known, min(AT_ONCE, len(known))), 2):
        try:
            source = planted(exercise.solution, function, *pair)
            compile(source, function, "exec")
        except (ValueError, SyntaxError):
            continue  # both change the same words
        yield exercise, function, source, pair


def test_of_two_mistakes_one_at_least_is_named_and_none_that_is_not_there(tmp_path):
    rng = random.Random(0)
    functions = [(exercise, name) for exercise in EXERCISES for name in exercise.functions]
    pairs = [pairs for each in functions if (pairs := list(pairs_of(*each, rng)))]
    named, false = [], []
    tried = 0
    while tried < COUNT:
        exercise, name, source, pair = rng.choice(rng.choice(pairs))
        (tmp_path / "answer.py").write_text(source, encoding="utf-8")
        verdict = judge(exercise, name, load(tmp_path / "answer.py")[name])
        if verdict.state == "right":
            continue  # one undoes the other
        tried += 1
        said = {each.says for each in exercise.mistakes_in(name) if each.says in verdict.says}
        said -= {each for each in said if any(each in other for other in said - {each})}  # part of another sentence
        there = {each.says for each in pair}
        # of the equations of a whole step, the number is what names a mistake
        numbers = [each.partition(":")[0] for each in there] if name == "step_backward" else []
        named.append(bool(said & there) or any(number in verdict.says for number in numbers))
        if said - there:
            false.append((pair, verdict.says))
    assert sum(named) >= 0.95 * COUNT
    assert len(false) <= 0.01 * COUNT, false
