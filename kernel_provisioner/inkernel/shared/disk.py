"""What a directory really takes on disk: each file once, and hard links named for what they are."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Usage:
    """Bytes and files. ``linked`` ones are hard links to files that exist elsewhere too (uv's cache)."""

    own_bytes: int = 0
    own_files: int = 0
    linked_bytes: int = 0
    linked_files: int = 0


def usage(roots: Iterable[str | os.PathLike[str]]) -> Usage:
    """What the trees under ``roots`` add: a file with names only in here is own, any other linked.

    Sizes are what the files occupy (blocks), symbolic links count as files of their own. What
    vanishes while it is counted does not count.
    """
    seen: dict[tuple[int, int], list[int]] = {}  # inode → [names found here, names it has, bytes]
    plain = [0, 0]
    pending = [os.fspath(root) for root in roots]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except OSError:
            continue
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                    continue
                info = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            size = info.st_blocks * 512
            if info.st_nlink == 1:
                plain[0] += size
                plain[1] += 1
            else:
                found = seen.setdefault((info.st_dev, info.st_ino), [0, info.st_nlink, size])
                found[0] += 1
    own = [row for row in seen.values() if row[0] >= row[1]]
    linked = [row for row in seen.values() if row[0] < row[1]]
    return Usage(
        own_bytes=plain[0] + sum(row[2] for row in own),
        own_files=plain[1] + len(own),
        linked_bytes=sum(row[2] for row in linked),
        linked_files=len(linked),
    )


def human(size: int) -> str:
    """``size`` in bytes as people read it: ``1.5 MB``, powers of ten."""
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
