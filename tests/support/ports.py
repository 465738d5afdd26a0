"""Ports that no other process is given between their choice and their use.

A system gives whoever asks for any port one of its ephemeral range (ip(7), ip_local_port_range), where
kernels, servers and clients of all workers ask at once. These lie below it, a slice for each worker.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
from pathlib import Path

from jupyter_client.connect import write_connection_file

_FIRST, _SLICE, _SLICES = 10_240, 1_024, 20  # up to 30,720; Linux gives 32,768 and above, others more

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_run = random.Random(os.environ.get("PYTEST_XDIST_TESTRUNUID")).randrange(_SLICES)
_start = random.randrange(_SLICE)
_turns = itertools.count(_start)


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens, and that this worker has not given for a long time."""
    first = _FIRST + (_run + _worker) % _SLICES * _SLICE
    for turn in itertools.islice(_turns, _SLICE):
        port = first + turn % _SLICE
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as those that will use it
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError(f"no port is free from {first} on")


def write_connection(file: Path) -> None:
    """Write the connection file of a kernel that is about to be started."""
    names = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
    write_connection_file(str(file), **{name: free_port() for name in names})  # type: ignore[arg-type]
