"""The only place of this package that starts processes.

Argument lists, never a shell. A child gets exactly the environment it is given and its own
process group, so that a deadline or Ctrl-C ends the whole family and nobody is left behind; a
guard does the same where this process is killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from . import room
from .errors import CommandFailed
from .inkernel.inherited import inherited_environment

__all__ = ["Completed", "end_group", "guarded", "inherited_environment", "run", "spawn"]


class _Guard:
    """A process that ends the process groups it watches, should this one be killed.

    It reads lists of them until our end of its input closes, which happens however we end, and then kills
    those of the last list. Where the machine takes no more processes there is none.
    """

    _SCRIPT = (
        'while read -r said; do groups=$said; done; for one in $groups; do kill -s KILL -- "-$one"; done'
    )

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._groups: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Have it for as long as the context lasts."""
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._start()
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._dismiss()

    @contextlib.contextmanager
    def watching(self, group: int) -> Iterator[None]:
        """Let it watch a group for as long as the context lasts; its number may be another's afterwards."""
        with self.kept():
            with self._lock:
                self._groups.add(group)
                self._tell()
            try:
                yield
            finally:
                with self._lock:
                    self._groups.remove(group)
                    self._tell()

    def _start(self) -> None:
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                ("/bin/sh", "-c", self._SCRIPT),
                env={},
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _tell(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            line = " ".join(map(str, self._groups)) + "\n"
            with contextlib.suppress(OSError):  # somebody has killed it
                os.write(self._process.stdin.fileno(), line.encode())

    def _dismiss(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
        self._process = None


_GUARD = _Guard()


class Completed(NamedTuple):
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
        with _GUARD.watching(child.pid):
            for reader in readers:
                reader.start()
            if timer:
                timer.start()
            returncode = child.wait()
        for reader in readers:
            reader.join()
    except BaseException:
        end_group(child.pid)
        child.wait()
        raise
    finally:
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


def guarded() -> contextlib.AbstractContextManager[None]:
    """Let the commands of the block share one guard, which takes as long to start as some of them run."""
    return _GUARD.kept()


def end_group(pid: int, how: int = signal.SIGKILL) -> None:
    """Send ``how`` to the process group that ``pid`` leads; one that is gone is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, how)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _read_lines(stream: IO[str] | None, lines: list[str], on_line: Callable[[str], None] | None) -> None:
    assert stream is not None
    for line in stream:
        lines.append(line)
        if on_line:
            on_line(line.rstrip("\n"))
