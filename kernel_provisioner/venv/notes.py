"""Which environments of this user stand on which base.

They lie anywhere, and an idle one holds no lock. So each is noted in a file of its own under the
overlay root, which a user can write where a base's directory cannot be. What an environment
says of itself counts before its note, and one that is gone stands on nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from ..base.registry import RegisteredBase
from ..errors import CorruptState
from ..files import replace_text
from ..overlay import store

NOTES = "venvs"
_KEY = "venv"  # in build.json: tells an environment of ours from a notebook's overlay


@dataclasses.dataclass(frozen=True)
class Venv:
    """An environment. ``unseen``: its place cannot be looked at now, and the note speaks for it."""

    path: Path
    base: str
    base_directory: str
    ready: bool = False
    unseen: bool = False


def known(root: Path) -> list[Venv]:
    """The environments that are there, by path."""
    return sorted(
        (venv for note in _notes(root) if (venv := _standing(note)) is not None), key=lambda venv: venv.path
    )


def standing_on(root: Path, base: RegisteredBase) -> list[Path]:
    """The environments that stand on a base."""
    return [
        venv.path
        for venv in known(root)
        if venv.base == base.manifest.id or venv.base_directory == str(base.directory)
    ]


def order_at(directory: Path) -> dict[str, Any] | None:
    """What the environment at ``directory`` was built from; None where it is none of ours."""
    try:
        data = store.Generation(directory).read(store.ORDER)
    except CorruptState:
        return None
    return data if data.get(_KEY) is True and isinstance(data.get("order"), dict) else None


def write_order(directory: Path, order: dict[str, Any]) -> None:
    """Write down what an environment is built from."""
    store.Generation(directory).write(store.ORDER, {**order, _KEY: True})


def note(root: Path, directory: Path, base: RegisteredBase) -> None:
    """Note an environment, and forget those that are gone."""
    for path in _notes(root):
        if _standing(path) is None:
            path.unlink(missing_ok=True)
    path = note_path(root, directory)
    content = {"path": str(directory), "base": base.manifest.id, "base_directory": str(base.directory)}
    replace_text(path, json.dumps(content) + "\n", mode=0o600)


def note_path(root: Path, directory: Path) -> Path:
    """Where an environment's note is; the directory is made."""
    (root / NOTES).mkdir(mode=0o700, exist_ok=True)
    return root / NOTES / f"{hashlib.sha256(os.fsencode(directory)).hexdigest()[:32]}.json"


def _notes(root: Path) -> list[Path]:
    return sorted((root / NOTES).glob("*.json"))


def _standing(note: Path) -> Venv | None:
    try:
        said = json.loads(note.read_bytes())
        venv = Venv(Path(said["path"]), str(said["base"]), str(said["base_directory"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    try:
        os.stat(venv.path)  # noqa: PTH116 - Path.exists would hide a place that may not be looked at
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return dataclasses.replace(venv, unseen=True)
    order = order_at(venv.path)
    if order is None:
        return None
    with contextlib.suppress(KeyError):
        ready = store.Generation(venv.path).state() is store.State.READY
        return Venv(venv.path, order["order"]["base"], order["base_directory"], ready)
    return None
