"""Named points at which a test may hold this program, to kill it or to change the world meanwhile.

Nothing happens unless the environment names a point: ``TORCH_OVERLAY_PAUSE=<name>=<directory>``.
The process that comes there leaves ``<name>.<pid>`` in that directory, and waits until somebody
opens ``<name>.go``, a FIFO there, for writing. Standard library only.
"""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "TORCH_OVERLAY_PAUSE"


def pause(name: str) -> None:
    """Wait here, if this point is the one that the environment names."""
    wanted, _, directory = os.environ.get(VARIABLE, "").partition("=")
    if wanted == name:
        place = Path(directory)
        (place / f"{name}.{os.getpid()}").touch()
        (place / f"{name}.go").read_bytes()
