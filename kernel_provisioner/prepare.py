"""From "start a kernel for this notebook" to a command and an environment, in milliseconds.

Everything is derived anew at each launch: the notebook, its metadata, the bases and the
hardware may all have changed since the last one. A user's mistake never raises: servers show an
exception at a restart as a kernel that hangs (jupyter_server), so the kernel starts and tells.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from . import locks, process, room
from .base import registry
from .base.registry import RegisteredBase
from .choose import Choice, choose
from .errors import BuildFailed, CorruptState, LockTimeout, NotebookUnreadable, OverlayError
from .inkernel.info import VARIABLE, Info
from .inkernel.packages import named_in, packages
from .notebook.find import FoundNotebook
from .notebook.read import read_notebook, torch_env_of
from .overlay import store
from .overlay.environment import kernel_environment
from .overlay.skeleton import write_interpreter, write_receipts
from .pausepoint import pause
from .request import Request, parse_request
from .settings import Settings
from .uv_facts import uv_path
from .warm import Ground

_MAIN = Path(__file__).parent / "inkernel" / "main.py"
_LAUNCH_WAIT = 10.0  # seconds for another launch of the same notebook to write its skeleton


@dataclasses.dataclass
class Launch:
    """A kernel to start: the command in front of its arguments, and its environment.

    ``held`` are locks that the kernel inherits; whoever starts it hands them over, then releases
    its own. ``kept`` is the directory of the notebook's overlays, and ``seen`` the notebook as a
    file; ``scratch`` is the directory of a kernel without a notebook, to be removed with it.
    ``ground`` is what a warm start needs to know, where the overlay is ready.
    """

    argv: list[str]
    env: dict[str, str]
    held: list[locks.Lock]
    kept: Path | None = None
    seen: store.Identity | None = None
    scratch: Path | None = None
    failure: OverlayError | None = None
    ground: Ground | None = None

    def let_go(self) -> None:
        """Release what is held here; a kernel that has inherited it goes on holding it."""
        for lock in self.held:
            lock.release()


def prepare(
    found: FoundNotebook,
    *,
    pinned: str,
    settings: Settings | Callable[[], Settings],
    environ: Mapping[str, str],
    kernel_id: str,
) -> Launch:
    """What to start for ``found``; never raises for what a notebook, a base or a disk may do.

    Nor for what a settings file holds, where ``settings`` is a function that reads it.
    """
    near = Path()
    try:
        known = settings if isinstance(settings, Settings) else settings()
        near = Path(known.overlay_root)
        return _prepare(found, pinned=pinned, settings=known, environ=environ, kernel_id=kernel_id)
    except Exception as error:  # the edge: a launch that raises is a kernel that hangs
        return _explaining_kernel(_told(error, near), found, environ)


def _prepare(
    found: FoundNotebook, *, pinned: str, settings: Settings, environ: Mapping[str, str], kernel_id: str
) -> Launch:
    asked = _asked(found, settings)
    root = store.Store(Path(settings.overlay_root))
    root.prepare()
    chosen, held = _chosen_and_held(asked.request, pinned, settings, root)
    base = chosen.base
    kept = root.notebook_dir(found.path) if found.path else None
    directory = kept or root.scratch_dir(kernel_id or f"pid{os.getpid()}")
    with contextlib.ExitStack() as unless_started:
        for lock in held:
            unless_started.callback(lock.release)
        claim = _claim(root, directory, asked.request, chosen, settings, found)
        unless_started.callback(claim.lock.release)
        held.append(claim.lock)
        manifest = base.manifest
        info = Info(
            overlay=str(claim.generation.path),
            base={
                "id": manifest.id,
                "tag": manifest.tag,
                "torch": manifest.torch,
                "python": manifest.python,
                "path": manifest.prefix,
                "kernel": f"torch-{manifest.tag}",
                "bytes": manifest.bytes,
            },
            reason=chosen.reason,
            notices=(*asked.notices, *chosen.notices, *claim.notices),
            notebook=str(found.path or ""),
            has_script=asked.has_script,
            scratch=kept is None,
            builder=tuple(builder_command()),
            held=tuple(lock.fd for lock in held),
        )
        env = kernel_environment(environ, claim.generation.path, manifest, base.receipts, settings.policy)
        argv = [str(claim.generation.python), str(_MAIN)]
        told = {**env, VARIABLE: info.dumps()}
        ready = claim.generation.state() is store.State.READY
        launch = Launch(argv, told, held, ground=Ground(base, settings) if ready else None)
        unless_started.pop_all()
    if found.path is None:
        return dataclasses.replace(launch, scratch=directory)
    return dataclasses.replace(launch, kept=directory, seen=store.identity(found.path))


@dataclasses.dataclass(frozen=True)
class Outlook:
    """What a launch would find: the base and why, and how far the overlay is.

    ``state`` is that of ``generation``, the one to start in or else the newest; or ``outdated``
    where the notebook has asked for something else since, ``damaged`` where its record cannot be
    read, ``none`` where there is no overlay yet.
    """

    base: RegisteredBase
    chosen: Choice
    request: Request
    directory: Path
    generation: store.Generation | None
    state: str


def look(found: FoundNotebook, *, pinned: str, settings: Settings) -> Outlook:
    """What a launch would choose and find; raises OverlayError where it would fail.

    Nothing is changed, but that an adopted base which is not what it was is looked at again.
    """
    asked = _asked(found, settings)
    root = store.Store(Path(settings.overlay_root))
    chosen = choose(asked.request, pinned=pinned, settings=settings, root=root)
    base = chosen.base
    directory = root.notebook_dir(found.path or Path())
    generation, state = _standing(root, directory, store.order_of(asked.request, base.manifest, settings))
    return Outlook(base, chosen, asked.request, directory, generation, state)


def _standing(
    root: store.Store, directory: Path, order: Mapping[str, object]
) -> tuple[store.Generation | None, str]:
    if (fitting := root.fitting(directory, order)) is not None:
        return fitting, fitting.state().value
    for newest in root.generations(directory)[:1]:
        state = newest.state()
        try:
            same = newest.read(store.ORDER)["order"] == order
        except CorruptState:
            return newest, "damaged"
        if not same:
            return newest, "outdated"
        return newest, "damaged" if state is store.State.READY else state.value
    return None, "none"


@dataclasses.dataclass(frozen=True)
class _Asked:
    """What the notebook says, and what to tell of how it says it."""

    request: Request
    notices: tuple[str, ...] = ()
    has_script: bool = False


def _asked(found: FoundNotebook, settings: Settings) -> _Asked:
    """The notebook's request; an unreadable notebook asks for nothing, and is told of."""
    if found.content is None and found.path is None:
        return _Asked(Request(), ("no notebook is known to this kernel: it runs on the base alone",))
    try:
        if found.content is not None:
            text = torch_env_of(found.content)
        else:
            assert found.path is not None
            text = read_notebook(found.path)
    except NotebookUnreadable as error:
        why = f" ({error.why})" if error.why else ""
        return _Asked(Request(), (f"{error.what}: running on the base alone{why}",))
    request = parse_request(
        text.metadata, text.script_blocks, uv_lock=text.uv_lock, allow_urls=settings.policy.urls
    )
    return _Asked(request, request.warnings, bool(text.script_blocks))


