"""An answer that cannot be compared: each in a sentence that a beginner understands, from a file and in a notebook."""

import contextlib
import inspect
import os
import sys
import threading
import time
from functools import partial

import numpy as np
import psutil
import pytest

from scratchlstm.exercises import check, running
from scratchlstm.exercises.checking import find, judge
from scratchlstm.exercises.limits import TooLongError, limited
from scratchlstm.gates import lstm_backward, lstm_step_backward

pytestmark = pytest.mark.slow

OUTPUT_GATE = find("do")


def verdict(function, name="do"):
    return judge(find(name), name, function)


def written(source, name="do"):
    scope = {"np": np}
    exec(source, scope)
    return verdict(scope[name], name)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("dh * tanh_c", "it returns nothing: is `return` missing?"),
        ("return [dh * tanh_c]", "it must be an array, not a list: use np.stack or np.array"),
        ("return (dh * tanh_c).tolist()", "it must be an array, not a list"),
        ("return dh, tanh_c", "it must be an array, not a tuple"),
        ("return 'dh * tanh_c'", "it must be an array of numbers, not 'dh * tanh_c'"),
        ("return lambda: dh", "it must be an array of numbers, not function"),
        ("return (dh * tanh_c).T", "it is the transpose of the right one"),
        ("return dh * tanh_c * 1j", "it must be an array of numbers, not an array of complex128"),
        ("return (dh * tanh_c)[None]", "the values are right, but in the shape (1, 3, 2), not (3, 2)"),
        (
            "return np.log(dh - 100)",
            "it is NaN or infinite at [0, 0]: look for a division by 0, exp of a large number, or the",
        ),
        ("return np.sum(dh * tanh_c, axis=0)", "it must have the shape (3, 2), that is (B, H), not (2,)"),
        ("return 1.0", "it must have the shape (3, 2), that is (B, H), not ()"),
        (
            "return (dh * tanh_c)[None] / np.ones((2, 1, 1)) / 2",
            "the sum over its first axis is missing: np.sum(..., axis=0)",
        ),
        ("return np.where(dh > 0, dh * tanh_c, np.nan)", "it is NaN or infinite at ["),
        ("return dh / 0", "it is NaN or infinite at [0, 0]: look for a division by 0"),
        ("dh *= tanh_c\n    return dh", "it changes its argument dh; compute a new array, or change a copy of it"),
        ("return dh * tanhc", "NameError: name 'tanhc' is not defined"),
        ("return dh @ tanh_c", "(shapes: dh (3, 2), o (3, 2), c (3, 2), tanh_c (3, 2))"),
        ("return dh.no_such", "AttributeError: 'numpy.ndarray' object has no attribute 'no_such'"),
        ("raise ValueError('x' * 10_000)", "xxx ..."),
        ("return (dh * tanh_c).astype(complex)", "it must be an array of numbers, not an array of complex128"),
        ("return (dh * tanh_c).astype(object)", "it must be an array of numbers, not an array of object"),
        (
            "return type('Own', (), {'__array__': lambda *a, **k: 1 / 0})()",
            "it must be an array, not a Own",
        ),
        ("raise type('Own', (Exception,), {'__str__': lambda self: 1})", "line 2: Own"),
        ("raise SystemExit(3)", "this ends the program, so nothing could be checked: remove it"),
        (
            "return np.arange(6.0).reshape(3, 2)",
            "the values are wrong, but not by any mistake known here. At [0, 0]",
        ),
    ],
)
def test_in_a_sentence(body, says):
    found = written(f"def do(dh, o, c, tanh_c):\n    {body}")
    assert found.state == "wrong"
    assert says in found.says


def test_the_line_is_the_learners():
    def do(dh, o, c, tanh_c):
        return np.linalg.inv(dh) @ tanh_c

    assert "`return np.linalg.inv(dh) @ tanh_c`: LinAlgError" in verdict(do).says


