"""Processes that hold a lock, as kernels and builders do."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_REPOSITORY = Path(__file__).parents[2]
_HOLD = """\
import sys
from pathlib import Path
from kernel_provisioner.system import locks
lock = getattr(locks, sys.argv[1])(Path(sys.argv[2]))
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def held(path: Path, how: str = "shared") -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds a lock on ``path``, ``shared`` as a kernel or ``exclusive`` as a builder.

    It is killed at the end, as the worst way in which a holder can go.
    """
    child = subprocess.Popen(
        [sys.executable, "-c", _HOLD, how, str(path)],
        cwd=_REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        yield child
    finally:
        child.kill()
        child.communicate()
