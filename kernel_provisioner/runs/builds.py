"""A build that is under way: how far it is, and its end where a person cancels it."""

from __future__ import annotations

from typing import Any

from ..errors import InstallFailed
from ..inkernel.shared import heartbeat, layout
from ..inkernel.shared.events import read_events
from ..launch.preview import preview
from ..overlay import store
from ..overlay.skeleton import remove_tree
from ..settings import Settings
from .subject import Subject

_CANCELLED = InstallFailed(
    "this notebook's packages were not installed: the build was cancelled",
    why="somebody cancelled it while it ran",
    fix="restart the kernel to install them",
)


def progress_of(generation: store.Generation | None) -> dict[str, Any] | None:
    """The last step of a build that is under way, as ``read_events`` has it; None where none is."""
    if generation is None or generation.state() is not store.State.BUILDING:
        return None
    steps = read_events(generation.path)
    return steps[-1] if steps else {"phase": "plan", "message": "Starting"}


def cancel(subject: Subject, settings: Settings) -> bool:
    """End the build of a notebook's environment, and let its cells say why they fail; false where none runs.

    Packages that were fetched stay in uv's cache. The next start of the kernel builds again. Raises
    OverlayError where the notebook says nothing that could be built.
    """
    generation = store.Generation(subject.running) if subject.running else None
    if generation is None:
        generation = preview(subject.found, pinned=subject.kernel.tag, settings=settings).generation
    if generation is None or generation.state() is not store.State.BUILDING:
        return False
    # First the reason: a cell that waits tells of it as soon as nobody builds any more.
    generation.write(layout.FAILED, {"failure": _CANCELLED.as_dict()})
    heartbeat.end_builder(generation.path)
    if (generation.path / layout.OVERLAY).exists():  # it had been published by then
        (generation.path / layout.FAILED).unlink(missing_ok=True)
        return False
    remove_tree(generation.path / layout.STAGING)
    return True
