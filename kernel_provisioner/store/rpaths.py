"""Where the libraries in a wheel look for others, relative to their own file.

The loader takes such a path from where the file is opened, and goes through links on the way: what leads
from a linked package into another one would end in the store. Read from the text of the file, not from
its tables: a path too many makes one package be placed as files.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator
from pathlib import Path

_ORIGINS = (b"$ORIGIN", b"${ORIGIN}", b"@loader_path")  # Linux: ld.so(8); macOS: dyld(1)
_LIBRARY = re.compile(r"\.(so|dylib)(\.[\d.]+)?$")
_LONGEST = 4096


def leading_out(site: Path) -> list[str]:
    """What libraries below ``site`` look for that is not there: paths below a directory of packages."""
    found: set[str] = set()
    for folder, _, names in os.walk(site):
        for name in names:
            if _LIBRARY.search(name):
                place = os.path.relpath(folder, site)
                found.update(_outside(Path(folder, name), place, site))
    return sorted(found)


def _outside(library: Path, place: str, site: Path) -> Iterator[str]:
    for path in _origins(library):
        goal = os.path.normpath(os.path.join(place, path))  # it may lead anywhere
        if goal not in (".", "..") and not goal.startswith("../") and not (site / goal).exists():
            yield goal


def _origins(library: Path) -> Iterator[str]:
    """The paths in a file that start at its own directory, relative to it."""
    if library.stat().st_size == 0:
        return
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for origin in _ORIGINS:
            at = content.find(origin)
            while at >= 0:
                text = content[at : at + _LONGEST].partition(b"\0")[0]
                for part in text.split(b":"):
                    if part.startswith(origin):
                        yield part.removeprefix(origin).lstrip(b"/").decode("utf-8", "replace")
                at = content.find(origin, at + len(text))
