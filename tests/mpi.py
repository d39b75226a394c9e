"""What tests of ranks share: MPI runtimes, `mpiexec` under a time limit that kills, hosts made of network namespaces.

A runtime is a virtual environment with mpi4py and an MPI: the one that runs the tests, and those that the variable
MINIVAE_TEST_MPI names, separated by colons. Each needs minivae's own requirements too.

    MINIVAE_TEST_MPI=/path/to/openmpi-venv:/path/to/impi-venv make test
"""

import contextlib
import functools
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = "from mpi4py import MPI; print(MPI.Get_library_version())"
NAMES = {"MPICH": "MPICH", "Open MPI": "Open MPI", "Intel": "Intel MPI"}
LIMIT = 300  # seconds, after which a test of ranks has failed: a busy machine takes its time
TAG = "MINIVAE_TEST_RANKS"  # marks the processes of one test, so that all of them can be found and killed
# Open MPI starts no root and no more ranks than cores unless told so; Intel's library looks for a fabric of its own
SETTINGS = {
    "Open MPI": {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "PRTE_MCA_hwloc_default_binding_policy": "none",
    },
    "Intel MPI": {"I_MPI_PIN": "0"},
}


@dataclass(frozen=True)
class Runtime:
    """An environment's MPI: its name and its folder bin/."""

    name: str
    bin: Path

    def __str__(self) -> str:
        return self.name

    def command(self, n, *command, options=()):
        """The command line of n ranks of `python command`."""
        return [str(self.bin / "mpiexec"), *options, "-n", str(n), str(self.bin / "python"), *map(str, command)]

    def environment(self, **variables):
        """The variables of ranks that find minivae. Each has one thread, whatever number the tests are run with."""
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        own = {"PYTHONPATH": path, "MINIVAE_THREADS": "1"}
        return os.environ | SETTINGS.get(self.name, {}) | own | variables

    def run(self, n, *command, limit=LIMIT, options=(), **variables):
        """Run n ranks to their end → CompletedProcess; past the limit (seconds) all are killed and the test fails."""
        with self.started(n, *command, options=options, **variables) as ranks:
            return ranks.wait(limit)

    @contextlib.contextmanager
    def started(self, n, *command, options=(), before=(), stdin=subprocess.DEVNULL, **variables):
        """Start n ranks → `Ranks`; what is left of them at the end of the block is killed.

        before   words in front of mpiexec, as `ip netns exec a`
        stdin    of rank 0
        """
        tag = uuid.uuid4().hex
        process = subprocess.Popen(
            [*before, *self.command(n, *command, options=options)],
            env=self.environment(**{TAG: tag}, **variables),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        ranks = Ranks(process, tag)
        try:
            yield ranks
        finally:
            ranks.kill()


class Ranks:
    """Running ranks: `process` is mpiexec."""

    def __init__(self, process, tag):
        self.process, self.tag = process, tag

    def wait(self, limit=LIMIT):
        """Wait for the end → CompletedProcess."""
        try:
            out, err = self.process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            self.kill()
            out, err = self.process.communicate()
            pytest.fail(f"ranks were running still after {limit} s; they said\n{out}\n{err}")
        return subprocess.CompletedProcess(self.process.args, self.process.returncode, out, err)

    def left(self):
        """The processes that run still: id → its variables."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended
                variables = dict(line.partition(b"=")[::2] for line in (folder / "environ").read_bytes().split(b"\0"))
                if variables.get(TAG.encode()) == self.tag.encode():
                    found[int(folder.name)] = variables
        return found

    def words(self, process):
        """The command line of a process, b"" where it has ended."""
        with contextlib.suppress(OSError):
            return Path(f"/proc/{process}/cmdline").read_bytes()
        return b""

    def ranks(self, n, limit=LIMIT):
        """The ids of the n ranks' processes, in order, once all have started."""
        end = time.monotonic() + limit
        while True:
            ids = {}
            for process, variables in sorted(self.left().items()):
                rank = variables.get(b"PMI_RANK", variables.get(b"OMPI_COMM_WORLD_RANK"))
                if rank is not None:
                    ids.setdefault(int(rank), process)  # a rank is older than what it starts
            if len(ids) == n:
                return [ids[rank] for rank in range(n)]
            assert time.monotonic() < end and self.process.poll() is None, f"{len(ids)} of {n} ranks have started"
            time.sleep(0.05)

    def kill(self):
        """Kill all of them."""
        while ids := self.left():
            for process in ids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.2)


FOLDERS = [sys.prefix, *filter(None, os.environ.get("MINIVAE_TEST_MPI", "").split(os.pathsep))]
every_runtime = pytest.mark.parametrize("folder", FOLDERS, ids=["here", *(Path(f).name for f in FOLDERS[1:])])


def runtime(folder=sys.prefix):
    """The `Runtime` of a virtual environment; the test is skipped where it has none."""
    found = _runtime(folder)
    if isinstance(found, str):
        pytest.skip(found)
    return found


