"""What a builder has told so far: the lines of an overlay's progress file.

Each is JSON: ``phase`` (wait, plan, fetch, install, verify, ready, failed, needs-cell), ``message`` for
people, and where it is known ``done`` and ``total`` (downloads and builds), and ``bytes`` of ``total_bytes``
(downloads that have come, and all that were begun).
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from .layout import PROGRESS


def read_events(overlay: Path) -> list[dict[str, Any]]:
    """The events of an overlay's build, the oldest first; none where nothing was told yet."""
    events: list[dict[str, Any]] = []
    with contextlib.suppress(OSError):
        for line in (overlay / PROGRESS).read_text("utf-8", "replace").splitlines():
            with contextlib.suppress(ValueError):  # the last one may still be on its way
                events.append(dict(json.loads(line)))
    return events
