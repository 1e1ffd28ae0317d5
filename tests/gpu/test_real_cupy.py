"""The real CuPy, if it is installed; most of this needs no GPU."""

import json

import numpy as np
import pytest
import write_signatures

from scratchlstm import Sequential, backend

cupy = pytest.importorskip("cupy")


def test_the_stand_in_knows_cupys_functions():
    known = json.loads(write_signatures.PATH.read_text())
    if known["version"] != cupy.__version__:
        pytest.skip(f"they were read from CuPy {known['version']}, and this is {cupy.__version__}")
    assert write_signatures.signatures(cupy) == known


def test_the_stand_in_has_no_method_that_cupy_has_not():
    import cupy_standin

    own = {"memory"}
    assert {name for name in dir(cupy_standin.ndarray) if not name.startswith("_")} - own <= set(dir(cupy.ndarray))


def test_the_stand_in_has_of_cuda_what_cupy_has():
    import cupy_standin

    own = cupy_standin.CUPY
    for ours, theirs in (
        (own.cuda, cupy.cuda),
        (own.cuda.runtime, cupy.cuda.runtime),
        (own.cuda.Device(), cupy.cuda.Device),
        (own.get_default_memory_pool(), cupy.get_default_memory_pool()),
    ):
        names = {name for name in dir(ours) if not name.startswith("_")}
        assert names
        assert names <= set(dir(theirs))


def test_without_a_gpu_it_says_what_to_do(no_gpu):
    if not no_gpu:
        pytest.skip("there is a GPU")
    with pytest.raises((ImportError, RuntimeError), match=r'CuPy.*; .*or use\s+backend="numpy"'):
        Sequential(backend="cupy")
    with pytest.warns(UserWarning, match='backend="auto" uses NumPy: CuPy'):
        assert Sequential(backend="auto").backend == "numpy"


@pytest.mark.gpu
def test_numpys_functions_are_handed_over(no_gpu):
    if no_gpu:
        pytest.skip(no_gpu)
    x = cupy.asarray(np.arange(6.0).reshape(2, 3))
    assert backend.is_cupy(np.tanh(x))
    assert backend.is_cupy(np.sum(x))
    with pytest.raises(TypeError):
        np.asarray(x)
