"""What detection found, as a value; and the file trees that it reads."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

_LARGEST_FILE = 64 * 1024  # what /proc and /sys say of a device is far shorter
_MOST_ENTRIES = 256


@dataclasses.dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU, in the driver's words.

    ``compute_capability`` is None where nobody could say. Memory is in bytes, 0 where unknown;
    ``memory_free`` holds for the moment of asking only. ``partitions`` are the UUIDs of its MIG
    instances.
    """

    name: str
    compute_capability: tuple[int, int] | None = None
    memory: int = 0
    memory_free: int = 0
    uuid: str = ""
    partitions: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Hardware:
    """What a kernel started here could compute on.

    ``platform`` and ``machine`` are those of ``sys`` and ``platform``. ``gpus`` are NVIDIA's,
    only the ones that CUDA would see; ``driver`` is theirs, also where none may be used. ``amd``
    are gfx names. ``xpu``: an Intel GPU that torch supports. ``mps``: an Apple GPU. ``notes``
    say why a device that one might expect cannot be used. ``complete`` is False where something
    did not answer in time: asking again may find more.
    """

    platform: str = "linux"
    machine: str = "x86_64"
    driver: str = ""
    gpus: tuple[Gpu, ...] = ()
    amd: tuple[str, ...] = ()
    xpu: bool = False
    mps: bool = False
    wsl: bool = False
    container: bool = False
    notes: tuple[str, ...] = ()
    complete: bool = True

    def as_dict(self) -> dict[str, Any]:
        """The finding as JSON values."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Tree:
    """A file system to look at: ``/``, or a recording of one. Reads are bounded and never raise."""

    root: Path = Path("/")

    def read(self, name: str) -> str:
        """The text of a small file, stripped; empty where it cannot be read."""
        try:
            with (self.root / name).open("rb") as file:
                return file.read(_LARGEST_FILE).decode("utf-8", "replace").strip()
        except OSError:
            return ""

    def names(self, pattern: str) -> list[str]:
        """What matches ``pattern``, relative to the root, sorted."""
        try:
            found = sorted(self.root.glob(pattern))
        except OSError:
            return []
        return [path.relative_to(self.root).as_posix() for path in found[:_MOST_ENTRIES]]

    def listing(self, name: str) -> list[str]:
        """The names in a directory, sorted; none where it cannot be read."""
        try:
            return sorted(os.listdir(self.root / name))  # noqa: PTH208 - /dev has hundreds
        except OSError:
            return []

    def has(self, name: str) -> bool:
        """Whether ``name`` exists."""
        try:
            return (self.root / name).exists()
        except OSError:
            return False
