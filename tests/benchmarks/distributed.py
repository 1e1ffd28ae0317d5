"""How fast the ranks of an MPI run train, and what they send: the tutorial's model on real reviews.

    python tests/benchmarks/distributed.py              two ranks of this machine against workers=2 and one process
    sudo SCRATCHLSTM_TEST_IMPI=PYTHON python tests/benchmarks/distributed.py --hosts      several hosts, too, simulated
    python tests/benchmarks/distributed.py --rounds 1 --samples 1280    a quick look

Needs an MPI, mpi4py and the extra `imdb`; for hosts what tests/distributed/simulated_hosts.py names. All take turns for
several rounds; ratios are of the same round, and medians are shown. Simulated hosts share this machine's cores, so that
times mean something only if each has a core to itself and nothing else runs.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
from cpu import machine, spread

sys.path.append(str(Path(__file__).parents[1] / "distributed"))
import reviews_job
from simulated_hosts import PYTHON, Hosts, missing

ALONE = "one process"
GIGABITS = 10, 1
ON_HOSTS = 2, 4


def trained(command, *options, environment=None):
    """What every rank of this command reports after training."""
    command = [*map(str, command), reviews_job.__file__, *map(str, options)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def table(times, references):
    """Milliseconds a step, and the ratios to each of these in the same round; in Markdown."""
    lines = [
        f"| | ms a step | {' | '.join(f'against {name}' for name in references)} |",
        "|---" * (2 + len(references)) + "|",
    ]
    for name, values in times.items():
        ratios = [median(np.divide(values, times[reference])) for reference in references]
        lines.append(f"| {name} | {spread(values)} | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |")
    return "\n".join(lines)


def in_turn(contenders, rounds):
    """Milliseconds of each one's median step, as rank 0 measures it, in each round."""
    times = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, train in contenders.items():
            times[name] += [report["ms"] for report in train() if report["rank"] == 0]
    return times


def one_machine(data, rounds, settings):
    """Processes of this machine."""
    launcher = [sys.executable, "-m", "scratchlstm.mpi", "-n", 2]
    return table(
        in_turn(
            {
                ALONE: lambda: trained([sys.executable], data, *settings, "--workers", 1),
                "workers=2": lambda: trained([sys.executable], data, *settings, "--workers", 2),
                "two ranks": lambda: trained(launcher, data, *settings),
            },
            rounds,
        ),
        [ALONE, "workers=2"],
    )


def several_hosts(data, rounds, settings):
    """Simulated hosts: a table of times, and one of bytes."""
    sent = {}
    with tempfile.TemporaryDirectory() as folder, Hosts(max(ON_HOSTS), folder) as hosts:

        def alone():
            return trained([PYTHON], data, *settings, "--workers", 1, environment=hosts.environment())

        def together(count, gigabits):
            hosts.bandwidth(gigabits)
            launcher = [*hosts.mpiexec(range(1, count + 1)), "-n", count, PYTHON, "-m", "scratchlstm.mpi"]
            reports = trained(launcher, data, *settings, environment=hosts.environment())
            sent[count] = reports
            return reports

        contenders = {ALONE: alone} | {
            f"{count} hosts, {gigabits} Gbit/s": lambda count=count, gigabits=gigabits: together(count, gigabits)
            for count in ON_HOSTS
            for gigabits in GIGABITS
        }
        times = table(in_turn(contenders, rounds), [ALONE])
    lines = ["| | MB sent per host and step | by the formula |", "|---|---|---|"]
    for count, reports in sent.items():
        each, formula = ([report[key] / 1e6 for report in reports] for key in ("bytes", "expected"))
        lines.append(
            f"| {count} hosts | {min(each):.3f} to {max(each):.3f} | {min(formula):.3f} to {max(formula):.3f} |"
        )
    return times + "\n\n" + "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", action="store_true", help="also on simulated hosts")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=3840)
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 256])
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the simulated hosts are removed
    if options.hosts and (why_not := missing()):
        parser.error(f"there can be no simulated hosts: {why_not}")
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        data = reviews_job.write_data(Path(folder) / "reviews.npz", options.samples)
        for batch in options.batch:
            settings = ["--batch", batch, "--epochs", 4]
            print(f"\nbatches of {batch}, on one machine\n")
            print(one_machine(data, options.rounds, settings), flush=True)
            if options.hosts:
                print(f"\nbatches of {batch}, on simulated hosts, which share {os.cpu_count()} cores\n")
                print(several_hosts(data, options.rounds, settings), flush=True)


if __name__ == "__main__":
    main()
