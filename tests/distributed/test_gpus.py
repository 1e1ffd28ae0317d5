"""A rank for each GPU: its gradients go through the memory of the CPU."""

import json
import os
from pathlib import Path

import pytest
import raw_module

pytestmark = pytest.mark.mpi
HERE = Path(__file__).parent


@pytest.mark.skipif(raw_module.compiler() is None, reason="the kernels' emulator needs a C++ compiler")
def test_ranks_on_gpus_train_as_one_process_and_alike(on_ranks):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE.parent / "standin")])}
    done = on_ranks(3, HERE / "on_gpus.py", env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[0])
    assert found["kinds"] == 1
    assert found["gpus"] == [0, 1, 0]  # each has the GPU of its number on the machine
    assert found["moved"] > 0.1
    assert found["off"] < 1e-9
