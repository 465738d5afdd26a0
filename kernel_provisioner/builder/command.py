"""The builder's command line, which launches and kernels speak.

    python -m kernel_provisioner.builder GENERATION [--cell-ran] [--lock-fd FD]
    python -m kernel_provisioner.builder GENERATION --add REQUIREMENT...

``GENERATION`` is the directory of the overlay to build, or to install something into. ``--cell-ran``: the
user has run a cell, so source builds may run. ``FD`` is the builder's lock, already held. Read without
``argparse``, whose import takes milliseconds, and a cell waits.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from .. import locks, process
from ..errors import InstallFailed, LockTimeout, ResolutionFailed
from ..overlay import store
from ..overlay.skeleton import remove_tree
from ..pausepoint import pause
from . import limits, turns
from .build import build, failure_of
from .order import Order
from .progress import Progress


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
    return _build(generation, held, cell_ran="--cell-ran" in options)


def _add(generation: store.Generation, requirements: list[str]) -> int:
    """Add, and print the outcome as one line of JSON."""
    from .add import add

    try:
        with locks.exclusive(generation.path / store.BUILDER_LOCK, timeout=600):
            order = Order.read(generation, generation.path.parent.parent)
            outcome: dict[str, object] = {"changed": add(order, requirements)}
    except Exception as error:  # the edge: whatever failed is told by the magic
        outcome = dict(failure_of(error, generation).as_dict())
    sys.stdout.write(json.dumps(outcome) + "\n")
    return 0 if "changed" in outcome else 1


def _build(generation: store.Generation, held: int, *, cell_ran: bool) -> int:
    progress = Progress(generation.path / store.PROGRESS)
    if held >= 0:
        lock = locks.Lock(generation.path / store.BUILDER_LOCK, held)
        os.set_inheritable(held, False)
        limits.end_when_alone(generation)
    else:
        try:
            # A moment's wait: the collector, looking whether anybody builds, holds it for less.
            lock = locks.exclusive(generation.path / store.BUILDER_LOCK, timeout=1.0)
        except LockTimeout:
            return 0  # another builder is at it
    with lock:
        if (generation.path / store.OVERLAY).exists():
            return 0
        try:
            _build_or_look_elsewhere(generation, progress, cell_ran=cell_ran)
        except (Exception, SystemExit) as error:  # the edge: whatever failed is told in the waiting cell
            return _give_up(generation, progress, error)
    return 0


def _give_up(generation: store.Generation, progress: Progress, error: BaseException) -> int:
    """Leave nothing half-built, and the reason where somebody may ask for it; the exit status."""
    if (generation.path / store.OVERLAY).exists():  # only the last words could not be written
        return 0
    remove_tree(generation.path / store.STAGING)  # on a full disk that makes room for the reason
    if isinstance(error, SystemExit):
        raise error
    told = failure_of(error, generation)
    with contextlib.suppress(OSError):  # where there is still no room, the kernel sees that for itself
        generation.write(store.FAILED, {"failure": told.as_dict()})
        progress.say("failed", told.what)
    return 1


def _build_or_look_elsewhere(generation: store.Generation, progress: Progress, *, cell_ran: bool) -> None:
    root = store.Store(generation.path.parent.parent)
    order = Order.read(generation, root.root)
    pause("begun")
    whole_timeout = order.uv.whole_timeout
    known = root.lock_path(order.key)
    try:
        with turns.only_one(root.root, known, progress):
            kind = "source" if cell_ran else "known" if known.exists() else "new"
            turn = turns.turn(root.root, kind, progress)
            with turn, limits.deadline(whole_timeout), process.guarded():
                build(order, root, progress, cell_ran=cell_ran)
    except ResolutionFailed as error:
        from .elsewhere import look_elsewhere

        builds = cell_ran and order.policy.builds
        told = error
        with contextlib.suppress(InstallFailed), limits.deadline(whole_timeout):
            told = look_elsewhere(order, root, progress, error, builds=builds)
        raise told from error


def _end(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)
