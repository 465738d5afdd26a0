"""What the builder of a notebook's environment did, for a panel."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import CorruptState, OverlayError, clean
from ..inkernel.shared import layout
from ..inkernel.shared.events import read_events
from ..launch.preview import preview
from ..overlay import store
from ..settings import Settings
from .subject import Subject

_MOST = 200_000  # characters of a log that are sent: its end


def log_of(subject: Subject, settings: Settings) -> dict[str, Any]:
    """``steps`` of the last build and the ``output`` of its process; both empty where nothing was built.

    Of an overlay that was built behind another, the other's are part of it.

    Raises OverlayError where the notebook says nothing that could be built.
    """
    overlay = subject.running
    if overlay is None:
        generation = preview(subject.found, pinned=subject.kernel.tag, settings=settings).generation
        overlay = generation.path if generation else None
    if overlay is None:
        return {"overlay": None, "steps": [], "output": ""}
    built = store.Generation(overlay)
    parts = [built.behind.path, overlay] if built.behind else [overlay]
    return {
        "overlay": str(overlay),
        "steps": [step for part in parts for step in read_events(part)],
        "output": clean("".join(_text(part / layout.BUILDER_LOG) for part in parts)),
        "state": built.state().value,
    }


def log_lines(log: Mapping[str, Any]) -> list[str]:
    """What ``log_of`` found, for people: the steps, what the process printed, and why it failed."""
    if not log["overlay"]:
        return ["nothing was built yet"]
    lines = [f"{step['phase']:8} {step['message']}" for step in log["steps"]]
    lines += log["output"].splitlines()
    with contextlib.suppress(CorruptState, KeyError):
        failure = store.Generation(Path(log["overlay"])).read(layout.FAILED)["failure"]
        lines += str(OverlayError.from_dict(failure)).splitlines()
    return lines


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[-_MOST:]
    except OSError:
        return ""
