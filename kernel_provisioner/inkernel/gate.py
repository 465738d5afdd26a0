"""The gate between the first executed cell and the overlay.

While it is closed the overlay's packages lie in a staging directory that no interpreter looks
at, so that nothing of theirs has run. Executing a cell is the user's consent: the gate waits for
the builder, moves the packages in, and stays open.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import importlib
import json
import os
import shutil
import signal
import site
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from .display import Line
from .info import Info
from .inherited import inherited_environment
from .packages import named_in

OVERLAY, FAILED, ENTERED, PROGRESS, STAGING = (
    "overlay.json",
    "failed.json",
    "entered",
    "progress.jsonl",
    "staging",
)
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, 524})  # as in locks.py
_POLL = (0.002, 0.03)  # seconds between looks at the builder's progress, at first and in the long run
_LITTLE = 65536  # bytes; a disk with less takes a small file at best
_DIED = {
    "error": "BuildFailed",
    "what": "the process that builds this notebook's overlay ended without a word",
    "why": "it was killed, or the machine ran out of memory",
    "fix": "restart the kernel: the overlay is built anew",
}


class Interrupted(Exception):
    """The user interrupted the wait; the build goes on."""


class Gate:
    """Open, closed, or failed with what to tell in every cell."""

    def __init__(self, info: Info) -> None:
        self._info = info
        self.failure = info.failure
        self._open = not info.failure and (not info.overlay or (info.path / ENTERED).exists())

    @property
    def open(self) -> bool:
        """Whether cells run without waiting."""
        return self._open

    async def enter(self, line: Line) -> None:
        """Wait for the overlay, move its packages in, and open; on failure set ``failure``.

        Raises Interrupted where the user interrupts the wait, and nothing else: a cell whose
        execution raises here would never be answered.
        """
        try:
            await self._enter(line)
        except Interrupted:
            raise
        except Exception as error:  # the edge: whatever an overlay that was tampered with may lead to
            self.failure = {
                "error": "BuildFailed",
                "what": f"this notebook's packages could not be put in their place in {self._info.path}",
                "why": str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}",
                "fix": "make room and permission there, then restart the kernel",
            }
            line.settle("This notebook's packages could not be added")

    async def _enter(self, line: Line) -> None:
        with _interrupts() as interrupted:
            async for event in self._events():
                if interrupted.is_set():
                    raise Interrupted
                line.progress(event["message"], event.get("done", 0), event.get("total", 0))
        failed = self._info.path / FAILED
        if failed.exists():
            self.failure = json.loads(failed.read_bytes())["failure"]
        elif not (self._info.path / OVERLAY).exists():
            self.failure = _died(self._info.path)
        if self.failure:
            line.settle("This notebook's packages could not be added")
            return
        state = json.loads((self._info.path / OVERLAY).read_bytes())
        move_in(self._info.path, state)
        self._open = True
        if summary := _summary(self._info, state):
            line.settle(summary)

    def look_again(self) -> None:
        """Let the interpreter find what was added to the overlay since it was entered."""
        look_again(self._info.path)

    async def _events(self) -> AsyncIterator[dict[str, Any]]:
        """The builder's latest event, often, until the overlay is there, has failed, or nobody builds it."""
        asked = False
        pause, longest = _POLL
        while True:
            idle = not _is_locked(self._info.path / "builder.lock")
            if (self._info.path / OVERLAY).exists() or (self._info.path / FAILED).exists():
                return
            idle = idle and not _is_open(self._info.path / "builder.lock")
            events = _read_events(self._info.path / PROGRESS)
            if idle:
                if asked or not events or events[-1]["phase"] != "needs-cell":
                    return
                asked = self._build_with_consent()
            yield events[-1] if events else {"phase": "plan", "message": "Starting"}
            await asyncio.sleep(pause)
            pause = min(1.03 * pause, longest)

    def _build_with_consent(self) -> bool:
        """Start the builder again, now that the user has run a cell: source builds may run.

        False where somebody holds its lock: another kernel of this notebook that asked first, or
        the collector for a moment.
        """
        words = [*self._info.builder, str(self._info.path), "--cell-ran"]
        lock = os.open(self._info.path / "builder.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _take(lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
                return False
            with (self._info.path / "builder.log").open("ab") as log:
                subprocess.Popen(
                    [*words, "--lock-fd", str(lock)],
                    env=inherited_environment(os.environ),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    cwd="/",
                    pass_fds=(lock,),
                )
        finally:
            os.close(lock)
        return True


def _died(overlay: Path) -> dict[str, str]:
    """What to tell of a builder that left no reason: on a full disk it could not write one."""
    disk = os.statvfs(overlay)
    files_full = disk.f_files > 0 and disk.f_favail == 0
    if files_full or disk.f_bavail * disk.f_frsize < _LITTLE:
        return {
            "error": "BuildFailed",
            "what": f"the disk is full at {overlay}",
            "why": "it takes no more files (df -i)" if files_full else "hardly a byte is left there (df)",
            "fix": "free space there, or set TORCH_OVERLAY_ROOT to a directory on another disk;"
            " then restart the kernel",
        }
    return _DIED


def move_in(overlay: Path, state: dict[str, Any]) -> None:
    """Move the staged packages to where the interpreter looks, and let it look."""
    settle(overlay, state)
    look_again(overlay)


def settle(overlay: Path, state: dict[str, Any]) -> None:
    """Move the staged packages to where the interpreter of ``overlay`` looks; nothing of them runs.

    Each entry moves by one rename; a move that was cut short is taken up where it stopped.
    Two kernels of one notebook take turns.
    """
    with _locked(overlay / "enter.lock"):
        if not (overlay / ENTERED).exists():
            staging = overlay / STAGING
            own = _site_packages(overlay)
            for name, (old, _) in state.get("replaced", {}).items():
                shutil.rmtree(own / f"{name.replace('-', '_')}-{old}.dist-info", ignore_errors=True)
            if staging.is_dir():
                _merge(staging, overlay)
            shutil.rmtree(staging, ignore_errors=True)
            (overlay / ENTERED).touch(mode=0o600)


def look_again(overlay: Path) -> None:
    """Let the running interpreter find what is new in the overlay, and what its ``.pth`` files add."""
    own = _site_packages(overlay)
    known = set(sys.path)
    for name in sorted(entry.name for entry in os.scandir(own) if entry.name.endswith(".pth")):
        site.addpackage(str(own), name, known)
    importlib.invalidate_caches()


def _merge(source: Path, target: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # no locks here, and another kernel moved it just now
        if not target.exists() or not source.is_dir() or source.is_symlink():
            source.replace(target)
            return
        for entry in list(os.scandir(source)):
            _merge(Path(entry.path), target / entry.name)


def _site_packages(overlay: Path) -> Path:
    for base_paths in overlay.glob("lib/python*/site-packages/zzz_torch_base.pth"):
        return base_paths.parent
    raise FileNotFoundError(errno.ENOENT, "its zzz_torch_base.pth is gone", str(overlay))


def _summary(info: Info, state: dict[str, Any]) -> str:
    """The one line that stays: what was added, and what this overlay replaces of its base."""
    added = [f"{entry['name']} {entry['version']}" for entry in state.get("installed", ())]
    if not added:
        return ""
    named = {named_in(extra) for extra in info.extras}
    first = [text for text in added if text.split()[0] in named] or added[:1]
    more = f" and {len(added) - len(first)} more" if len(added) > len(first) else ""
    lines = [
        "{kernel}: {what}{more} added to torch {torch} in {seconds:.1f} s".format(
            kernel=info.base.get("kernel", "torch"),
            what=", ".join(first),
            more=more,
            torch=info.base.get("torch", ""),
            seconds=max(state.get("seconds", 0), 0.1),
        )
    ]
    for name, (old, version) in state.get("replaced", {}).items():
        lines.append(
            f"in this notebook only, {name} is {version} instead of the base's {old}: the extras need it"
        )
    return "\n".join(lines)


def _read_events(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    events = []
    for line in lines:
        with contextlib.suppress(ValueError):  # the last line may still be on its way
            events.append(json.loads(line))
    return events


def _is_locked(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _take(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: others who look are in nobody's way
    finally:
        os.close(fd)


def _take(fd: int, how: int) -> bool:
    """Lock an open file; False where another's lock is in the way. A disk without locks lets everybody."""
    try:
        fcntl.flock(fd, how)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _is_open(path: Path) -> bool:
    """Whether another process has a file open, as a builder has its lock also where locks mean nothing.

    False where the system does not tell (no ``/proc``).
    """
    wanted, own = os.path.realpath(path), str(os.getpid())
    for place in Path("/proc").glob("[0-9]*/fd"):
        if place.parent.name != own:
            with contextlib.suppress(OSError):  # ended meanwhile, or another user's
                if any(_goal(link) == wanted for link in place.iterdir()):
                    return True
    return False


def _goal(link: Path) -> str:
    with contextlib.suppress(OSError):  # closed meanwhile
        return str(link.readlink())
    return ""


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Turn SIGINT into an event for a while: raised in the event loop it would end the kernel."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = signal.signal(signal.SIGINT, lambda *_: flag.set())
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, before)
