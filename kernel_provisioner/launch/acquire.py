"""Take a base and an overlay for a kernel: held against the collector, with a builder where one is needed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

from ..base import registry
from ..errors import CorruptState, UvUnusable
from ..inkernel.shared import heartbeat, layout
from ..inkernel.shared.environment import INDEX_VARIABLE, builder_environment
from ..inkernel.shared.packages import by_hand, named_in
from ..model.request import Request
from ..notebook.find import FoundNotebook
from ..overlay import store
from ..overlay.added import drop_decided
from ..overlay.following import is_followed, taken_over
from ..overlay.guards import Terms
from ..overlay.skeleton import has_guards, renew_hook, renew_lent, write_interpreter, write_receipts
from ..settings import Settings
from ..system import locks, processes
from ..system.pause_points import pause
from ..uv.discovery import uv_path
from .asked import Asked
from .choose import Choice, choose

_LAUNCH_WAIT = 10.0  # seconds for another launch of the same notebook to write its skeleton


def choose_and_hold(
    request: Request, pinned: str, settings: Settings, root: store.Store
) -> tuple[Choice, list[locks.Lock]]:
    """The base, and the lock that keeps it; chosen again where it was removed in between."""
    while True:
        chosen = choose(request, pinned=pinned, settings=settings, root=root)
        pause("chosen")
        lock = registry.hold(chosen.base)
        if registry.is_registered(chosen.base):
            return chosen, [lock] if lock else []
        if lock:
            lock.release()


@dataclasses.dataclass(frozen=True)
class Claim:
    """An overlay to start in, held against the collector, and what to tell of it."""

    generation: store.Generation
    lock: locks.Lock
    notices: tuple[str, ...] = ()


def claim(
    root: store.Store,
    directory: Path,
    asked: Asked,
    chosen: Choice,
    settings: Settings,
    found: FoundNotebook,
    *,
    renew: bool = False,
    ahead: bool = False,
) -> Claim:
    """A ready overlay, one that is being built, or a new one, whose builder is started.

    ``renew``: a new one, whatever there is. ``ahead``: no kernel waits for it, so that it is not provisional.
    """
    base, request = chosen.base, asked.whole
    says = {"declared": list(asked.request.extras), "script": asked.script}
    terms = Terms(settings.policy, settings.index_template)
    spec = store.spec_of(request, base.manifest, settings)
    with launch_lock(directory):
        last = _last_used(root, directory)
        if not asked.unreadable:
            with contextlib.suppress(OSError):
                drop_decided(directory, asked.request.extras)
        while not renew and (fits := root.fitting(directory, spec, base.manifest)) is not None:
            generation = taken_over(last, fits, spec)
            pause("found")
            lock = hold_overlay(generation)
            try:
                state = generation.state()
                if state is store.State.READY:
                    with contextlib.suppress(OSError, UvUnusable):  # on a read-only disk it serves as it is
                        _renew(generation, base, terms)
                frozen = state is store.State.BUILDING and heartbeat.is_frozen(generation.path)
                if state is not store.State.ABANDONED and not frozen:
                    with contextlib.suppress(OSError):
                        _note(generation, says)
                    if fits.is_provisional and not is_followed(root, fits):
                        with contextlib.suppress(OSError):
                            start_builder(fits, settings)
                    return Claim(generation, lock, _base_changed(last, generation, base))
            except BaseException:
                lock.release()
                raise
            lock.release()  # its builder ended a moment ago, because nobody waited for it any more
            if frozen:  # for ever, where it is on another machine: it goes on, if it does, where nobody looks
                heartbeat.end_builder(generation.path)
                break
        left_behind = _installed_by_hand(root, directory, request)
        generation = root.begin(directory)
        lock = hold_overlay(generation)
        try:
            if found.path:
                store.claim(directory, found.path)
            write_interpreter(generation.path, base)
            generation.write(
                layout.SPEC,
                {
                    "order": spec,
                    **says,
                    "lock": request.lock.as_dict() if request.lock else None,
                    "base_directory": str(base.directory),
                    "alternatives": [str(directory) for directory in chosen.alternatives],
                    "settings": settings.as_dict(),
                    "notebook": str(found.path or ""),
                },
            )
            if request.empty:
                write_receipts(generation.path, base, terms, uv=uv_path())
                generation.publish_empty(base.manifest.id)
            else:
                start_builder(generation, settings, *(["--ahead"] if ahead else []))
        except BaseException:
            lock.release()
            raise
    return Claim(generation, lock, (*_base_changed(last, generation, base), *left_behind))


def _renew(generation: store.Generation, base: registry.RegisteredBase, terms: Terms) -> None:
    """Give an overlay of an earlier version or another place what it lacks; raises OSError, UvUnusable."""
    renew_hook(generation.path, base)
    if not has_guards(generation.path):
        write_receipts(generation.path, base, terms, uv=uv_path())
    renew_lent(generation.path, base)


def _note(generation: store.Generation, says: dict[str, Any]) -> None:
    """Keep what the notebook says now where an addition reads it; raises OSError."""
    data = generation.read(layout.SPEC)
    if any(data.get(key) != value for key, value in says.items()):
        generation.write(layout.SPEC, {**data, **says})


def launch_lock(directory: Path) -> locks.Lock:
    """The lock that launches and the collector take in turn on a notebook's directory, made if need be."""
    while True:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            return locks.exclusive(directory / layout.LAUNCH_LOCK, timeout=_LAUNCH_WAIT)
        except FileNotFoundError:
            if directory.exists():  # and takes no lock file
                raise
            continue  # the collector took the directory away in between


