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
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple, NoReturn

from ..errors import CommandFailed
from ..inkernel.shared.environment import inherited_environment
from . import os_errors
from .forks import PerProcess

__all__ = ["Completed", "Frozen", "end_group", "guarded", "inherited_environment", "run", "spawn"]

_LOOK = 1.0  # seconds between two looks whether a command is stopped


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


_guard = PerProcess(_Guard)


class Frozen(CommandFailed):
    """A command was stopped (SIGSTOP), not by us, and has been ended since it did not go on."""


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
    patience: float = 30.0,
) -> Completed:
    """Run a command to its end and return what it printed.

    ``timeout`` is in seconds, over the whole run. ``on_line`` hears each line of either
    output as it comes; what it raises is raised here, once the command has ended. The default
    working directory is the root, which no project lies above: uv and pip look for configuration
    in the working directory and its parents. Raises CommandFailed where the program cannot be
    started or misses its deadline, Frozen where it is stopped for ``patience`` seconds; an exit
    status is for the caller. The command does not outlive this process.
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
        lack = os_errors.lack_of(error, Path(words[0])) if ours else None
        fix = lack.fix if lack else ""
        raise CommandFailed(f"{words[0]} could not be started", why=str(error), fix=fix) from error
    readers = [_Reader(child.stdout, on_line), _Reader(child.stderr, on_line)]
    overseer = _Overseer(child.pid, timeout, patience)
    try:
        with _guard().watching(child.pid):
            for thread in (*readers, overseer):
                thread.start()
            returncode = child.wait()
        for reader in readers:
            reader.join()
    except BaseException:
        end_group(child.pid)
        child.wait()
        raise
    finally:
        overseer.over.set()
        for stream in (child.stdout, child.stderr):
            if stream:
                stream.close()
    printed = [reader.lines for reader in readers]
    name = f"{Path(words[0]).name} {' '.join(words[1:3])}"
    if overseer.found == "late":
        why = "\n".join(line.rstrip() for line in printed[1][-5:])
        raise CommandFailed(f"{name} did not end within {timeout:g} seconds", why=why)
    if overseer.found == "stopped":
        raise Frozen(
            f"{name} was ended, because it was stopped for {patience:g} seconds",
            why="somebody, or something that limits what runs here, stopped it (SIGSTOP)",
            fix="try again; find out what stops processes on this machine, where it comes again",
        )
    for reader in readers:
        if reader.error is not None:
            raise reader.error
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


def become(argv: Sequence[str], *, env: Mapping[str, str], keep_fds: Sequence[int] = ()) -> NoReturn:
    """Let a command take the place of this process, which is looked for on the PATH of ``env``.

    It inherits ``keep_fds``. Raises CommandFailed where it cannot be started.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    for fd in keep_fds:
        os.set_inheritable(fd, True)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores, and a program would inherit that
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(argv[0], list(argv), dict(env))  # noqa: S606 - becoming it is the point
    except (OSError, ValueError) as error:  # ValueError: a NUL
        why = getattr(error, "strerror", None) or str(error)
        raise CommandFailed(f"{argv[0]} could not be started", why=why, fix="check its name") from error


def guarded() -> contextlib.AbstractContextManager[None]:
    """Let the commands of the block share one guard, which takes as long to start as some of them run."""
    return _guard().kept()


def end_group(pid: int, how: int = signal.SIGKILL) -> None:
    """Send ``how`` to the process group that ``pid`` leads; one that is gone is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, how)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class _Reader(threading.Thread):
    """Reads an output to its end, whatever becomes of who hears it: a full pipe would stop the command."""

    def __init__(self, stream: IO[str] | None, on_line: Callable[[str], None] | None) -> None:
        super().__init__(daemon=True)
        assert stream is not None
        self.lines: list[str] = []
        self.error: Exception | None = None
        self._stream, self._on_line = stream, on_line

    def run(self) -> None:
        for line in self._stream:
            self.lines.append(line)
            if self._on_line and self.error is None:
                try:
                    self._on_line(line.rstrip("\n"))
                except Exception as error:
                    self.error = error


class _Overseer(threading.Thread):
    """Ends a command that is ``late`` or has been ``stopped`` for long, and says which in ``found``."""

    def __init__(self, pid: int, timeout: float | None, patience: float) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.found = ""
        self._pid, self._patience = pid, patience
        self._ends = None if timeout is None else time.monotonic() + timeout

    def run(self) -> None:
        stopped = 0.0
        while not self.found:
            left = _LOOK if self._ends is None else max(0.0, self._ends - time.monotonic())
            if self.over.wait(min(_LOOK, left)):
                return
            stopped = stopped + _LOOK if _is_stopped(self._pid) else 0.0
            if self._ends is not None and time.monotonic() >= self._ends:
                self.found = "late"
            elif stopped >= self._patience:
                self.found = "stopped"
        end_group(self._pid)


def _is_stopped(pid: int) -> bool:
    """Whether a process is stopped, as far as the system tells (Linux)."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[:1] == [b"T"]
    return False
