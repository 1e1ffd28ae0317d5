"""Several hosts, simulated: the bytes that travel, a cut link, and what only some hosts have."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
import reviews_job
import simulated_hosts
import test_differences

HERE = Path(__file__).parent
DEADLINE = 120  # seconds: far more than any run here takes

pytestmark = pytest.mark.skipif(bool(simulated_hosts.missing()), reason=simulated_hosts.missing() or "it can run")


@pytest.fixture
def hosts(tmp_path):
    with simulated_hosts.Hosts(4, tmp_path / "hosts") as hosts:
        yield hosts


@pytest.fixture(scope="session")
def reviews(tmp_path_factory):
    return reviews_job.write_data(tmp_path_factory.mktemp("reviews") / "reviews.npz", 600)


def launch(hosts, which, *script):
    """Run a script on these hosts."""
    launcher = [simulated_hosts.PYTHON, "-m", "scratchlstm.mpi", *script]
    return run(hosts, [*hosts.mpiexec(which), "-n", len(which), *launcher])


def run(hosts, command):
    command = list(map(str, command))
    done = subprocess.run(command, env=hosts.environment(), capture_output=True, text=True, timeout=DEADLINE)
    assert not hosts.processes()
    return done


def reports(done):
    """What each rank reports, in the order of the ranks."""
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return sorted(lines, key=lambda report: report["rank"])


@pytest.mark.parametrize(("count", "most"), [(2, 1.2e6), (4, 2.1e6)])
def test_ranks_on_several_hosts_end_like_workers_and_send_what_the_formula_says(hosts, reviews, count, most):
    job = HERE / "reviews_job.py"
    workers = run(hosts, [simulated_hosts.PYTHON, job, reviews, "--epochs", 1, "--workers", count])
    (alone,) = reports(workers)
    done = launch(hosts, range(1, count + 1), job, reviews, "--epochs", 1)
    assert done.returncode == 0, done.stderr
    every = reports(done)
    assert [report["host"] for report in every] == [f"host{k}" for k in range(1, count + 1)]
    assert {report["digest"] for report in every} == {alone["digest"]}
    for report in every:
        # what is more: headers, acknowledgements, and the losses and metrics of each step
        assert report["expected"] < report["bytes"] < 1.06 * report["expected"]
        assert report["bytes"] < most
    assert f"all {count} ranks finished" in done.stdout


def test_a_run_resumes_from_a_checkpoint_that_the_first_host_alone_sees(hosts, reviews):
    job, checkpoint = [HERE / "reviews_job.py", reviews, "--batch", 200], hosts.disk / "run" / "checkpoint.npz"
    (undisturbed,) = reports(run(hosts, [simulated_hosts.PYTHON, *job, "--workers", 2]))
    first = launch(hosts, (1, 2), *job, "--checkpoint", checkpoint, "--epochs", 1)
    resumed = launch(hosts, (1, 2), *job, "--checkpoint", checkpoint)
    assert first.returncode == resumed.returncode == 0, first.stderr + resumed.stderr
    assert {report["digest"] for report in reports(resumed)} == {undisturbed["digest"]}
    assert [report["steps"] for report in reports(first) + reports(resumed)] == [2] * 4  # each one epoch
    assert (hosts.disk_of(1) / "run" / "checkpoint.npz").is_file()
    assert not list(hosts.disk_of(2).iterdir())


def test_what_differs_between_hosts_is_named(hosts):
    np.save(hosts.disk_of(1) / "only_on_host1.npy", np.zeros(1))
    (hosts.disk_of(2) / "profile").write_text("export OPENBLAS_CORETYPE=Nehalem\n")  # as if it had an older processor
    done = launch(hosts, (1, 2), test_differences.SCRIPT, hosts.disk)
    test_differences.assert_named(done.stdout, "host1", "host2")
    assert re.search(r"the ranks have different processors: host1 .*, host2 .*\(Nehalem\)", done.stderr)
    assert done.returncode == 1
    assert re.search(r"rank 1 of 2 on host2:\nTraceback(.*\n)*FileNotFoundError: .*only_on_host1", done.stderr)


def test_a_host_that_waits_for_others_to_start_says_which_rank_it_is(hosts):
    launcher = [simulated_hosts.PYTHON, "-m", "scratchlstm.mpi", "--patience", 1, HERE / "endless_job.py"]
    done = run(hosts, [*hosts.mpiexec((1, 2)), "-n", 1, "sleep", 60, ":", "-n", 1, *launcher])
    assert done.returncode
    assert "rank 1 on host2 has waited 1 s for all ranks to start" in done.stderr


def test_after_a_cut_link_a_healthy_host_says_what_it_waits_for_and_nothing_stays(hosts):
    command, remote = hosts.mpiexec((1, 2, 3)), 2  # the first two words start the launcher on host 1
    launcher = [simulated_hosts.PYTHON, "-m", "scratchlstm.mpi", "-n", "3", "--patience", "4"]
    mpiexec = shlex.quote(shlex.join(command[remote:]))
    command = [*command[:remote], *launcher, "--mpiexec", mpiexec, str(HERE / "endless_job.py")]
    with subprocess.Popen(
        command, env=hosts.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "training\n"
            hosts.cut(3)
            _, errors = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
    assert process.returncode != 0
    assert "rank 0 on host1 has waited 4 s for rank 2 to " in errors
    assert "mpiexec has not ended" in errors
    assert not hosts.processes()
