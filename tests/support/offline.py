"""Commands in a network namespace of their own, where only loopback is: no wire, whatever they try."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Sequence

from .parts import need

# Loopback is down in a new namespace, and kernels talk over it: SIOCSIFFLAGS, IFF_UP | IFF_RUNNING.
_ENTER = (
    "import fcntl, os, socket, struct, sys; "
    "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh', b'lo', 0x41)); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


def offline(*command: object) -> list[str]:
    """``command``, so that it and all that it starts see no network but loopback.

    Skips the test where this machine lets nobody make a namespace.
    """
    need(_possible(), "a network namespace, which root may make (or users, where the system lets them)")
    return [*_unshare(), sys.executable, "-c", _ENTER, *map(str, command)]


def _unshare() -> Sequence[str]:
    return ("unshare", "--net") if os.getuid() == 0 else ("unshare", "--net", "--map-root-user")


@functools.cache
def _possible() -> bool:
    try:
        return subprocess.run([*_unshare(), "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False
