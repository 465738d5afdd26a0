"""The gate between the first executed cell and the overlay.

While it is closed the overlay's packages lie in a staging directory that no interpreter looks
at, so that nothing of theirs has run. Executing a cell is the user's consent: the gate waits for
the builder, moves the packages in, and stays open.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib
import json
import os
import signal
import site
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from .display import Aside, Line
from .shared import flock
from .shared.environment import builder_environment
from .shared.events import read_events
from .shared.heartbeat import PATIENCE, Watch, end_builder
from .shared.info import Info
from .shared.layout import ADDING, BUILDER_LOCK, BUILDER_LOG, ENTERED, FAILED, OVERLAY
from .shared.packages import canonical, named_in
from .shared.settle import settle, settle_added, site_packages

_POLL = (0.002, 0.03)  # seconds between looks at the builder's progress, at first and in the long run
_LITTLE = 65536  # bytes; a disk with less takes a small file at best
_DIED = {
    "error": "BuildFailed",
    "what": "the builder of this notebook's overlay ended without a message",
    "why": "it was killed, or the machine ran out of memory",
    "fix": "restart the kernel to build it again",
}
_FROZEN = {
    "error": "BuildFailed",
    "what": "the process that builds this notebook's overlay gives no sign of life",
    "why": "it is stopped, or its disk does not answer, and it could not be ended from here",
    "fix": "restart the kernel: another overlay is begun",
}


class Interrupted(Exception):
    """A signal ended the wait; the build goes on. ``last``: the kernel itself is to end."""

    def __init__(self, *, last: bool) -> None:
        super().__init__()
        self.last = last


class Gate:
    """Open, closed, or failed with what to tell in every cell."""

    def __init__(self, info: Info, *, patience: float = PATIENCE) -> None:
        self._info = info
        self._patience = patience
        self.failure = info.failure
        entered = (info.path / ENTERED).exists() and not (info.path / ADDING).exists()
        self._open = not info.failure and (not info.overlay or entered)

    @property
    def open(self) -> bool:
        """Whether cells run without waiting."""
        return self._open

    async def enter(self, line: Line | Aside) -> None:
        """Wait for the overlay, move its packages in, and open; on failure set ``failure``.

        Raises Interrupted where a signal ends the wait, and nothing else: a cell whose execution
        raises here would never be answered. What is being moved in is moved in to the end first.
        """
        with _signals() as caught:
            try:
                await self._enter(line, caught)
            except Exception as error:  # the edge: whatever an overlay that was tampered with may lead to
                self.failure = {
                    "error": "BuildFailed",
                    "what": f"this notebook's packages could not be put in their place in {self._info.path}",
                    "why": str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}",
                    "fix": "free space there and make it writable, then restart the kernel",
                }
                line.settle("This notebook's packages could not be added")
        if caught:
            raise Interrupted(last=signal.SIGTERM in caught)

    async def _enter(self, line: Line | Aside, caught: set[int]) -> None:
        async for event in self._events():
            if caught:
                return
            sizes = event.get("bytes", 0), event.get("total_bytes", 0)
            line.progress(event["message"], event.get("done", 0), event.get("total", 0), sizes)
        failed = self._info.path / FAILED
        if failed.exists():
            self.failure = json.loads(failed.read_bytes())["failure"]
        elif not (self._info.path / OVERLAY).exists():
            self.failure = self.failure or _died(self._info.path)
        if self.failure:
            line.settle("This notebook's packages could not be added")
            return
        state = json.loads((self._info.path / OVERLAY).read_bytes())
        move_in(self._info.path, state)
        self._open = True
        if summary := _summary(self._info, state):
            line.settle(summary)

    def look_again(self) -> None:
        """Let the interpreter find what was added to the overlay since it was entered.

        A builder that was killed on the way may have left that to be moved in.
        """
        with _signals() as caught:
            settle_added(self._info.path)
            look_again(self._info.path)
        for number in caught:
            signal.raise_signal(number)

    async def _events(self) -> AsyncIterator[dict[str, Any]]:
        """The builder's latest event, often, until the overlay is there, has failed, or nobody builds it.

        A builder that is frozen is ended, and another one started, once.
        """
        asked = ended = False
        watch = Watch(self._info.path)
        pause, longest = _POLL
        while True:
            idle = not flock.is_held(self._info.path / BUILDER_LOCK, fcntl.LOCK_SH)
            if (self._info.path / OVERLAY).exists() or (self._info.path / FAILED).exists():
                return
            idle = idle and not {*flock.holders(self._info.path / BUILDER_LOCK)} - {os.getpid()}
            events = read_events(self._info.path)
            if idle:
                waits = bool(events) and events[-1]["phase"] == "needs-cell"
                if asked or not (waits or ended):
                    return
                asked = self._build_with_consent()
            elif watch.silence() > self._patience:
                if ended:
                    self.failure = _FROZEN
                    return
                ended = True
                end_builder(self._info.path)
                watch = Watch(self._info.path)
            yield events[-1] if events else {"phase": "plan", "message": "Starting"}
            await asyncio.sleep(pause)
            pause = min(1.03 * pause, longest)

    def _build_with_consent(self) -> bool:
        """Start the builder again, now that the user has run a cell: source builds may run.

        False where somebody holds its lock: another kernel of this notebook that asked first, or
        the collector for a moment.
        """
        words = [*self._info.builder, str(self._info.path), "--cell-ran"]
        lock = os.open(self._info.path / BUILDER_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not flock.take(lock, fcntl.LOCK_EX):
                return False
            with contextlib.suppress(OSError):
                os.utime(lock)  # the sign of life of the builder until it gives one itself
            with (self._info.path / BUILDER_LOG).open("ab") as log:
                subprocess.Popen(
                    [*words, "--lock-fd", str(lock)],
                    env=builder_environment(os.environ),
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
            "why": "it takes no more files (df -i)" if files_full else "no space is left there (df)",
            "fix": "free space there, or set TORCH_OVERLAY_ROOT to a directory on another disk;"
            " then restart the kernel",
        }
    return _DIED


def move_in(overlay: Path, state: dict[str, Any]) -> None:
    """Move the staged packages to where the interpreter looks, and let it look."""
    settle(overlay, state)
    settle_added(overlay)
    look_again(overlay)


def look_again(overlay: Path) -> None:
    """Let the running interpreter find what is new in the overlay, and what its ``.pth`` files add."""
    own = site_packages(overlay)
    known = set(sys.path)
    for name in sorted(entry.name for entry in os.scandir(own) if entry.name.endswith(".pth")):
        site.addpackage(str(own), name, known)
    importlib.invalidate_caches()


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
    replaced = state.get("replaced", {})
    for name, (old, version) in replaced.items():
        lines.append(
            f"in this notebook only, {name} is {version} instead of the base's {old}: the extras need it"
        )
    if stale := [name for name in replaced if imported_before(info.path, name)]:
        names = ", ".join(stale)
        lines.append(f"Restart the kernel to use the new {names}: the base's is already imported")
    return "\n".join(lines)


def imported_before(overlay: Path, name: str) -> bool:
    """Whether this process has imported a distribution from elsewhere than the overlay that holds it."""
    own = str(site_packages(overlay))
    return any(
        not (getattr(module, "__file__", None) or own).startswith(own) for module in imported(overlay, name)
    )


def imported(overlay: Path, name: str) -> Iterator[Any]:
    """The modules of the overlay's distribution ``name`` that this process has imported, from anywhere."""
    for record in site_packages(overlay).glob("*.dist-info/RECORD"):
        if canonical(record.parent.name.partition("-")[0]) != name:
            continue
        for row in record.read_text(encoding="utf-8", errors="replace").splitlines():
            path, python, _ = row.partition(".py,")
            path = path if python else row.partition(",,")[0]  # a link to all of a package
            module = sys.modules.get(path.removesuffix("/__init__").replace("/", "."))
            if module:
                yield module


@contextlib.contextmanager
def _signals() -> Iterator[set[int]]:
    """SIGINT and SIGTERM that come meanwhile: at once they would end the kernel, with its cell unanswered."""
    caught: set[int] = set()
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {
        number: signal.signal(number, lambda number, _: caught.add(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