@pytest.mark.parametrize("signature", ["a, b, c", "", "dh, o, c, tanh_c, more", "*, dh, o, c, tanh_c", "dh, o, c, t"])
def test_other_arguments(signature):
    found = written(f"def do({signature}):\n    return np.ones((3, 2))")
    names = "dh, o, c, tanh_c"
    if signature != "dh, o, c, t":  # as many as are given
        assert found.says == f"it must take {names}, in this order, or any of them by these names"
    assert found.state == "wrong"


@pytest.mark.parametrize("signature", ["dh, tanh_c", "tanh_c, dh", "tanh_c, o, c, dh", "c, tanh_c, o, dh"])
def test_arguments_by_their_names(signature):
    assert written(f"def do({signature}):\n    return dh * tanh_c").state == "right"
    assert "the factor tanh(c) is missing" in written(f"def do({signature}):\n    return dh").says
    assert "it changes its argument dh" in written(f"def do({signature}):\n    dh *= tanh_c\n    return dh").says


@pytest.mark.parametrize("signature", ["a, b, p, q", "a, b, p, q, more=1", "a, *rest"])
def test_names_of_arguments_are_free(signature):
    last = "rest[-1]" if "rest" in signature else "q"
    assert written(f"def do({signature}):\n    return a * {last}").state == "right"


@pytest.mark.parametrize("body", ["return ...", "x = ...\n    return x * dh", "return dh * ..."])
def test_dots_are_left(body):
    assert written(f"def do(dh, o, c, tanh_c):\n    {body}").state == "open"


def test_float32_is_right_and_told():
    found = written("def do(dh, o, c, tanh_c):\n    return (dh * tanh_c).astype(np.float32)")
    assert (found.state, found.says) == ("right", "but only to float32 precision; the arguments are float64")


def test_what_is_nearly_right_is_wrong():
    assert written("def do(dh, o, c, tanh_c):\n    return dh * tanh_c * 1.0001").state == "wrong"


def test_a_function_that_does_not_say_what_it_takes():
    assert verdict(max).state == "wrong"


def test_an_endless_loop_in_a_notebook(monkeypatch):
    def do(dh, o, c, tanh_c):
        while True:
            with contextlib.suppress(Exception):
                dh = dh + 1

    monkeypatch.setattr("scratchlstm.exercises.checking.limited", partial(limited, seconds=0.2))
    found = verdict(do)
    assert found.state == "wrong"
    assert "still running after" in found.says
    assert "does a loop never end?" in found.says


def test_a_loop_that_catches_everything_is_stopped_all_the_same():
    def stubborn():
        while True:  # the second time it is too late
            try:
                while True:
                    pass
            except BaseException as error:
                caught.append(error)

    caught: list[BaseException] = []
    with pytest.raises(TooLongError):
        limited(stubborn, seconds=0.05)
    assert 1 <= len(caught) <= 2


def test_a_loop_with_a_bare_except_inside_is_stopped_and_leaves_no_trace_function():
    def stubborn():
        while True:
            try:
                while True:
                    time.sleep(0.01)
            except:  # noqa: E722
                pass

    before = sys.gettrace()
    with pytest.raises(TooLongError):
        limited(stubborn, seconds=0.05)
    time.sleep(0)
    _spin(0.1)
    assert sys.gettrace() in (before, None)


def test_an_endless_loop_is_waited_for_once(monkeypatch):
    def dz_of_each_step(*given):
        calls.append(given)
        while True:
            pass

    calls: list[tuple] = []
    monkeypatch.setattr("scratchlstm.exercises.checking.limited", partial(limited, seconds=0.1))
    found = verdict(dz_of_each_step)
    assert "still running" in found.says
    assert len(calls) == 1


