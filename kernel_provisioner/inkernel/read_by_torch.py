"""Variables that ``import torch`` reads: what a cell sets of them counts where that cell comes first.

A fork server has imported torch before any cell. Where a cell of a forked kernel sets such a variable, the
user is told, and the next kernel in this overlay starts normally.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from .shared.layout import READ_BY_TORCH

_BY_LIBRARIES = ("GOMP_", "KMP_", "MKL_", "OMP_", "OPENBLAS_", "PYTORCH_", "TORCH_CPP_")
"""How those begin that are read by compiled code, some of it as a library is loaded."""

_TOLD = (
    "{names} {verb} read when torch is imported, and this kernel began with torch imported."
    " Restart the kernel: it starts normally then, and what this notebook sets counts"
)


@contextlib.contextmanager
def noted() -> Iterator[set[str]]:
    """The names of the variables that Python code asks for meanwhile."""
    names: set[str] = set()
    kind = type(os.environ)
    ask = kind.__getitem__

    def asked(self: os._Environ[str], name: str) -> str:
        names.add(name)
        return ask(self, name)

    kind.__getitem__ = asked  # type: ignore[method-assign]
    try:
        yield names
    finally:
        kind.__getitem__ = ask  # type: ignore[method-assign]


class Readings:
    """What the variables that torch reads were when this kernel began."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._began = self._now()

    def told_once(self, overlay: Path) -> str:
        """What to tell of those that were changed, once; the next start in ``overlay`` is a normal one."""
        now = self._now()
        names = sorted(name for name in now.keys() | self._began if now.get(name) != self._began.get(name))
        self._began = now
        if not names:
            return ""
        listed = ", ".join(names)
        with contextlib.suppress(OSError):
            (overlay / READ_BY_TORCH).write_text(listed, encoding="utf-8")
        return _TOLD.format(names=listed, verb="is" if len(names) == 1 else "are")

    def _now(self) -> dict[str, str]:
        return {
            name: value
            for name, value in os.environ.items()
            if name in self._names or name.startswith(_BY_LIBRARIES)
        }
