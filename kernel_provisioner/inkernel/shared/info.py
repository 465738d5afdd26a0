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
    ``command`` is that of ``jupyter overlay``, and ``kernel`` the name of the kernel that was
    picked; ``torch`` and ``requires_python`` are what the notebook asks of a base. ``quiet`` tells of
    outputs that are published or compared, ``scratch`` of an overlay that goes with this process;
    ``held`` are inherited descriptors, whose locks last as long as this process.
    """

    overlay: str = ""
    base: dict[str, Any] = dataclasses.field(default_factory=dict)
    reason: str = ""
    notices: tuple[str, ...] = ()
    notebook: str = ""
    quiet: bool = False
    scratch: bool = False
    failure: dict[str, str] = dataclasses.field(default_factory=dict)
    builder: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    kernel: str = ""
    torch: str = ""
    requires_python: str = ""
    held: tuple[int, ...] = ()

    @property
    def path(self) -> Path:
        """The overlay's directory."""
        return Path(self.overlay)

    @property
    def extras(self) -> tuple[str, ...]:
        """What the overlay is built for: what the notebook declares, and what ``%overlay add`` has added.

        Not handed over in the variable: hundreds of extras are more than Linux lets one hold.
        """
        return tuple(self._build["order"]["extras"]) if self._build else ()

    @property
    def undeclared(self) -> tuple[str, ...]:
        """Those of the extras that the notebook did not declare when the kernel was launched."""
        declared = self._build.get("declared", self.extras)
        return tuple(extra for extra in self.extras if extra not in declared)

    @property
    def _build(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.path / "build.json").read_bytes()))
        except (OSError, ValueError):
            return {}

    def dumps(self) -> str:
        """For the environment."""
        return json.dumps(vars(self))

    @classmethod
    def take(cls) -> Info:
        """What this kernel was told, removed from the environment that its children inherit."""
        data = json.loads(os.environ.pop(VARIABLE, "{}"))
        for key in ("notices", "builder", "command", "held"):
            data[key] = tuple(data.get(key, ()))
        info = cls(**data)
        for fd in info.held:
            os.set_inheritable(fd, False)
        return info
