"""Compiled code: kept on disk, never stale, and never needed."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import scratchlstm
from scratchlstm._support import compiled, numba_cache, ranks
from scratchlstm._support.compiled import exact_loop, loop
from scratchlstm.layers import LSTM

numba = pytest.importorskip("numba")
PACKAGE = Path(scratchlstm.__file__).parent


@loop
def inner(x):
    return x + 1


def less(x):
    return x - 1


def outer(x):
    return 2 * inner(x)


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """An empty cache, and no line printed yet."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    for said in (numba_cache._say_once, numba_cache._warn_once, compiled.missing, compiled._obstacle):
        said.cache_clear()
    yield tmp_path / "scratchlstm"
    compiled.missing.cache_clear()
    compiled._obstacle.cache_clear()


def loaded(x=1.0):
    """Whether `outer` of x came from the cache, in a simulated second process."""
    function = loop(outer)
    assert function(x) == outer.__globals__["inner"].py_func(x) * 2
    return sum(function.stats.cache_hits.values()) == 1


_ROUNDS = """
import hashlib, sys
import numpy as np
from scratchlstm.layers import GRU, LSTM
rng, hashes = np.random.default_rng(0), {}
layers = [LSTM(8), GRU(8)]
for layer in layers:
    layer.build((4, 3), np.random.default_rng(0))
x = rng.normal(size=(6, 4, 3)).astype("float32")
for what in sys.argv[1:]:
    for layer in layers:
        y, cache = layer.forward(x) if what == "forward" else (layer.infer(x), None)
        dx, gradients = layer.backward(y, cache) if what == "forward" else (y, {})
        digest = hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in (y, dx, *gradients.values())))
        hashes[layer.name, what] = digest.hexdigest()
print(sorted(item for item in hashes.items() if "forward" in item[0]))
"""


@pytest.mark.slow
def test_bits_do_not_depend_on_what_was_compiled_or_loaded_before(tmp_path):
    """Of a function with two copies in memory the first would run, and they might round differently."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(PACKAGE.parent)}
    printed = [
        subprocess.run([sys.executable, "-c", _ROUNDS, *order], env=environment, capture_output=True, check=True).stdout
        for order in (["infer", "forward"], ["forward"])
    ]
    assert printed[0] == printed[1]


# --- kept -------------------------------------------------------------------------------------------------------------


def test_the_second_process_compiles_nothing(folder):
    assert not loaded()
    assert loaded()
    assert not loaded(1)  # of another type
    assert [loaded(), loaded(1)] == [True, True]
    assert not list(folder.glob("*.tmp"))


def _with_a_constant(number):
    @loop
    def inner(x):
        return x + number

    return inner


@pytest.mark.parametrize("other", [lambda: loop(less), lambda: exact_loop(inner.py_func)], ids=["less", "exact"])
def test_another_function_in_its_place_is_compiled(monkeypatch, other):
    assert not loaded()
    with monkeypatch.context() as patch:
        patch.setitem(outer.__globals__, "inner", other())
        assert not loaded()
    assert loaded()


def test_every_process_finds_it_under_the_same_name():
    program = """
