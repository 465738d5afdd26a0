"""What a command asks of file systems: every call that names a file, read off strace's log."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

CALLS = "%file,getdents64,flock,fsync,fdatasync,clone,clone3,fork,vfork"
"""What is watched: paths looked up, made, renamed or removed; directories read; locks; syncs.
Reads and writes are not: they cost bytes, not metadata."""

_LINE = re.compile(r"^(?P<pid>\d+) +(?:<\.\.\. (?P<resumed>\w+) resumed>|(?P<call>\w+)\()(?P<rest>.*)$")
_RESULT = re.compile(r"= (?P<value>-?\d+|\?)")
_FORKS = frozenset({"clone", "clone3", "fork", "vfork"})


@dataclasses.dataclass(frozen=True)
class Op:
    """One call: by whom (``launch``, ``builder``, ``uv`` or ``kernel``), on what, and whether it worked."""

    role: str
    call: str
    path: str
    ok: bool
    arguments: str


def traced(command: Sequence[str], log: Path, env: Mapping[str, str]) -> list[Op]:
    """Run a command under strace, with all that it starts; raises RuntimeError where it fails."""
    strace = shutil.which("strace")
    if strace is None:
        raise RuntimeError("strace is not installed; on Debian: apt install strace")
    watched = [strace, "-f", "-qq", "-y", "-s", "300", "-e", f"trace={CALLS}", "-e", "signal=none"]
    words = [*watched, "-o", str(log), "--", *command]
    done = subprocess.run(words, env=dict(env), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip() or f"{command} ended with {done.returncode}")
    return list(read(log))


def read(log: Path) -> Iterator[Op]:
    """The calls in a log of ``strace -f -y``, oldest first."""
    lines = list(_lines(log))
    # A child is often seen before the call that made it has returned: so first who made whom.
    made_by = {value: pid for pid, call, _, value in lines if call in _FORKS and value.isdigit()}
    known: dict[str, str] = {}

    def role_of(pid: str) -> str:
        return known.get(pid) or (role_of(made_by[pid]) if pid in made_by else "launch")

    for pid, call, rest, value in lines:
        if call == "execve" and value == "0":
            known[pid] = _role(rest, role_of(pid))
        elif call not in _FORKS:
            yield Op(role_of(pid), call, _path(rest), not value.startswith("-"), rest)


def _lines(log: Path) -> Iterator[tuple[str, str, str, str]]:
    """Process, call, arguments and result of each line; what was interrupted is put together."""
    begun: dict[str, str] = {}
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        pid, rest = match["pid"], match["rest"]
        if match["resumed"]:
            rest = begun.pop(pid, "") + rest
        elif rest.endswith("<unfinished ...>"):
            begun[pid] = rest.removesuffix("<unfinished ...>")
            continue
        result = _RESULT.search(rest, rest.rfind(") ") + 1)
        yield pid, match["call"] or match["resumed"], rest, result["value"] if result else "?"


def _role(execve: str, parent: str) -> str:
    """Who a process is from its command line on."""
    if "kernel_provisioner.builder" in execve:
        return "builder"
    if "/inkernel/" in execve or "ipykernel_launcher" in execve:
        return "kernel"
    return "uv" if re.match(r'"[^"]*/uv"', execve) else parent


def _path(rest: str) -> str:
    """The file that a call is about: its first name, below the directory that it is relative to."""
    named = re.search(r'"((?:[^"\\]|\\.)*)"', rest)
    opened = re.search(r"^(?:AT_FDCWD|\d+)<([^>]*)>", rest)
    if named is None or not named[1]:
        return opened[1] if opened else ""
    return os.path.join(opened[1], named[1]) if opened else named[1]  # noqa: PTH118 - of strings, quickly
