"""Files that are seen whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def replace_text(path: Path, text: str, *, mode: int = 0o644, durable: bool = True) -> None:
    """Write ``path`` whole or not at all: a temporary file beside it, then one rename.

    ``durable``: flushed to the disk before it counts, so that a power cut leaves the old or the new.
    Raises OSError; then nothing is left behind.
    """
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape") as file:  # a path's bytes
            os.fchmod(fd, mode)
            file.write(text)
            if durable:
                file.flush()
                os.fsync(fd)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
