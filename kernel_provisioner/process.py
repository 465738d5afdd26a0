"""The only place of this package that starts processes.

Argument lists, never a shell. A child gets exactly the environment it is given and its own
process group, so that a deadline or Ctrl-C ends the whole family and nobody is left behind; a
guard does the same where this process is killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from . import room
from .errors import CommandFailed
from .inkernel.inherited import inherited_environment

# Reads until our end of its input closes, which happens however we end, then kills a process group.
_GUARD = ("/bin/sh", "-c", 'read -r _; kill -s KILL -- "-$0"')

__all__ = ["Completed", "end_group", "inherited_environment", "run", "spawn"]


@dataclasses.dataclass(frozen=True)
class Completed:
    """What a finished command left: exit status and decoded output."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    def check(self, what: str, *, fix: str = "") -> Completed:
        """Itself, or CommandFailed with the last lines the command printed."""
        if self.returncode == 0:
            return self
        said = (self.stderr.strip() or self.stdout.strip()).splitlines()[-20:]
        why = "\n".join(said) or f"{self.argv[0]} exited with status {self.returncode}"
        raise CommandFailed(what, why=why, fix=fix)


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str],
    cwd: str | os.PathLike[str] = "/",
    timeout: float | None = None,
    on_line: Callable[[str], None] | None = None,
    pass_fds: Sequence[int] = (),
) -> Completed:
    """Run a command to its end and return what it printed.

    ``timeout`` is in seconds, over the whole run. ``on_line`` hears each line of either
    output as it comes. The default working directory is the root, which no project lies above: uv and pip
    look for configuration in the working directory and its parents. Raises CommandFailed where
    the program cannot be started or misses its deadline; an exit status is for the caller. The
    command does not outlive this process.
    """
    words = tuple(os.fspath(word) for word in argv)
    try:
        child = subprocess.Popen(
            words,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            restore_signals=False,  # a file that grows over a limit is an error to tell, not a core dump
            pass_fds=tuple(pass_fds),
        )
    except OSError as error:
        ours = error.errno in (errno.EMFILE, errno.ENFILE)  # and nothing is wrong with the program
        lack = room.lack_of(error, Path(words[0])) if ours else None
        fix = lack.fix if lack else ""
        raise CommandFailed(f"{words[0]} could not be started", why=str(error), fix=fix) from error
    guard: subprocess.Popen[bytes] | None = None
    printed: tuple[list[str], list[str]] = ([], [])
    readers = [
        threading.Thread(target=_read_lines, args=(stream, lines, on_line), daemon=True)
        for stream, lines in zip((child.stdout, child.stderr), printed, strict=True)
    ]
    timed_out = threading.Event()

    def expire() -> None:
        timed_out.set()
        end_group(child.pid)

    timer = threading.Timer(timeout, expire) if timeout else None
    try:
        guard = _guard(child.pid)
        for reader in readers:
            reader.start()
        if timer:
            timer.start()
        returncode = child.wait()
        _dismiss(guard)
        for reader in readers:
            reader.join()
    except BaseException:
        end_group(child.pid)
        child.wait()
        raise
    finally:
        _dismiss(guard)
        if timer:
            timer.cancel()
        for stream in (child.stdout, child.stderr):
            if stream:
                stream.close()
    if timed_out.is_set():
        raise CommandFailed(
            f"{Path(words[0]).name} {' '.join(words[1:3])} did not end within {timeout:g} seconds",
            why="\n".join(line.rstrip() for line in printed[1][-5:]),
        )
    return Completed(words, returncode, "".join(printed[0]), "".join(printed[1]))


def spawn(
    argv: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str],
    log: Path,
    pass_fds: Sequence[int] = (),
) -> int:
    """Start a process that outlives the caller's interest in it, and return its pid.

    It leads a process group of its own, works in the root directory and writes what it prints
    to ``log``. A thread reaps it, so that a long-lived server collects no zombies.
    """
    with open(log, "ab", opener=_private) as sink:
        child = subprocess.Popen(
            [os.fspath(word) for word in argv],
            env=dict(env),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=tuple(pass_fds),
        )
    threading.Thread(target=child.wait, name=f"reap-{child.pid}", daemon=True).start()
    return child.pid


def end_group(pid: int, how: int = signal.SIGKILL) -> None:
    """Send ``how`` to the process group that ``pid`` leads; one that is gone is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, how)


def _guard(group: int) -> subprocess.Popen[bytes] | None:
    """A process that ends ``group`` once this one has ended; None where the machine takes no more."""
    try:
        return subprocess.Popen(
            [*_GUARD, str(group)],
            env={},
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return None


def _dismiss(guard: subprocess.Popen[bytes] | None) -> None:
    """End a guard before its group's number can be another's."""
    if guard is not None and guard.stdin is not None:
        guard.kill()
        guard.wait()
        guard.stdin.close()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _read_lines(stream: IO[str] | None, lines: list[str], on_line: Callable[[str], None] | None) -> None:
    assert stream is not None
    for line in stream:
        lines.append(line)
        if on_line:
            on_line(line.rstrip("\n"))