def _spin(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_the_limit_in_another_thread_and_none_afterwards():
    ended = []

    def work():
        try:
            limited(_spin, 60, seconds=0.05)
        except TooLongError:
            ended.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert ended == [True]
    for _ in range(50):  # at the moment at which the time is over
        with contextlib.suppress(TooLongError):
            limited(_spin, 0.002, seconds=0.002)
    _spin(0.6)  # long enough for a limit that was not lifted


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (
            np.ones(3),
            TypeError,
            r"check takes the function itself, check\(f\), not its result, check\(f\(...\)\): an array",
        ),
        (len, ValueError, "no exercise asks for a function 'len'; they ask for sigmoid_prime, "),
        (lambda z: z, ValueError, "no exercise asks for a function '<lambda>'"),
    ],
)
def test_not_a_function_of_an_exercise(value, error, message):
    with pytest.raises(error, match=message):
        check(value)


@pytest.mark.parametrize(("name", "meant"), [("sigmoid_prim", "sigmoid_prime"), ("Dz_F", "dz_f"), ("dX", "dx")])
def test_a_name_that_is_nearly_right(name, meant):
    with pytest.raises(
        ValueError, match=rf"did you mean {meant}\?; if yours has another name.*check\(function, \"do\"\)"
    ):
        check(lambda s: s, name)


def test_several_results_in_another_order():
    source = inspect.getsource(find("step_backward").functions["step_backward"])
    right, other = "return dx, dh_prev, dc_prev, dW, dU, db", "return dW, dU, db, dx, dh_prev, dc_prev"
    assert right in source
    found = written("from scratchlstm.gates import *\n" + source.replace(right, other), "step_backward")
    assert found.says == f"the values are right, but in another order; {right}"


def test_code_without_its_source_is_quoted_by_the_line_alone():
    assert "line 2: NameError: name 'tanhc'" in written("def do(dh, o, c, tanh_c):\n    return dh * tanhc").says


