"""launcher: the mpiexec that has started this process, and how to end it. It needs nothing but the standard library.

An mpiexec waits for ever for processes on a host that it cannot reach; and MPICH's and Intel's wait where a rank has
ended before it started MPI, as the other ranks do, inside MPI_Init.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from .. import environment

NAMES = ("mpiexec", "mpirun", "prterun", "orterun")  # how names of processes begin
NEAR = 3  # generations: mpiexec, its proxy, perhaps a shell
# In a second mpiexec has passed on what this rank printed last. After Ctrl-C, MPICH's may end with status 0. The time
# at which a process started, a field of its stat, tells it from a later one of the same number.
KILL_LATER = 'sleep 1; case "$(cat /proc/{0}/stat)" in *" {1} "*) kill -KILL {0}; esac'
PATIENCE = 5.0  # seconds that the first rank of a host has to say what all ranks of the host have met


def kill() -> None:
    """Have the mpiexec of this host that has started this process killed in a second; nothing where there is none.

    What it has started on other hosts ends with it.
    """
    process = os.getppid()
    for _ in range(NEAR):
        try:
            name, _, rest = Path(f"/proc/{process}/stat").read_text().partition("(")[2].rpartition(")")
        except OSError:  # not Linux
            return
        fields = rest.split()  # from the third on: proc_pid_stat(5)
        if name.startswith(NAMES):
            with contextlib.suppress(OSError):
                command = ["sh", "-c", KILL_LATER.format(process, fields[19])]
                quiet = subprocess.DEVNULL  # it outlives this process, whose streams are to close
                subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
            return
        process = int(fields[1])  # the parent


def leave(text: str, printed: bool = True) -> None:
    """Say why this rank cannot join the others, and end them with it: they wait for it to start MPI.

    printed   whether rank 0 prints the text itself

    The ranks of a host mostly meet the same, so its first rank speaks at once, and another where it is alone with it.
    """
    if not environment.first_of_host():
        time.sleep(PATIENCE)
    if (rank := environment.launched_rank()) > 0 or not printed:
        place = f"rank {rank} of {environment.launched()} ({socket.gethostname()})"
        print(f"minivae: {place}: {text}", file=sys.__stderr__, flush=True)
    atexit.register(kill)
