"""The only place of this package that starts processes.

Argument lists, never a shell. A child gets exactly the environment it is given and its own
process group, so that a deadline or Ctrl-C ends the whole family and nobody is left behind.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from .errors import CommandFailed

# What a child may inherit: how to find programs, files, certificates and proxies, and in which
# language to speak. Everything else (tokens of JupyterHub and clouds above all) stays here.
_INHERITED = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TMP", "TEMP", "TERM",
    "COLUMNS", "NETRC", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy",
    "no_proxy", "CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS", "MAKEFLAGS", "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH", "SDKROOT", "CUDA_HOME", "CUDA_PATH", "ROCM_HOME", "ROCM_PATH",
})  # fmt: skip
_INHERITED_PREFIXES = ("LC_", "XDG_", "UV_", "PIP_", "TORCH_OVERLAY_PAUSE")
# Settings that bind a package manager to an environment other than the one we name.
_NOT_INHERITED = frozenset({
    "UV_PYTHON", "UV_PROJECT", "UV_PROJECT_ENVIRONMENT", "UV_SYSTEM_PYTHON", "UV_BREAK_SYSTEM_PACKAGES",
    "UV_WORKING_DIR", "UV_WORKING_DIRECTORY", "UV_ENV_FILE", "UV_CONSTRAINT", "UV_BUILD_CONSTRAINT",
    "UV_OVERRIDE", "UV_EXCLUDE", "UV_TORCH_BACKEND", "UV_TARGET", "UV_PREFIX", "UV_REQUIRE_HASHES",
    "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_ROOT", "PIP_PYTHON", "PIP_CONSTRAINT",
    "PIP_BUILD_CONSTRAINT", "PIP_REQUIREMENT", "PIP_EDITABLE", "PIP_REQUIRE_VIRTUALENV",
    "PIP_BREAK_SYSTEM_PACKAGES",
})  # fmt: skip


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


def inherited_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of ``environ`` that package managers may see: no tokens, no foreign environment."""
    return {
        name: value
        for name, value in environ.items()
        if (name in _INHERITED or name.startswith(_INHERITED_PREFIXES))
        and not (name in _NOT_INHERITED or name.startswith("UV_PUBLISH_"))  # tokens to upload with
    }


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
    the program cannot be started or misses its deadline; an exit status is for the caller.
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
            pass_fds=tuple(pass_fds),
        )
    except OSError as error:
        raise CommandFailed(f"{words[0]} could not be started", why=str(error)) from error
    printed: tuple[list[str], list[str]] = ([], [])
    readers = [
        threading.Thread(target=_read_lines, args=(stream, lines, on_line), daemon=True)
        for stream, lines in zip((child.stdout, child.stderr), printed, strict=True)
    ]
    for reader in readers:
        reader.start()
    timed_out = threading.Event()

    def expire() -> None:
        timed_out.set()
        end_group(child.pid)

    timer = threading.Timer(timeout, expire) if timeout else None
    if timer:
        timer.start()
    try:
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
    with log.open("ab") as sink:
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


def _read_lines(stream: IO[str] | None, lines: list[str], on_line: Callable[[str], None] | None) -> None:
    assert stream is not None
    for line in stream:
        lines.append(line)
        if on_line:
            on_line(line.rstrip("\n"))
