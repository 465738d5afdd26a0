"""The notebook that a panel is told of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from ..notebook.find import FoundNotebook
from .kernels import OurKernel


@dataclasses.dataclass(frozen=True)
class Subject:
    """A notebook to be told of: its file, what it says, and its kernel.

    ``content`` is the notebook as it is open somewhere, None where the file counts. ``running`` is the
    overlay that its kernel runs in, ``refused`` why that kernel could not be given one; None: not known.
    """

    path: Path
    kernel: OurKernel
    content: Mapping[str, object] | None = None
    running: Path | None = None
    refused: Mapping[str, str] | None = None

    @property
    def found(self) -> FoundNotebook:
        """The notebook as a launch would find it."""
        return FoundNotebook(self.path, self.content, how="server")