@functools.cache
def _runtime(folder):
    bin = Path(folder) / "bin"
    if not (bin / "mpiexec").exists():
        return f"no mpiexec in {bin}: pip install mpi4py mpich"
    try:
        probe = subprocess.run([bin / "python", "-c", LIBRARY], capture_output=True, text=True, timeout=600)
    except subprocess.TimeoutExpired:
        return f"MPI does not start in {bin}"
    words = [name for start, name in NAMES.items() if probe.stdout.startswith(start)]
    if not words:
        return f"no MPI in {bin}: {(probe.stdout + probe.stderr).strip().splitlines()[-1:]}"
    return Runtime(words[0], bin)


class Hosts:
    """n machines, "host0", "host1" …: network namespaces whose interfaces v0 meet at a bridge. As root, with `ip`.

    Between them there is TCP alone: UCX, under MPICH, would find shared memory (UCX_TLS). `bytes` proves it.
    """

    numbers = itertools.count()

    def __init__(self, n, mpi, folder):
        for tool in ("ip", "unshare", "tc"):
            if shutil.which(tool) is None:
                pytest.skip(f"hosts of network namespaces need `{tool}`")
        if os.geteuid() != 0:
            pytest.skip("hosts of network namespaces need root")
        self.mpi, self.n, self.name = mpi, n, f"mv{os.getpid()}x{next(self.numbers)}"
        self.hosts, self.launcher = folder / "hosts", folder / "launcher"

    def __enter__(self):
        try:
            self._build()
        except subprocess.CalledProcessError as error:
            self.__exit__()
            pytest.skip(f"hosts of network namespaces cannot be had here: {error.stderr.decode().strip()}")
        return self

    def _build(self):
        switch = f"{self.name}s"
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "name", "bridge0", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge0", "up")
        for i in range(self.n):
            host = self.name + str(i)
            _ip("netns", "add", host)
            _ip("link", "add", "v0", "netns", host, "type", "veth", "peer", "name", f"v{i}", "netns", switch)
            _ip("-n", switch, "link", "set", f"v{i}", "master", "bridge0", "up")
            _ip("-n", host, "addr", "add", f"10.77.0.{i + 1}/24", "dev", "v0")
            for interface in ("v0", "lo"):
                _ip("-n", host, "link", "set", interface, "up")
        self.hosts.write_text("".join(f"10.77.0.{i + 1}:1\n" for i in range(self.n)))
        # it stands for ssh: options, the host, the command
        self.launcher.write_text(
            '#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do shift; done\n'
            f"i=$((${{1##*.}} - 1)); shift\nexec ip netns exec {self.name}$i unshare --uts "
            'sh -c "hostname host$i; $*"\n'
        )
        self.launcher.chmod(0o755)

    def started(self, n, *command, stdin=subprocess.DEVNULL, **variables):
        """As `Runtime.started`: the ranks are dealt out to the hosts in turn, and mpiexec runs on host0."""
        words, own = self._options()
        before = [
            "ip",
            "netns",
            "exec",
            f"{self.name}0",
            "unshare",
            "--uts",
            "sh",
            "-c",
            'hostname host0; exec "$@"',
            "sh",
        ]
        return self.mpi.started(n, *command, options=words, before=before, stdin=stdin, **own, **variables)

    def _options(self):
        """What this MPI's mpiexec and its library are to be told: launcher, hosts, and TCP by v0 between them."""
        names, launcher = [f"10.77.0.{i + 1}" for i in range(self.n)], str(self.launcher)
        if self.mpi.name == "Open MPI":
            words = ["--prtemca", "plm_ssh_agent", launcher, "--prtemca", "oob_tcp_if_include", "v0"]
            words += ["--host", ",".join(f"{name}:1" for name in names), "--map-by", "node"]
            words += ["--mca", "pml", "ob1", "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "v0"]
            return words, {}
        words = ["-localhost", names[0], "-launcher", "ssh", "-launcher-exec", launcher]
        if self.mpi.name == "MPICH":
            return [*words, "-f", str(self.hosts)], {"UCX_TLS": "tcp"}
        variables = {"I_MPI_FABRICS": "ofi", "I_MPI_OFI_PROVIDER": "tcp", "FI_TCP_IFACE": "v0"}
        return [*words, "-hosts", ",".join(names), "-ppn", "1", "-iface", "v0"], variables

    def run(self, n, *command, limit=LIMIT, **variables):
        """As `Runtime.run`."""
        with self.started(n, *command, **variables) as ranks:
            return ranks.wait(limit)

    def bytes(self, i):
        """How many bytes have left host i."""
        folder = "/sys/class/net/v0/statistics/tx_bytes"
        return int(_ip("netns", "exec", self.name + str(i), "cat", folder))

    def cut(self, i):
        """Take down the link of host i, at the bridge: neither side is told."""
        _ip("-n", f"{self.name}s", "link", "set", f"v{i}", "nomaster")

    def kill(self, i):
        """Kill all that runs on host i."""
        for process in _ip("netns", "pids", self.name + str(i)).split():
            os.kill(int(process), signal.SIGKILL)

    def slow(self, megabits):
        """Hold what leaves each host to so many Mbit/s."""
        for i in range(self.n):
            tbf = ["tbf", "rate", f"{megabits}mbit", "burst", "256kb", "latency", "50ms"]
            _ip("netns", "exec", self.name + str(i), "tc", "qdisc", "replace", "dev", "v0", "root", *tbf)

    def __exit__(self, *_):
        for name in [f"{self.name}s", *(self.name + str(i) for i in range(self.n))]:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def _ip(*words):
    return subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20).stdout
