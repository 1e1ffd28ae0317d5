"""BLAS has one thread while a model computes, and then what it had; shared work gives the same results."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from scratchlstm import Sequential
from scratchlstm._support import threads
from scratchlstm._support.threads import SETTINGS, one_blas_thread, product, spread
from scratchlstm.callbacks import LambdaCallback
from scratchlstm.layers import LSTM, Bidirectional, Dense, Embedding


def blas_threads():
    assert np.zeros(1).size  # NumPy is loaded, and its library with it
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture
def two_threads(monkeypatch):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one processor has one thread")
    with threadpool_limits(limits=2, user_api="blas"):
        if blas_threads() != {2}:
            pytest.skip("this library's threads cannot be set")
        yield


@pytest.fixture
def three_share_all(monkeypatch):
    """Three threads share whatever may be shared, however small."""
    monkeypatch.setattr(threads, "LARGE", 0)
    monkeypatch.setattr(threads, "threads", lambda: 3)


# --- BLAS -------------------------------------------------------------------------------------------------------------


def test_one_within_and_afterwards_as_before(two_threads):
    with one_blas_thread(sharing=True):
        assert blas_threads() == {1}
    assert blas_threads() == {2}
    with pytest.raises(KeyError), one_blas_thread(sharing=True):
        raise KeyError
    assert blas_threads() == {2}


@pytest.mark.parametrize("name", SETTINGS)
def test_what_the_user_set_stays(two_threads, monkeypatch, name):
    monkeypatch.setenv(name, "2")
    with one_blas_thread(sharing=True):
        assert blas_threads() == {2}
        assert threads.threads() == 1  # BLAS has its own, and nothing is shared on top of that


def test_an_empty_setting_is_none(two_threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    with one_blas_thread(sharing=True):
        assert blas_threads() == {1}


def test_the_last_to_leave_restores(two_threads):
    """Two of the program's threads; the first to enter is the first to leave."""
    entered, may_leave, seen = threading.Event(), threading.Event(), []

    def other():
        with one_blas_thread():
            entered.set()
            may_leave.wait(10)
            seen.append(blas_threads())

    with one_blas_thread():
        thread = threading.Thread(target=other)
        thread.start()
        assert entered.wait(10)
    assert blas_threads() == {1}
    may_leave.set()
    thread.join()
    assert seen == [{1}]
    assert blas_threads() == {2}


def test_workers_share_nothing(two_threads):
    """Each of several processes has one thread for all it does, though its batches ask for more."""
    with one_blas_thread(), one_blas_thread(sharing=True):
        assert threads.threads() == 1
    with one_blas_thread(sharing=True), one_blas_thread():
        assert threads.threads() == 2
    assert threads.threads() == 1


def test_training_and_inference_use_one_thread_and_callbacks_the_users(two_threads, monkeypatch):
    seen = {}

    class Watched(Dense):
        def forward(self, x, run):
            seen["training" if run.training else "inference"] = blas_threads(), threads.threads()
            return super().forward(x, run)

    model = Sequential([Watched(1, input_shape=(3,))], seed=0)
    model.compile("sgd", "mse")
    x, y = np.ones((4, 3)), np.ones(4)
    model.fit(x, y, verbose=0, callbacks=[LambdaCallback(on_epoch_end=lambda *_: seen.update(callback=blas_threads()))])
    assert seen.pop("training") == ({1}, 2)
    assert seen.pop("callback") == {2}
    for use in (model.train_on_batch, partial(model.evaluate, verbose=0)):
        use(x, y)
        assert seen.popitem()[1] == ({1}, 2)
    model.predict(x, verbose=0)
    assert seen.pop("inference") == ({1}, 2)
    assert blas_threads() == {2}


def test_a_recurrent_layer_by_itself_uses_one_thread(two_threads, monkeypatch):
    seen = []
    lstm = LSTM(2)
    for method in ("scan", "scan_only", "scan_back"):
        original = getattr(lstm, method)
        monkeypatch.setattr(lstm, method, lambda *args, run=original: (seen.append(blas_threads()), run(*args))[1])
    x = np.ones((2, 3, 4))
    lstm.backward(*lstm.forward(x))
    lstm.infer(x)
    assert seen == [{1}] * 3


class Library:
    """A BLAS that has nothing but the number of its threads."""

    def __init__(self, filepath, num_threads):
        self.filepath, self.num_threads = filepath, num_threads

    def get_num_threads(self):
        return self.num_threads

    def set_num_threads(self, number):
        self.num_threads = number