def _chosen_and_held(
    request: Request, pinned: str, settings: Settings, root: store.Store
) -> tuple[Choice, list[locks.Lock]]:
    """The base, and the lock that keeps it; chosen anew where it was removed in between."""
    while True:
        chosen = choose(request, pinned=pinned, settings=settings, root=root)
        pause("chosen")
        try:
            lock = registry.hold(chosen.base)
        except LockTimeout:
            continue
        if registry.is_registered(chosen.base):
            return chosen, [lock] if lock else []
        if lock:
            lock.release()


@dataclasses.dataclass(frozen=True)
class _Claim:
    """An overlay to start in, held against the collector, and what to tell of it."""

    generation: store.Generation
    lock: locks.Lock
    notices: tuple[str, ...] = ()


def _claim(
    root: store.Store,
    directory: Path,
    request: Request,
    chosen: Choice,
    settings: Settings,
    found: FoundNotebook,
) -> _Claim:
    """A ready overlay, one that is being built, or a new one, whose builder is started."""
    base = chosen.base
    order = store.order_of(request, base.manifest, settings)
    with _launch_lock(directory):
        while (generation := root.fitting(directory, order)) is not None:
            pause("found")
            lock = _hold(generation)
            try:
                if generation.state() is not store.State.ABANDONED:
                    return _Claim(generation, lock)
            except BaseException:
                lock.release()
                raise
            lock.release()  # its builder ended a moment ago, because nobody waited for it any more
        left_behind = _installed_by_hand(root, directory, request)
        generation = root.begin(directory)
        lock = _hold(generation)
        try:
            if found.path:
                store.claim(directory, found.path)
            write_interpreter(generation.path, base.manifest)
            generation.write(
                store.ORDER,
                {
                    "order": order,
                    "lock": request.lock.as_dict() if request.lock else None,
                    "base_directory": str(base.directory),
                    "alternatives": [str(directory) for directory in chosen.alternatives],
                    "settings": settings.as_dict(),
                    "notebook": str(found.path or ""),
                },
            )
            if request.empty:
                write_receipts(generation.path, base.manifest, base.skeleton_path, uv=uv_path())
                generation.publish_empty(base.manifest.id)
            else:
                start_builder(generation)
        except BaseException:
            lock.release()
            raise
    return _Claim(generation, lock, left_behind)


