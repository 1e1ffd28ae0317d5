"""Hosts simulated on this machine: network namespaces on one bridge, each with a name and a disk of its own.

Needs root, `ip` and `tc` (iproute2), and the MPI of `impi-rt`, in an environment whose Python SCRATCHLSTM_TEST_IMPI
names: mpich would send through shared memory even between namespaces.
"""

import os
import secrets
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

PYTHON = os.environ.get("SCRATCHLSTM_TEST_IMPI", "")
ROOT = Path(__file__).parents[2]

# What mpiexec calls in the place of ssh: [-options] ADDRESS COMMAND ...
REMOTE_SHELL = """#!/bin/sh
while [ "${{1#-}}" != "$1" ]; do shift; done
host=${{1##*.}}; shift
exec ip netns exec {name}$host unshare --uts sh -c "
  hostname host$host; mount --bind {folder}/disk$host {disk}; [ -e {disk}/profile ] && . {disk}/profile; exec $*"
"""


def missing():
    """Why there can be no simulated hosts; "" if there can be."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "network namespaces need root"
    if absent := [tool for tool in ("ip", "tc") if shutil.which(tool) is None]:
        return f"needs {' and '.join(absent)}, of iproute2"
    if not PYTHON:
        return "needs SCRATCHLSTM_TEST_IMPI, the Python of an environment with impi-rt and mpi4py"
    return ""


class Hosts:
    """Some hosts, host1 and so on, until the block ends.

    Args:
        count: how many.
        folder: for the disks.

    Attributes:
        disk: the path at which each host sees a disk of its own; from outside `disk_of(k)`.
    """

    def __init__(self, count, folder):
        self.count, self.folder, self.name = count, Path(folder), f"slstm{secrets.token_hex(3)}-"
        self.disk = self.folder / "disk"

    def __enter__(self):
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error):
        for name in (*range(1, self.count + 1), "switch"):
            with suppress(subprocess.CalledProcessError):  # it was never made
                _run("ip", "netns", "del", f"{self.name}{name}")

    def _make(self):
        self.disk.mkdir(parents=True)
        switch = f"{self.name}switch"
        _run("ip", "netns", "add", switch)
        _run("ip", "-n", switch, "link", "add", "bridge", "type", "bridge")
        _run("ip", "-n", switch, "link", "set", "bridge", "up")
        for k in range(1, self.count + 1):
            host = f"{self.name}{k}"
            self.disk_of(k).mkdir()
            _run("ip", "netns", "add", host)
            _run("ip", "link", "add", "eth0", "netns", host, "type", "veth", "peer", f"port{k}", "netns", switch)
            _run("ip", "-n", switch, "link", "set", f"port{k}", "master", "bridge", "up")
            _run("ip", "-n", host, "addr", "add", f"10.77.0.{k}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _run("ip", "-n", host, "link", "set", device, "up")
        self.shell = self.folder / "remote_shell"
        self.shell.write_text(REMOTE_SHELL.format(name=self.name, folder=self.folder, disk=self.disk))
        self.shell.chmod(0o755)

    def disk_of(self, k):
        return self.folder / f"disk{k}"

    def bandwidth(self, gigabits):
        """Limit what each host can send."""
        for k in range(1, self.count + 1):
            limit = ["rate", f"{gigabits}gbit", "burst", "256k", "latency", "20ms"]
            _run("tc", "-n", f"{self.name}{k}", "qdisc", "replace", "dev", "eth0", "root", "tbf", *limit)

    def cut(self, k):
        """Pull the cable of host k out of the switch."""
        _run("ip", "-n", f"{self.name}switch", "link", "set", f"port{k}", "down")

    def processes(self):
        """The numbers of all processes on the hosts."""
        return [
            int(number)
            for k in range(1, self.count + 1)
            for number in _run("ip", "netns", "pids", f"{self.name}{k}").split()
        ]

    def mpiexec(self, hosts):
        """The command that starts a rank on each of these hosts, without -n and what is to be run."""
        addresses = ",".join(f"10.77.0.{k}" for k in hosts)
        options = ["-launcher", "ssh", "-launcher-exec", self.shell, "-hosts", addresses, "-iface", "eth0", "-ppn", "1"]
        return [str(self.shell), "10.77.0.1", *map(str, [Path(PYTHON).with_name("mpiexec"), *options])]

    def environment(self):
        """The caller's environment, which mpiexec passes on to all hosts."""
        ours = {"PYTHONPATH": str(ROOT), "I_MPI_FABRICS": "ofi", "FI_PROVIDER": "tcp", "I_MPI_HYDRA_IFACE": "eth0"}
        ours["PATH"] = f"{Path(PYTHON).parent}{os.pathsep}{os.environ['PATH']}"
        return os.environ | ours


def _run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
