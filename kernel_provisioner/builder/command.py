"""The builder's command line, which launches and kernels speak.

    python -m kernel_provisioner.builder GENERATION [--cell-ran] [--ahead] [--lock-fd FD]
    python -m kernel_provisioner.builder GENERATION --add [--declared] REQUIREMENT...

``GENERATION`` is the directory of the overlay to build, or to install something into. ``--cell-ran``: the
user has run a cell, so source builds may run. ``--ahead``: no kernel waits for it. ``--declared``: a cell of
the notebook says so itself. ``FD`` is the builder's lock, already held. Read without ``argparse``, whose
import takes milliseconds, and a cell waits.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from ..errors import CorruptState, InstallFailed, LockTimeout, OverlayError, ResolutionFailed
from ..inkernel.shared import heartbeat, layout
from ..inkernel.shared.environment import INDEX_VARIABLE
from ..inkernel.shared.packages import named_in
from ..overlay import store
from ..overlay.skeleton import remove_tree
from ..system import locks, processes
from ..system.pause_points import pause
from . import behind, limits, queue
from .build import build, failure_of
from .progress import Progress
from .spec import BuildSpec
from .supply import compile_new

_DECLARED = "--declared"
_BEHIND = 19
"""How nice a builder is that no kernel waits for."""


def main(argv: list[str] | None = None) -> int:
    """Build; 0 where the overlay is published or waits for a cell, 1 where it failed."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0].startswith("-"):
        sys.stderr.write(f"{__doc__}\n")
        return 2
    # Nobody else may change what is written here. Who may read the files of uv's cache, which other
    # environments are made of too, is the user's to say; overlays lie under a private directory.
    os.umask(os.umask(0o077) | 0o022)
    signal.signal(signal.SIGTERM, _end)
    generation, options = store.Generation(Path(words[0])), words[1:]
    if options[:1] == ["--add"]:
        return _add(generation, options[1:])
    held = int(options[options.index("--lock-fd") + 1]) if "--lock-fd" in options else -1
    waits = held >= 0 and "--ahead" not in options
    return _build(generation, held, cell_ran="--cell-ran" in options, waits=waits)


def _add(generation: store.Generation, requirements: list[str]) -> int:
    """Add, and print the outcome as one line of JSON."""
    from .add import add

    try:
        with locks.exclusive(generation.path / layout.BUILDER_LOCK, timeout=600):
            spec = BuildSpec.read(generation, generation.path.parent.parent, _index_template())
            with limits.deadline(spec.uv.whole_timeout), processes.guarded():
                wanted = [word for word in requirements if word != _DECLARED]
                added = add(spec, wanted, declared=len(wanted) < len(requirements))
            outcome: dict[str, object] = {**added._asdict(), "offer": added.offer._asdict()}
    except Exception as error:  # the edge: whatever failed is told by the magic
        outcome = dict(failure_of(error, generation).as_dict())
    sys.stdout.write(json.dumps(outcome) + "\n")
    return 0 if "changed" in outcome else 1


def _build(generation: store.Generation, held: int, *, cell_ran: bool, waits: bool) -> int:
    progress = Progress(generation.path / layout.PROGRESS)
    if held >= 0:
        lock = locks.Lock(generation.path / layout.BUILDER_LOCK, held)
        os.set_inheritable(held, False)
        if generation.behind:
            os.nice(_BEHIND)
        else:
            limits.end_when_alone(generation)
    else:
        try:
            # A moment's wait: the collector, looking whether anybody builds, holds it for less.
            lock = locks.exclusive(generation.path / layout.BUILDER_LOCK, timeout=1.0)
        except LockTimeout:
            return 0  # another builder is at it
    with lock:
        if (generation.path / layout.OVERLAY).exists():
            _follow(generation, _index_template())
            return 0
        heartbeat.beat(generation.path)
        try:
            _build_or_look_elsewhere(generation, progress, cell_ran=cell_ran, waits=waits)
        except (Exception, SystemExit) as error:  # the edge: whatever failed is told in the waiting cell
            return _give_up(generation, progress, error)
        if (generation.path / layout.OVERLAY).exists() and not generation.is_provisional:
            with contextlib.suppress(OSError):
                compile_new(BuildSpec.read(generation, generation.path.parent.parent, ""))
    return 0


def _give_up(generation: store.Generation, progress: Progress, error: BaseException) -> int:
    """Leave nothing half-built, and the reason where somebody may ask for it; the exit status."""
    if (generation.path / layout.OVERLAY).exists():  # only the last lines could not be written
        return 0
    remove_tree(generation.path / layout.STAGING)  # on a full disk that makes room for the reason
    if isinstance(error, SystemExit):
        raise error
    told = _with_way_out(failure_of(error, generation), generation)
    with contextlib.suppress(OSError):  # where there is still no room, the kernel sees that for itself
        generation.write(layout.FAILED, {"failure": told.as_dict()})
        progress.say("failed", told.what)
    return 1


def _with_way_out(error: OverlayError, generation: store.Generation) -> OverlayError:
    """``error``, with what lets go of what the notebook does not declare: it may be what fails."""
    with contextlib.suppress(CorruptState):
        said = generation.read(layout.SPEC)
        asked = said["order"]["extras"]
        added = [extra for extra in asked if extra not in said.get("declared", asked)]
        if added:
            names = " ".join(map(named_in, added))
            way = f"{', '.join(added)} came with %overlay add; to go on without:\n"
            error.fix = "\n".join(
                filter(None, [error.fix, f"{way}  jupyter overlay remove NOTEBOOK {names}"])
            )
    return error


def _build_or_look_elsewhere(
    generation: store.Generation, progress: Progress, *, cell_ran: bool, waits: bool
) -> None:
    """``waits``: a kernel is starting in the overlay."""
    root = store.Store(generation.path.parent.parent)
    spec = BuildSpec.read(generation, root.root, _index_template())
    if waits and not cell_ran:
        spec = spec._replace(provisional=behind.can_follow(spec))
    pause("begun")
    whole_timeout = spec.uv.whole_timeout
    try:
        with queue.single_flight(root.root, spec.known, progress):
            kind = "source" if cell_ran else "known" if spec.known.exists() else "new"
            kind = "behind" if generation.behind else kind
            build_slot = queue.build_slot(root.root, kind, progress)
            with build_slot, limits.deadline(whole_timeout), processes.guarded():
                try:
                    build(spec, progress, cell_ran=cell_ran)
                except processes.Frozen:  # whoever stopped uv may not do so again
                    build(spec, progress, cell_ran=cell_ran)
        _follow(generation, spec.index_template)
    except ResolutionFailed as error:
        from .other_bases import look_elsewhere

        builds = cell_ran and spec.policy.builds
        if error.meant:  # a slip of the pen, on every base
            raise
        told = error
        with contextlib.suppress(InstallFailed), limits.deadline(whole_timeout):
            told = look_elsewhere(spec, root, progress, error, builds=builds)
        raise told from error


def _follow(generation: store.Generation, index_template: str) -> None:
    """Fill the store behind a provisional overlay; where that cannot begin, the next launch tries again."""
    if generation.is_provisional:
        with contextlib.suppress(OSError, OverlayError):
            behind.follow(BuildSpec.read(generation, generation.path.parent.parent, index_template))


def _index_template() -> str:
    """Where PyTorch's packages are, with the credentials for it: as a launch says, or as the settings do."""
    if said := os.environ.pop(INDEX_VARIABLE, ""):
        return said
    from ..settings import load_settings  # a kernel has started this, and does not know the settings

    return load_settings().index_template


def _end(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)