def _launch_lock(directory: Path) -> locks.Lock:
    """The lock that launches and the collector take in turn on a notebook's directory, made if need be."""
    while True:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            return locks.exclusive(directory / store.LAUNCH_LOCK, timeout=_LAUNCH_WAIT)
        except FileNotFoundError:
            if directory.exists():  # and takes no lock file
                raise
            continue  # the collector took the directory away in between


def _hold(generation: store.Generation) -> locks.Lock:
    """A shared lock on the overlay for a kernel's life; its file's time says when one last started."""
    lock = locks.shared(generation.path / store.USE_LOCK, timeout=_LAUNCH_WAIT)
    with contextlib.suppress(OSError):  # on a read-only disk a ready overlay still serves
        os.utime(lock.fd)
    return lock


def _installed_by_hand(root: store.Store, directory: Path, request: Request) -> tuple[str, ...]:
    """A line on the packages that the last overlay holds and the next one will not."""
    declared = {named_in(extra) for extra in request.extras}
    for generation in root.generations(directory):
        if generation.state() is store.State.READY:
            by_hand = [package.name for package in packages(generation.path) if not package.declared]
            if names := [name for name in by_hand if name not in declared]:
                line = "installed by hand before this notebook asked for something else, and not here now: "
                return (f"{line}{', '.join(names)}; to have them again: %overlay add {' '.join(names)}",)
            break
    return ()


def start_builder(generation: store.Generation, *options: str) -> None:
    """Start the builder; it holds the builder's lock from before it exists until it ends."""
    with locks.exclusive(generation.path / store.BUILDER_LOCK, timeout=_LAUNCH_WAIT) as lock:
        process.spawn(
            [*builder_command(), str(generation.path), *options, "--lock-fd", str(lock.fd)],
            env=process.inherited_environment(os.environ),
            log=generation.path / "builder.log",
            pass_fds=(lock.fd,),
        )


def builder_command() -> list[str]:
    """The command that builds an overlay, to be followed by its generation's path."""
    return [sys.executable, "-m", "kernel_provisioner.builder"]


def _explaining_kernel(error: OverlayError, found: FoundNotebook, environ: Mapping[str, str]) -> Launch:
    """A kernel on the server's own ipykernel whose every cell tells what is wrong."""
    info = Info(failure=error.as_dict(), notebook=str(found.path or ""))
    return Launch([sys.executable, str(_MAIN)], {**environ, VARIABLE: info.dumps()}, [], failure=error)


def _told(error: Exception, near: Path) -> OverlayError:
    """Any error as one that can be told in a cell; ``near`` is where, if it does not say so itself."""
    if isinstance(error, OverlayError):
        return error
    if isinstance(error, OSError):
        if lack := room.lack_of(error, near):
            return BuildFailed(f"the overlay could not be prepared: {lack.what}", why=lack.why, fix=lack.fix)
        return BuildFailed(
            f"the overlay could not be prepared: {error.strerror or error}",
            why=str(error),
            fix="make room and permission at that path, or set TORCH_OVERLAY_ROOT to another directory",
        )
    return BuildFailed(
        "the overlay could not be prepared",
        why=f"{type(error).__name__}: {error}",
        fix="this is a fault of kernel-provisioner; jupyter overlay doctor  looks at what it rests on",
    )