def hold_overlay(generation: store.Generation) -> locks.Lock:
    """A shared lock on the overlay for a kernel's life; its file's time says when one last started."""
    lock = locks.shared(generation.path / layout.USE_LOCK, timeout=_LAUNCH_WAIT)
    with contextlib.suppress(OSError):  # on a read-only disk a ready overlay still serves
        os.utime(lock.fd)
    return lock


def _last_used(root: store.Store, directory: Path) -> store.Generation | None:
    """The overlay in which a kernel of this notebook was started last."""
    used: dict[float, store.Generation] = {}
    for generation in root.generations(directory):
        with contextlib.suppress(OSError):
            used[(generation.path / layout.USE_LOCK).stat().st_mtime] = generation
    return used[max(used)] if used else None


def _base_changed(
    last: store.Generation | None, now: store.Generation, base: registry.RegisteredBase
) -> tuple[str, ...]:
    """A line where the kernel before this one ran on another base."""
    if last is None or last == now:
        return ()
    with contextlib.suppress(CorruptState, KeyError):
        before = last.read(layout.SPEC)["order"]["base"]
        if before != base.manifest.id:
            return (f"this notebook ran on {before} the last time, and runs on {base.manifest.id} now",)
    return ()


def _installed_by_hand(root: store.Store, directory: Path, request: Request) -> tuple[str, ...]:
    """A line on the packages that the last overlay holds and the next one will not."""
    declared = {named_in(extra) for extra in request.extras}
    for generation in root.generations(directory):
        if generation.state() is store.State.READY:
            found = [package.name for package in by_hand(generation.path)]
            if names := [name for name in found if name not in declared]:
                line = "installed by hand in the overlay before this one, and not here now: "
                return (f"{line}{', '.join(names)}; to have them again: %overlay add {' '.join(names)}",)
            break
    return ()


def start_builder(generation: store.Generation, settings: Settings, *options: str) -> None:
    """Start the builder; it holds the builder's lock from before it exists until it ends.

    The credentials that ``settings`` may hold reach it by its environment, which no other user can read.
    """
    with locks.exclusive(generation.path / layout.BUILDER_LOCK, timeout=_LAUNCH_WAIT) as lock:
        with contextlib.suppress(OSError):
            os.utime(lock.fd)  # the builder's sign of life until it gives one itself
        processes.spawn(
            [*builder_command(), str(generation.path), *options, "--lock-fd", str(lock.fd)],
            env={**builder_environment(os.environ), INDEX_VARIABLE: settings.index_template},
            log=generation.path / "builder.log",
            pass_fds=(lock.fd,),
        )


def cell_command() -> list[str]:
    """The command that does what a cell asks of ``jupyter overlay``, to be followed by its words.

    No file of the directory where it is started can take the place of a module.
    """
    safe = "import sys; sys.path = [p for p in sys.path if p]"
    return [sys.executable, "-c", f"{safe}; from kernel_provisioner.cli.inside import main; main()"]


def builder_command() -> list[str]:
    """The command that builds an overlay, to be followed by its generation's path."""
    return [sys.executable, "-m", "kernel_provisioner.builder"]
