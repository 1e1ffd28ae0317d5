"""Ranks that differ stop before the first step, in one line that names what differs, and on which host."""

import re
import socket
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("differences_job.py")


def assert_named(printed, host, other):
    """Check what `differences_job.py` prints on two ranks, one on each of these hosts."""

    def differ(name, one, two, advice=""):
        return rf"the ranks differ: {name} is {one} on rank 0 \({host}\), but {two} on rank 1 \({other}\){advice}"

    install = ": install the same version on all hosts"
    expected = [
        differ("data/x/checksum", r"\d+", r"\d+", ": all ranks need the same data; if it is random, use a seed"),
        differ("seed", 1, 2),
        differ(r"model/\S*/units", 4, 5),
        differ("batch_size", 4, 5),
        rf"rank 0 \({host}\) is at fit, but rank 1 \({other}\) at evaluate: every rank has to call fit, .*",
        differ("the version of Python", "'3.11'", "'3.12'", install),
        differ("the version of NumPy", "'2.1'", "'2.2'", install),
        differ("the version of scratchlstm", "'0.1'", "'0.2'", install),
        differ("the version of Numba", "'0.61'", "'0.62'", install),
        differ("the BLAS/0", "'blas 1'", "'blas 2'", install),
        "trained",
    ]
    assert re.fullmatch("\n".join([*expected, ""]), printed), printed


@pytest.mark.mpi
def test_what_differs_is_named(on_ranks, tmp_path):
    done = on_ranks(2, SCRIPT, tmp_path)
    assert_named(done.stdout, *[re.escape(socket.gethostname())] * 2)
    assert done.returncode == 1  # a file is missing at the end
