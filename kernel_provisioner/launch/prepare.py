"""From "start a kernel for this notebook" to a command and an environment, in milliseconds.

Everything is derived again at each launch: the notebook, its metadata, the bases and the
hardware may all have changed since the last one. A user's mistake never raises: servers show an
exception at a restart as a kernel that hangs (jupyter_server), so the kernel starts and tells.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import BuildFailed, OverlayError
from ..inkernel.shared import layout
from ..inkernel.shared.info import VARIABLE, Info
from ..notebook.find import FoundNotebook
from ..overlay import store
from ..overlay.environment import kernel_environment
from ..settings import Settings
from ..system import locks, os_errors
from ..warm import WarmContext
from .acquire import builder_command, cell_command, choose_and_hold, claim
from .asked import read_request, with_additions

_MAIN = Path(__file__).parents[1] / "inkernel" / "main.py"


@dataclasses.dataclass
class Launch:
    """A kernel to start: the command in front of its arguments, and its environment.

    ``held`` are locks that the kernel inherits; whoever starts it hands them over, then releases
    its own. ``kept`` is the directory of the notebook's overlays, and ``seen`` the notebook as a
    file; ``scratch`` is the directory of a kernel without a notebook, to be removed with it.
    ``warm_context`` is what a warm start needs to know, where a base was chosen. ``environ`` is what
    ``env`` was made from.
    """

    argv: list[str]
    env: dict[str, str]
    held: list[locks.Lock]
    kept: Path | None = None
    seen: store.Identity | None = None
    scratch: Path | None = None
    failure: OverlayError | None = None
    warm_context: WarmContext | None = None
    environ: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def instead(self, error: OSError) -> Launch | None:
        """What to start where this cannot be; None where this is what only explains already.

        A base on a shared disk, for example, holds programs for one kind of processor only.
        """
        if self.failure is not None:
            return None
        told = BuildFailed(
            f"this notebook's Python could not be started: {error.strerror or error}",
            why=str(error),
            fix="jupyter overlay doctor  looks at what it stands on; a base that was made on another kind of"
            " machine is of no use here: jupyter overlay base create TAG  makes one that is",
        )
        notebook = json.loads(self.env[VARIABLE])["notebook"]
        return _explaining_kernel(told, notebook, self.environ, "")

    def release(self) -> None:
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
    renew: bool = False,
    ahead: bool = False,
) -> Launch:
    """What to start for ``found``; never raises for what a notebook, a base or a disk may do.

    Nor for what a settings file holds, where ``settings`` is a function that reads it. ``renew``: in a new
    overlay, though there may be one that fits. ``ahead``: for a kernel that comes later, see ``claim``.
    """
    near = Path()
    try:
        known = settings if isinstance(settings, Settings) else settings()
        near = Path(known.overlay_root)
        return _prepare(
            found,
            pinned=pinned,
            settings=known,
            environ=environ,
            kernel_id=kernel_id,
            renew=renew,
            ahead=ahead,
        )
    except Exception as error:  # the edge: a launch that raises is a kernel that hangs
        return _explaining_kernel(_told(error, near), str(found.path or ""), environ, pinned)


def _prepare(
    found: FoundNotebook,
    *,
    pinned: str,
    settings: Settings,
    environ: Mapping[str, str],
    kernel_id: str,
    renew: bool,
    ahead: bool,
) -> Launch:
    root = store.Store(Path(settings.overlay_root))
    root.prepare()
    kept = root.notebook_dir(found.path) if found.path else None
    directory = kept or root.scratch_dir(kernel_id or os.urandom(8).hex())
    asked = with_additions(read_request(found, settings), settings, directory)
    request = asked.whole
    chosen, held = choose_and_hold(request, pinned, settings, root)
    base = chosen.base
    with contextlib.ExitStack() as unless_started:
        for lock in held:
            unless_started.callback(lock.release)
        claimed = claim(root, directory, asked, chosen, settings, found, renew=renew, ahead=ahead)
        unless_started.callback(claimed.lock.release)
        held.append(claimed.lock)
        manifest = base.manifest
        noexec = [line for line in (root.noexec(),) if line and request.extras]
        info = Info(
            overlay=str(claimed.generation.path),
            base={**manifest.identity, "kernel": f"torch-{manifest.tag}", "bytes": manifest.bytes},
            reason=chosen.reason,
            notices=(*asked.notices, *chosen.notices, *claimed.notices, *noexec),
            notebook=str(found.path or ""),
            quiet=found.quiet,
            scratch=kept is None,
            builder=tuple(builder_command()),
            command=tuple(cell_command()),
            kernel=_kernel(pinned),
            torch=asked.request.torch,
            requires_python=asked.request.requires_python,
            held=tuple(lock.fd for lock in held),
        )
        env = kernel_environment(environ, claimed.generation.path, settings.policy)
        argv = [str(claimed.generation.python), str(_MAIN)]
        told = {**env, VARIABLE: info.dumps()}
        ready = claimed.generation.state() is store.State.READY
        building = None if ready else claimed.generation
        context = WarmContext(base, settings, _against_warm(claimed.generation), building)
        launch = Launch(argv, told, held, warm_context=context, environ=environ)
        unless_started.pop_all()
    if found.path is None:
        return dataclasses.replace(launch, scratch=directory)
    return dataclasses.replace(launch, kept=directory, seen=store.identity(found.path))


def _against_warm(generation: store.Generation) -> str:
    """Why a kernel in this overlay cannot start warm, as far as the overlay knows."""
    with contextlib.suppress(OSError):
        names = (generation.path / layout.READ_BY_TORCH).read_text(encoding="utf-8")
        return f"its notebook sets what torch reads when it is imported: {names}"
    return ""


def _explaining_kernel(error: OverlayError, notebook: str, environ: Mapping[str, str], pinned: str) -> Launch:
    """A kernel on the server's own ipykernel whose every cell tells what is wrong, but ``%overlay`` works."""
    info = Info(
        failure=error.as_dict(), notebook=notebook, command=tuple(cell_command()), kernel=_kernel(pinned)
    )
    return Launch([sys.executable, str(_MAIN)], {**environ, VARIABLE: info.dumps()}, [], failure=error)


def _kernel(pinned: str) -> str:
    """The name of the kernel that pins this tag, or that of the one that chooses."""
    return f"torch-{pinned}" if pinned else "torch"


def _told(error: Exception, near: Path) -> OverlayError:
    """Any error as one that can be told in a cell; ``near`` is where, if it does not say so itself."""
    if isinstance(error, OverlayError):
        return error
    if isinstance(error, OSError):
        if lack := os_errors.lack_of(error, near):
            return BuildFailed(f"the overlay could not be prepared: {lack.what}", why=lack.why, fix=lack.fix)
        return BuildFailed(
            f"the overlay could not be prepared: {error.strerror or error}",
            why=str(error),
            fix=(
                "free space at that path and make it writable, or set TORCH_OVERLAY_ROOT to another directory"
            ),
        )
    return BuildFailed(
        "the overlay could not be prepared",
        why=f"{type(error).__name__}: {error}",
        fix="this is a bug in kernel-provisioner; jupyter overlay doctor  checks this machine",
    )
