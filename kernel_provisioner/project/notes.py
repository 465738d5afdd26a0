"""Which environments of this user stand on which base.

They lie anywhere, and an idle one holds no lock. So each is noted in a file of its own under the
overlay root, which a user can write where a base's directory cannot be. What an environment
says of itself counts before its note. One that is gone stands on nothing, unless it is found beside its
old place: a directory was renamed then.
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
from ..inkernel.shared import layout
from ..overlay import store
from ..system.files import replace_text

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
    return standing_at(root, base.directory)


def standing_at(root: Path, directory: Path) -> list[Path]:
    """The environments that stand on the base that is registered in ``directory``, or was."""
    return [
        venv.path
        for venv in known(root)
        if venv.base == directory.name or venv.base_directory == str(directory)
    ]


def gone_from(root: Path, base: RegisteredBase) -> list[Path]:
    """Where environments stood on a base, and no longer are: they were deleted, or moved elsewhere."""
    notes = [note for note in map(_read, _notes(root)) if note and note.base == base.manifest.id]
    return sorted(note.path for note in notes if not os.path.lexists(note.path) and not _renamed(note.path))


def spec_at(directory: Path) -> dict[str, Any] | None:
    """What the environment at ``directory`` was built from; None where it is none of ours."""
    try:
        data = store.Generation(directory).read(layout.SPEC)
    except CorruptState:
        return None
    return data if data.get(_KEY) is True and isinstance(data.get("order"), dict) else None


def write_spec(directory: Path, spec: dict[str, Any]) -> None:
    """Write down what an environment is built from."""
    store.Generation(directory).write(layout.SPEC, {**spec, _KEY: True})


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


def _read(note: Path) -> Venv | None:
    try:
        said = json.loads(note.read_bytes())
        return Venv(Path(said["path"]), str(said["base"]), str(said["base_directory"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _standing(note: Path) -> Venv | None:
    if not (venv := _read(note)):
        return None
    try:
        os.stat(venv.path)  # noqa: PTH116 - Path.exists would hide a place that may not be looked at
    except (FileNotFoundError, NotADirectoryError):
        if not (renamed := _renamed(venv.path)):
            return None
        venv = dataclasses.replace(venv, path=renamed)
    except OSError:
        return dataclasses.replace(venv, unseen=True)
    spec = spec_at(venv.path)
    if spec is None:
        return None
    with contextlib.suppress(KeyError):
        ready = store.Generation(venv.path).state() is store.State.READY
        return Venv(venv.path, spec["order"]["base"], spec["base_directory"], ready)
    return None


def _renamed(place: Path) -> Path | None:
    """Where an environment is now, if it, or one directory above it, was renamed; None where not."""
    near = next(path for path in place.parents if path.is_dir())
    _, *below = place.relative_to(near).parts
    with contextlib.suppress(OSError):
        for entry in near.iterdir():
            path = entry.joinpath(*below)
            spec = spec_at(path) if os.path.exists(path / layout.SPEC) else None  # noqa: PTH110 - see above
            if spec and spec.get("place") == str(place):
                return path
    return None
