"""The number of BLAS threads: one where nobody asked for more, and afterwards what it was."""

import os

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from scratchlstm.threads import SETTINGS, one_blas_thread_unless_set


def threads():
    assert np.zeros(1).size  # NumPy is loaded, and its library with it
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture
def two_threads(monkeypatch):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one processor has one thread")
    with threadpool_limits(limits=2, user_api="blas"):
        if threads() != {2}:
            pytest.skip("this library's threads cannot be set")
        yield


def test_one_within_and_afterwards_as_before(two_threads):
    with one_blas_thread_unless_set():
        assert threads() == {1}
    assert threads() == {2}
    with pytest.raises(KeyError), one_blas_thread_unless_set():
        raise KeyError
    assert threads() == {2}


@pytest.mark.parametrize("name", SETTINGS)
def test_what_the_user_set_stays(two_threads, monkeypatch, name):
    monkeypatch.setenv(name, "2")
    with one_blas_thread_unless_set():
        assert threads() == {2}


def test_an_empty_setting_is_none(two_threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    with one_blas_thread_unless_set():
        assert threads() == {1}
