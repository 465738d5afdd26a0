"""Install again what the wheel store no longer has: ``prune`` does not know an environment that was moved."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Sequence
from pathlib import Path

from ..inkernel.shared.links import entry_of
from ..system import records
from ..uv.projects import install_again


def lost_packages(place: Path) -> list[Path]:
    """The ``dist-info`` of each package of ``place`` whose files were removed from the store, sorted."""
    infos = place.glob("lib/python*/site-packages/*.dist-info")
    return sorted(info for info in infos if (entry := entry_of(info)) and not Path(entry).is_dir())


def refill(place: Path, lost: Sequence[Path]) -> list[str]:
    """Install them again in their versions, as files; their names. Raises InstallFailed: they stay lost."""
    wanted = [info.name.removesuffix(".dist-info").partition("-")[::2] for info in lost]
    for info in lost:
        with contextlib.suppress(OSError, csv.Error):
            for path in (info.parent / row for row in records.paths(info)):
                # uv installs over none; what is in the dist-info tells the next try
                if path.is_symlink() and not path.exists() and path.parent != info:
                    path.unlink()
    if wanted:
        install_again(place, [f"{name}=={version}" for name, version in wanted])
    return [name for name, _ in wanted]
