"""How much memory this process can still be given: of the machine, and of the control groups it is in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_ROOT = Path("/")


def available_memory(root: Path = _ROOT) -> int | None:
    """Bytes, the least of what the machine and each control group leave; None where Linux does not say.

    Page cache that can be dropped counts as available. ``root`` can be a recording.
    https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files
    """
    left = [*_of_the_machine(root), *_of_the_groups(root)]
    return min(left, default=None)


def _of_the_machine(root: Path) -> Iterator[int]:
    for line in _read(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            yield int(value.split()[0]) * 1024


def _of_the_groups(root: Path) -> Iterator[int]:
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            place, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            place = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        own = place / path.strip("/")
        above = len(PurePosixPath(path).parts) - 1
        for group in (own, *list(own.parents)[:above]):
            with contextlib.suppress(ValueError):  # "max", or no such file
                yield _left_in(group, *names)


def _left_in(group: Path, limit: str, used: str, droppable: str) -> int:
    """Bytes; raises ValueError where the group has no limit."""
    most, current = int(_read(group / limit)), int(_read(group / used))
    stat = dict(line.split() for line in _read(group / "memory.stat").splitlines())
    return most - current + int(stat.get(droppable, 0))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