FILES = {
    "does not parse": ("def do(dh:\n", "line 1 is not valid Python: '(' was never closed: def do(dh:"),
    "does not import": (
        "\nimport no_such_module\n",
        "line 2, `import no_such_module`: ModuleNotFoundError: No module named",
    ),
    "ends Python": ("import os\nos._exit(3)\n", "could not be checked: Python ended (exit code 3)"),
    "ends the program": ("exit()\n", "line 1, `exit()`: this ends the program"),
    "waits for an answer": ("input('name? ')\n", "line 1, `input('name? ')`: EOFError"),
    "interrupts itself": ("raise KeyboardInterrupt\n", "cannot be run: line 1, `raise KeyboardInterrupt`"),
    "interrupts its check": (
        "def do(dh, o, c, tanh_c):\n    raise KeyboardInterrupt\n",
        "could not be checked: line 2, `raise KeyboardInterrupt`",
    ),
    "raises what cannot be printed": (
        "class Own(Exception):\n    def __str__(self):\n        return 1\n\nraise Own\n",
        "line 5, `raise Own`: Own",
    ),
    "changes NumPy": (
        "import numpy as np\nnp.tanh = np.exp = None\ndef do(dh, tanh_c):\n    return dh\n",
        "could not be checked: TypeError: 'NoneType' object is not callable",
    ),
    "is not text": (b"\xff\xfe\x00", "cannot be run: "),
    "is in Latin-1": (b'name = "\xfc"\n', "it has characters that are not UTF-8: save it in that encoding"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_cannot_be_run(tmp_path, case):
    content, says = FILES[case]
    path = tmp_path / "01_hidden_state.py"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (found,) = running.judge_file(OUTPUT_GATE, path)
    assert found.state == "wrong"
    assert says in found.says


def test_a_file_is_a_module_as_others(tmp_path):
    path = tmp_path / "01_hidden_state.py"
    lines = [
        "from __future__ import annotations",
        "import dataclasses",
        "@dataclasses.dataclass",
        "class Own:",
        "    n: int",
    ]
    path.write_text("\n".join(lines) + "\n\ndef do(dh, o, c, tanh_c):\n    return dh * tanh_c\n")
    assert [each.state for each in running.judge_file(OUTPUT_GATE, path)] == ["right"]


def test_a_missing_file_and_a_missing_function(tmp_path):
    path = tmp_path / "01_hidden_state.py"
    (found,) = running.judge_file(OUTPUT_GATE, path)
    assert "there is no file 01_hidden_state.py in" in found.says
    path.write_text("def another(): pass\n")
    (found,) = running.judge_file(OUTPUT_GATE, path)
    assert found.says == "there is no function do in 01_hidden_state.py"


def test_what_was_judged_before_a_crash_is_kept(tmp_path):
    slopes, path = find("tanh_prime"), tmp_path / "01_slopes.py"
    crash = "def tanh_prime(t):\n    import os\n    os._exit(1)\n"
    path.write_text("def sigmoid_prime(s):\n    return s * (1 - s)\n" + crash)
    first, second = running.judge_file(slopes, path)
    assert first.state == "right"
    assert "Python ended (exit code 1)" in second.says


def test_what_a_file_prints_is_not_what_the_command_says(tmp_path, capfd):
    path = tmp_path / "01_hidden_state.py"
    path.write_text(
        "import os\nprint('printed')\nos.system('echo from a program of its own')\ndo = lambda *given: 1.0\n"
    )
    running.judge_file(OUTPUT_GATE, path)
    output, errors = capfd.readouterr()
    assert not output
    assert "printed" in errors
    assert "from a program of its own" in errors


def _ended(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # nobody waits for it


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_a_file_that_forks(tmp_path):
    slopes, path, left = find("tanh_prime"), tmp_path / "01_slopes.py", tmp_path / "left"
    child = f"    open({str(left)!r}, 'w').write(str(os.getpid()))\n    while True: pass\n"
    functions = "def sigmoid_prime(s):\n    return s * (1 - s)\ndef tanh_prime(t):\n    return t\n"
    path.write_text(f"import os\nos.fork()\n{functions}")
    assert [each.state for each in running.judge_file(slopes, path)] == ["right", "wrong"]
    wait = f"while not (os.path.exists({str(left)!r}) and open({str(left)!r}).read()): pass\n"
    path.write_text(f"import os\nif os.fork() == 0:\n{child}{wait}{functions}")
    assert [each.state for each in running.judge_file(slopes, path)] == ["right", "wrong"]
    assert any(_ended(int(left.read_text())) or time.sleep(0.01) for _ in range(500))


def test_a_call_that_never_returns_to_python(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "_WAIT", 2.0)
    path = tmp_path / "01_hidden_state.py"
    path.write_text("import time\ndef do(dh, o, c, tanh_c):\n    time.sleep(1000)\n")
    (found,) = running.judge_file(OUTPUT_GATE, path)
    assert found.says == "01_hidden_state.py could not be checked: it did not end"


def test_a_busy_machine_is_no_endless_loop(monkeypatch):
    monkeypatch.setattr("time.process_time", lambda: 0.0)  # others use the processor
    limited(_spin, 0.3, seconds=0.2)
    with pytest.raises(TooLongError):
        limited(_spin, 60, seconds=0.05)  # but not for ever


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("dh + 0j", "it must be an array of numbers, not an array of complex128"),
        ("np.array([dh, None], dtype=object)", "it must be an array of numbers, not an array of object"),
    ],
)
def test_arrays_of_something_else(value, says):
    assert written(f"def do(dh, o, c, tanh_c):\n    return {value}").says == says


def test_lists_of_different_lengths_for_a_number():
    found = written("def relative_error(p, q):\n    return [1, [2, 3]]", "relative_error")
    assert found.says == "it must be a single number, not a list"


def test_an_array_of_a_cache_is_changed():
    def step_backward(dh, dc_next, cache, W, U):
        result = lstm_step_backward(dh, dc_next, cache, W, U)
        np.multiply(cache.i, 2, out=cache.i)
        return result[:6]

    def every_step(dhs, dc_last, hs, caches, W, U):
        result = lstm_backward(dhs, dc_last, caches, W, U)
        caches[2].f[0, 0] = 0
        return result

    advice = "compute a new array, or change a copy of it"
    assert verdict(step_backward, "step_backward").says == f"it changes an array in its argument cache; {advice}"
    assert verdict(every_step, "every_step").says == f"it changes an array in its argument caches; {advice}"
