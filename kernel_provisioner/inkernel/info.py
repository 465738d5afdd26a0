"""What the launch tells its kernel, in one environment variable."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

VARIABLE = "TORCH_OVERLAY"


@dataclasses.dataclass(frozen=True)
class Info:
    """One kernel's launch: where it runs, why there, and what is still to be done.

    ``failure`` (``what``, ``why``, ``fix``) is set where no cell can run. ``builder`` is the
    command that builds the overlay, for what waits for the first cell, and adds to it;
    ``has_script`` tells of a ``# /// script`` cell, ``scratch`` of an overlay that goes with this
    process; ``held`` are inherited descriptors, whose locks last as long as this process.
    """

    overlay: str = ""
    base: dict[str, Any] = dataclasses.field(default_factory=dict)
    reason: str = ""
    notices: tuple[str, ...] = ()
    notebook: str = ""
    has_script: bool = False
    scratch: bool = False
    failure: dict[str, str] = dataclasses.field(default_factory=dict)
    builder: tuple[str, ...] = ()
    held: tuple[int, ...] = ()

    @property
    def path(self) -> Path:
        """The overlay's directory."""
        return Path(self.overlay)

    @property
    def extras(self) -> tuple[str, ...]:
        """What the notebook declares, from the order that the overlay is built from.

        Not handed over in the variable: hundreds of extras are more than Linux lets one hold.
        """
        try:
            order = json.loads((self.path / "build.json").read_bytes())["order"]
        except (OSError, ValueError):
            return ()
        return tuple(order["extras"])

    def dumps(self) -> str:
        """For the environment."""
        return json.dumps(vars(self))

    @classmethod
    def take(cls) -> Info:
        """What this kernel was told, removed from the environment that its children inherit."""
        data = json.loads(os.environ.pop(VARIABLE, "{}"))
        for key in ("notices", "builder", "held"):
            data[key] = tuple(data.get(key, ()))
        info = cls(**data)
        for fd in info.held:
            os.set_inheritable(fd, False)
        return info
