"""The lock of a text notebook: a JSON file beside it, for it would bury the text."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from ..errors import NotebookUnreadable
from .file import read_bytes, replace
from .json_object import parse_json

_MAX_SIZE = 4 << 20


def lock_path(notebook: Path) -> Path:
    """Where the lock of a text notebook lies: ``train.py.lock.json`` beside ``train.py``."""
    return notebook.with_name(f"{notebook.name}.lock.json")


def lock_beside(notebook: Path) -> object:
    """The lock of a text notebook as JSON gives it, None where there is none; raises NotebookUnreadable."""
    path = lock_path(notebook)
    if not os.path.lexists(path):
        return None
    try:
        return parse_json(path, read_bytes(path, _MAX_SIZE)[0])
    except NotebookUnreadable as error:
        raise NotebookUnreadable(
            f"the lock {path} cannot be read",
            why=error.why,
            fix=f"remove it, or write it again with: jupyter overlay lock {notebook.name}",
        ) from error


def write_lock_beside(notebook: Path, lock: Mapping[str, object]) -> None:
    """Write the lock of a text notebook, whole or not at all; raises NotebookUnreadable."""
    path = Path(os.path.realpath(lock_path(notebook)))
    text = json.dumps(lock, indent=1) + "\n"
    replace(path, text.encode(), path.stat() if path.exists() else None, like=notebook.stat())