from scratchlstm._support.numba_cache import _meaning
from scratchlstm.kernels.numba_lstm import forward_rows
from scratchlstm.kernels.numba_optimizers import adam
print(_meaning(forward_rows), _meaning(adam))
"""
    command = [sys.executable, "-c", program]
    seeds = [os.environ | {"PYTHONHASHSEED": seed} for seed in "12"]
    one, two = (subprocess.run(command, env=env, capture_output=True, timeout=60, check=True).stdout for env in seeds)
    assert one == two


def test_a_constant_is_part_of_the_function(monkeypatch):
    for number, hit in (2, False), (3, False), (2, True):
        monkeypatch.setitem(outer.__globals__, "inner", _with_a_constant(number))
        function = loop(outer)
        assert function(1.0) == 2 + 2 * number
        assert sum(function.stats.cache_hits.values()) == hit


@pytest.mark.parametrize("changed", ["a source", "Numba"])
def test_what_other_sources_or_another_numba_compiled_is_not_used(monkeypatch, changed):
    assert not loaded()
    with monkeypatch.context() as patch:
        numba_cache._sources.cache_clear()
        if changed == "Numba":
            patch.setattr(numba, "__version__", "0.1")
        else:
            read = Path.read_bytes
            patch.setattr(Path, "read_bytes", lambda path: read(path) + b"#" * (path.name == "numba_activations.py"))
        numba_cache._sources()
    assert not loaded()
    numba_cache._sources.cache_clear()
    assert loaded()


def test_the_cache_knows_every_file_that_has_loops():
    imported = re.compile(r"compiled import .*loop\b")
    users = [path for path in PACKAGE.rglob("*.py") if imported.search(path.read_text("utf-8"))]
    assert users
    assert {(len(path.relative_to(PACKAGE).parts), path.name[:6]) for path in users} == {(2, "numba_")}


def _folder_in_its_place(path):
    path.unlink()
    path.mkdir()


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "one bit": lambda path: path.write_bytes(path.read_bytes()[:-5] + bytes([path.read_bytes()[-5] ^ 1]) + b"1234"),
    "no pickle": lambda path: path.write_bytes(numba_cache.sha256(b"?").digest() + b"?"),
    "a folder": _folder_in_its_place,
    "gone": Path.unlink,
}


@pytest.mark.filterwarnings("ignore:compiled loops cannot be cached")
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_what_is_damaged_is_compiled_again(folder, damage):
    assert not loaded()
    for path in folder.iterdir():
        damage(path)
    assert not loaded()
    if not any(path.is_dir() for path in folder.iterdir()):
        assert loaded()


def test_where_the_first_folder_cannot_be_written_the_second_keeps_it(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr(numba_cache, "folders", lambda: [tmp_path / "file" / "first", tmp_path / "second"])
    assert not loaded()
    assert loaded()
    assert list((tmp_path / "second").glob("test_compiled.outer-*"))


def test_without_any_folder_there_is_one_warning_and_the_result(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr(numba_cache, "folders", lambda: [tmp_path / "file" / "first"])
    with pytest.warns(UserWarning, match="cannot be cached, .*; set NUMBA_CACHE_DIR to .*first") as warned:
        assert [loaded(), loaded()] == [False, False]
    assert len(warned) == 1


def test_without_source_files_there_is_one_warning_and_the_result(monkeypatch):
    """In a zip file, or as bytecode alone."""

    def sources():
        raise FileNotFoundError("compiled.py")

    monkeypatch.setattr(numba_cache, "_sources", sources)
    with pytest.warns(UserWarning, match="source files are missing") as warned:
        assert [loaded(), loaded()] == [False, False]
    assert len(warned) == 1


def test_compiling_has_a_stack_of_its_own(monkeypatch):
    """With the 64 KB that a program may set for its own threads, it would end the process."""
    sizes, submit = [], ThreadPoolExecutor.submit
    monkeypatch.setattr(
        ThreadPoolExecutor, "submit", lambda *given: (sizes.append(threading.stack_size()), submit(*given))[1]
    )
    before = threading.stack_size(1 << 16)
    try:
        assert not loaded()
    finally:
        after = threading.stack_size(before)
    assert sizes
    assert min(sizes) >= 1 << 23
    assert after == 1 << 16


def test_where_it_is_looked_for(monkeypatch, tmp_path):
    assert numba_cache.folders() == [tmp_path / "scratchlstm"]
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("SCRATCHLSTM_CACHE", str(tmp_path))
    assert numba_cache.folders() == [PACKAGE / "_support" / "__pycache__", tmp_path / "compiled"]
    monkeypatch.delenv("SCRATCHLSTM_CACHE")
    monkeypatch.setattr(Path, "home", partial(exec, "raise RuntimeError('no home')"))
    assert numba_cache.folders() == [PACKAGE / "_support" / "__pycache__"]


def test_what_has_not_been_used_for_long_is_removed(folder):
    folder.mkdir()
    own = numba_cache._sources()
    names = {f"numba_lstm.f-{sources}-{age}.nbc": age for sources in (own, "0" * 16) for age in ("new", "old")}
    for name, age in names.items():
        (folder / name).touch()
        if age == "old":
            os.utime(folder / name, (0, 0))
    assert not loaded()
    assert [name for name in names if not (folder / name).exists()] == ["numba_lstm.f-0000000000000000-old.nbc"]


# --- the line ---------------------------------------------------------------------------------------------------------


def test_the_first_compilation_is_said_in_one_line(capsys):
    assert not loaded()
    assert not loaded(1)
    said = capsys.readouterr()
    assert re.fullmatch("scratchlstm compiles its loops, .*\n", said.err)
    assert said.out == ""


def test_loading_is_not_said(capsys):
    assert not loaded()
    numba_cache._say_once.cache_clear()
    capsys.readouterr()
    assert loaded()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("follows", ["a worker", "a rank"])
def test_only_one_of_several_processes_says_it(monkeypatch, capsys, follows):
    if follows == "a rank":
        monkeypatch.setattr(ranks, "rank", 1)
    else:
        monkeypatch.setattr(numba_cache, "parent_process", lambda: "another")
    assert not loaded()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("stderr", [None, "closed"])
def test_without_a_place_to_say_it_nothing_is_said(monkeypatch, stderr):
    if stderr:
        stderr = open(os.devnull, "w")  # noqa: SIM115
        stderr.close()
    monkeypatch.setattr(sys, "stderr", stderr)
    assert not loaded()


# --- what may be missing ----------------------------------------------------------------------------------------------


def _used(implementation="fused"):
    return LSTM(2, implementation=implementation, name="lstm").infer(np.ones((1, 2, 3)))


@pytest.mark.parametrize("name", ["numba", "scipy"])
def test_nobody_needs_what_is_not_installed(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf'^lstm has .*pip install "scratchlstm\[fast\]" \({name} is not installed'):
        _used("compiled")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _used()
    assert LSTM(2).runs == "numpy"


def test_a_numba_that_cannot_be_used_is_warned_of_once(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "numba")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "numba.py").write_text("raise ImportError('Numba needs NumPy 1.0 or less')")
    with pytest.raises(ImportError, match=r"lstm has.*\[fast\].*\(ImportError: Numba needs NumPy 1.0 or less\)"):
        _used("compiled")
    with pytest.warns(UserWarning, match="NumPy is used .* ImportError: Numba needs NumPy 1.0 or less$") as warned:
        [_used() for _ in range(2)]
    assert len(warned) == 1
    assert warned[0].filename == __file__


def test_loops_that_would_not_be_compiled_do_not_run(monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    with pytest.raises(ImportError, match="lstm has .*: unset NUMBA_DISABLE_JIT$"):
        _used("compiled")
    _used()
    assert LSTM(2).runs == "numpy"


# --- where it runs ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_any_processor_threads_and_processes(tmp_path):
    """On a processor without AVX2: the first fits, at once in two threads; one core; no threads; a forked process."""
    program = textwrap.dedent(
        """
        import os, threading
        import numpy as np
        from scratchlstm import Sequential
        from scratchlstm._support import threads
        from scratchlstm.layers import LSTM, Dense

        def trained(implementation):
            rng = np.random.default_rng(0)
            model = Sequential([LSTM(9, input_shape=(7, 5), implementation=implementation), Dense(1)], seed=0)
            model.compile("adam", "mse")
            model.fit(rng.normal(size=(8, 7, 5)), rng.normal(size=8), epochs=3, verbose=0)
            return np.concatenate([weight.ravel() for weight in model.get_weights()])

        barrier, results = threading.Barrier(2), []

        def fit():
            barrier.wait()
            results.append(trained("compiled"))

        both = [threading.Thread(target=fit) for _ in range(2)]
        for thread in both: thread.start()
        for thread in both: thread.join()
        assert len(results) == 2

        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])
        threads.LARGE, threads._pool[:] = 0, []
        start = threading.Thread.start
        def refuse(thread): raise RuntimeError("can't start new thread")
        threading.Thread.start = refuse
        results.append(trained("compiled"))
        threading.Thread.start = start

        assert (results[0] == results[1]).all() and (results[0] == results[2]).all()
        if hasattr(os, "fork"):
            child = os.fork()
            if not child:
                os._exit(0 if (trained("compiled") == results[0]).all() else 1)
            assert os.waitpid(child, 0)[1] == 0
        np.testing.assert_allclose(results[0], trained("textbook"), rtol=1e-4, atol=1e-6)
        """
    )
    settings = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    program = "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n" + program  # a fork with threads
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | settings, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1  # that it compiles


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timer that interrupts")
def test_ctrl_c_while_compiling_leaves_what_can_be_compiled(folder):
    def interrupt(*_):
        raise KeyboardInterrupt

    interrupted, before = 0, signal.signal(signal.SIGALRM, interrupt)
    try:
        for number in range(1, 9):
            function = loop(outer)
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.004 * number)
                function(1.0)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
            assert function(1.0) == 4
            assert loaded()
            for path in folder.glob("*"):
                path.unlink()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted


def test_numba_is_imported_when_it_is_first_needed(tmp_path):
    """Not to import the package, nor to build a model, look at it and save it."""
    program = textwrap.dedent(
        f"""
        import sys, scratchlstm
        from scratchlstm import Sequential
        from scratchlstm.layers import GRU, LSTM, Dense
        model = Sequential([LSTM(2, input_shape=(3, 1), return_sequences=True), GRU(2), Dense(1)])
        model.compile("adam", "mse")
        model.summary()
        model.save({str(tmp_path / "model.npz")!r})
        assert not {{"numba", "llvmlite", "scipy"}} & set(sys.modules)
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