@pytest.fixture
def two_libraries(monkeypatch):
    """The one that is known, and the one that Numba's import brings."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    known, new = Library("numpy", 4), Library("scipy", 8)
    libraries = [known]
    monkeypatch.setattr(threads, "_blas", lambda: libraries)
    monkeypatch.setattr(threads, "_loaded_blas", lambda: [new, known])
    return known, new


@pytest.mark.parametrize("where", ["in a block", "in a block of another thread", "before"])
def test_a_library_that_is_loaded_later_has_one_thread_within_blocks(two_libraries, where):
    known, new = two_libraries
    if where == "before":
        threads.include_new_blas()
        assert (known.num_threads, new.num_threads) == (4, 8)
    with one_blas_thread():
        if where == "in a block":
            threads.include_new_blas()
        elif where != "before":
            thread = threading.Thread(target=threads.include_new_blas)
            thread.start()
            thread.join(10)
        assert (known.num_threads, new.num_threads) == (1, 1)
        threads.include_new_blas()  # changes nothing
    assert (known.num_threads, new.num_threads) == (4, 8)
    with one_blas_thread():
        assert (known.num_threads, new.num_threads) == (1, 1)
    assert (known.num_threads, new.num_threads) == (4, 8)


def test_a_library_that_is_loaded_later_keeps_what_the_user_set(two_libraries, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    with one_blas_thread(sharing=True):
        threads.include_new_blas()
        assert two_libraries[1].num_threads == 8
    assert two_libraries[1].num_threads == 8


# --- sharing ----------------------------------------------------------------------------------------------------------


def test_results_come_in_the_order_of_the_tasks(three_share_all):
    everybody = threading.Barrier(3)  # three threads have to be there at once

    def task(number):
        if number < 3:
            everybody.wait(10)
        return number, threading.get_ident()

    results = spread([partial(task, number) for number in range(20)], 0)
    assert [number for number, _ in results] == list(range(20))
    assert len({thread for _, thread in results}) == 3
    assert spread([]) == []


@pytest.mark.parametrize("bad", [0, 1, 5])
def test_an_error_in_a_task_is_raised(three_share_all, bad):
    def task(number):
        if number == bad:
            raise KeyError(number)

    with pytest.raises(KeyError, match=str(bad)):
        spread([partial(task, number) for number in range(6)], 0)
    assert spread([lambda: 1, lambda: 2], 0) == [1, 2]


def test_threads_that_are_busy_elsewhere_are_not_waited_for(three_share_all):
    release, busy = threading.Event(), threading.Barrier(4)

    def block():
        busy.wait(10)
        release.wait(10)

    elsewhere = threading.Thread(target=spread, args=([block] * 3, 0))
    elsewhere.start()
    busy.wait(10)
    try:
        assert spread([threading.get_ident] * 5, 0) == [threading.get_ident()] * 5
    finally:
        release.set()
    elsewhere.join(10)


def test_where_no_thread_can_be_started_one_does_all(three_share_all, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "_pool", [])
    monkeypatch.setattr(threading.Thread, "start", refuse)
    waiting = threads._queue.qsize()
    assert spread([threading.get_ident] * 5, 0) == [threading.get_ident()] * 5
    assert threads._queue.qsize() == waiting


def test_compiled_loops_use_every_core(monkeypatch):
    monkeypatch.setattr(threads, "_before", [9])
    meeting = threading.Barrier(9, timeout=30)
    with one_blas_thread(sharing=True):
        assert len(set(spread([meeting.wait] * 9, most=9))) == 9  # or nobody gets past the barrier
        with pytest.raises(threading.BrokenBarrierError):
            spread([threading.Barrier(9, timeout=0.2).wait] * 9)


def test_a_number_of_threads_can_be_set():
    with one_blas_thread(threads=3):
        assert threads.threads() == 3
        assert blas_threads() == {1}
    assert threads.threads() == 1


def test_small_work_is_not_shared(monkeypatch):
    monkeypatch.setattr(threads, "threads", lambda: 3)
    assert set(spread([threading.get_ident] * 50, threads.LARGE - 1)) == {threading.get_ident()}


@given(
    rows=st.lists(st.integers(1, 5), min_size=1, max_size=3), n=st.integers(1, 5), p=st.integers(1, 9), data=st.data()
)
@settings(max_examples=60, deadline=None)
def test_a_product_in_parts_is_the_product(rows, n, p, data):
    stack = (data.draw(st.integers(1, 4)),) if len(rows) == 1 and data.draw(st.booleans()) else ()
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(*rows, n)), rng.normal(size=(*stack, n, p))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "LARGE", 0)
        patch.setattr(threads, "threads", lambda: 3)
        np.testing.assert_allclose(found := product(a, b), a @ b, rtol=1e-12, atol=1e-14)
        patch.setattr(threads, "threads", lambda: 1)
        assert np.array_equal(product(a, b), found)


def test_into_how_many_parts_a_product_is_cut_does_not_depend_on_the_threads(monkeypatch):
    seen, spread = [], threads.spread
    monkeypatch.setattr(threads, "spread", lambda tasks: seen.append(len(tasks)) or spread(tasks))
    for count in 1, 2, 3:
        monkeypatch.setattr(threads, "_threads", count)
        product(np.ones((4099, 64), "float32"), np.ones((64, 64), "float32"))
    assert seen == [4, 4, 4]


def _trained(options):
    layers = [
        Embedding(50, 3, input_shape=(6,)),
        Bidirectional(LSTM(4, return_sequences=True, **options)),
        LSTM(5, **options),
        Dense(2),
    ]
    model = Sequential(layers, seed=0)
    model.compile("adam", "mse")
    rng = np.random.default_rng(0)
    losses = model.fit(rng.integers(0, 50, (12, 6)), rng.normal(size=(12, 2)), batch_size=4, epochs=2, verbose=0)
    return [*model.get_weights(), losses.history["loss"]]


@pytest.mark.parametrize("options", [{}, {"dropout": 0.3, "recurrent_dropout": 0.2}], ids=["plain", "dropout"])
@pytest.mark.parametrize("large", [0, 1 << 22], ids=["rows apart", "rows together"])
def test_a_shared_step_is_the_step(monkeypatch, three_share_all, options, large):
    from scratchlstm import optimizers
    from scratchlstm.kernels import numpy_recurrence

    with monkeypatch.context() as patch:
        patch.setattr(threads, "threads", lambda: 1)
        alone = _trained(options)
    monkeypatch.setattr(numpy_recurrence, "_LARGE_STEP", large)
    monkeypatch.setattr(numpy_recurrence, "threads", lambda: 3)
    monkeypatch.setattr(optimizers, "_BLOCK", 8)
    for mine, shared in zip(alone, _trained(options), strict=True):
        np.testing.assert_allclose(shared, mine, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timer that interrupts")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # other libraries' callbacks
def test_ctrl_c_at_any_moment_leaves_no_thread_at_work_and_blas_as_it_was(two_threads, three_share_all, monkeypatch):
    from scratchlstm import optimizers

    monkeypatch.setattr(optimizers, "_BLOCK", 64)
    model = Sequential([Embedding(50, 8, input_shape=(6,)), LSTM(4), Dense(1)], seed=0)
    model.compile("adam", "mse")
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 50, (16, 6)), rng.normal(size=16)
    model.fit(x, y, batch_size=4, verbose=0)

    def state():
        slots = [slot.tobytes() for slots in model.optimizer.state for slot in slots.values()]
        return [*(weight.tobytes() for weight in model.get_weights()), *slots, model.optimizer.iterations]

    def interrupt(*_):
        raise KeyboardInterrupt

    interrupted, before = 0, signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(150):
            then, kept = state(), None
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-4, 6e-3))
                model.fit(x, y, batch_size=4, verbose=0)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt as stop:
                kept = "the weights it had before" in str(stop)
                interrupted += 1
            now = state()
            time.sleep(1e-3)
            assert state() == now, "a thread is still at work"
            assert not kept or now == then
            assert blas_threads() == {2}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 20


@pytest.mark.parametrize("when", ["threading.Thread(target=after_main).start()", "atexit.register(work)"])
def test_what_is_shared_is_done_alone_when_the_program_ends(when):
    program = textwrap.dedent(
        f"""
        import atexit, threading
        from scratchlstm._support import threads

        threads.LARGE, threads.threads = 0, lambda: 3

        def work():
            print(threads.spread([lambda: 1, lambda: 2, lambda: 3], 0))

        def after_main():
            threading.main_thread().join()
            work()

        {when}
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[1, 2, 3]\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_begins_again(three_share_all):
    """Its parent's threads are not there, and the locks that they held would never be released."""
    spread([lambda: None] * 3, 0)
    with threads._lock, one_blas_thread():
        process = os.fork()
        if process == 0:
            right = not threads._inside and spread([lambda: 1, lambda: 2], 0) == [1, 2]
            with one_blas_thread():
                os._exit(0 if right else 1)
    for _ in range(100):
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            break
        time.sleep(0.05)
    else:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        pytest.fail("the forked process hangs")
    assert status == 0


def test_an_optimizer_of_ones_own_is_not_shared(three_share_all, monkeypatch):
    from scratchlstm import optimizers

    callers = set()

    class Own(optimizers.SGD):
        def update(self, *args, **slots):
            callers.add(threading.get_ident())
            super().update(*args, **slots)

    monkeypatch.setattr(optimizers, "_BLOCK", 1)
    w = np.ones((200, 1))
    Own(0.5).apply([w], [np.ones((200, 1))])
    assert callers == {threading.get_ident()}
    np.testing.assert_array_equal(w, 0.5)
