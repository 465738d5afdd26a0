"""Adopt an existing environment as a base, without writing into it, and notice when it changes.

What is registered is a snapshot. A cheap fingerprint, looked at when a notebook starts, tells
that the environment is no longer what the snapshot shows; then it is taken again.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
from pathlib import Path

from ..errors import BaseNotFound, CorruptState
from ..model.accelerators import parse_tag
from ..system import locks
from . import registry
from .current import fingerprint, is_current
from .progress import Progress
from .publish import LOCK_WAIT, Created, now, publish, refuse_line_breaks, told_disk_errors, withdraw
from .registry import DIRECTORY, RegisteredBase
from .snapshot import Snapshot, own_python, probe, snapshot
from .trust import refuse_unsafe, refuse_unsafe_places

_EFFECTIVE = os.access in os.supports_effective_ids
_REFRESH_WAIT = 120.0  # seconds for another launch that photographs the same environment


def adopt_base(path: Path, *, data_dir: Path, tag: str | None, progress: Progress) -> Created:
    """Register an existing environment (venv, conda, system) as a base, without writing into it.

    ``path`` is its prefix or its interpreter; ``tag`` is for a torch that does not say what it
    was built for. Adopted again, the snapshot is taken again. Raises BaseNotFound where it
    holds no torch or no ipykernel, BaseUnsafe where somebody else can change it.
    """
    if tag:
        parse_tag(tag)
    progress(f"Asking {path} what it holds")
    python = _interpreter(path)
    refuse_unsafe_places([python], f"{path} cannot be a base")  # before anything of it runs
    picture = _picture(python, tag)
    refuse_line_breaks(*picture.manifest.site_dirs)
    directory = data_dir / DIRECTORY / picture.manifest.id
    refuse_unsafe(RegisteredBase(picture.manifest, directory))
    with told_disk_errors(data_dir):
        registry.make_shared(directory.parent)
        with locks.exclusive(directory.parent / f"{directory.name}.new.lock", timeout=LOCK_WAIT):
            directory.mkdir(exist_ok=True)
            existed = (directory / registry.MANIFEST).exists()
            created = publish(picture, directory, data_dir, f"adopted from {path}", existed=existed)
            _withdraw_others(created.base, data_dir)
            return created


def refresh_adopted(base: RegisteredBase) -> RegisteredBase:
    """Snapshot a changed environment again: the base as it is now, which may bear another id and tag.

    Takes the time of an ``import torch``. Raises BaseNotFound where the environment is no base any
    more, CorruptState, with the command for its owner, where the register cannot be written.
    """
    manifest, data_dir = base.manifest, base.directory.parents[1]
    root = base.directory.parent
    by_owner = f"JUPYTER_DATA_DIR={shlex.quote(str(data_dir))} " + _command(base)
    stale = f"{manifest.prefix} has changed since it was adopted as {manifest.id}"
    places = (root, base.directory, base.directory / registry.MANIFEST)
    if not all(os.access(place, os.W_OK, effective_ids=_EFFECTIVE) for place in places):
        raise CorruptState(
            stale,
            why=f"{base.directory} cannot be written by this user, so the new state cannot be recorded",
            fix=f"let its owner run:  {by_owner}",
        )
    try:
        with locks.exclusive(root / f"{manifest.id}.new.lock", timeout=_REFRESH_WAIT):
            standing = RegisteredBase(registry.read_manifest(base.directory), base.directory)
            if is_current(standing):  # another launch was quicker
                return standing
            picture = _picture(own_python(manifest), None)
            # A tag that somebody named holds for as long as it is the same torch.
            if picture.manifest.torch == manifest.torch and picture.manifest.tag != manifest.tag:
                picture = _picture(own_python(manifest), manifest.tag)
            directory = root / picture.manifest.id
            directory.mkdir(exist_ok=True)
            default = registry.read_register([root]).aliases.get(manifest.tag) == manifest.id
            source = f"adopted from {manifest.prefix}"
            created = publish(picture, directory, data_dir, source, existed=True, default=default)
            _withdraw_others(created.base, data_dir)
            return created.base
    except BaseNotFound as error:
        raise BaseNotFound(
            stale,
            why="\n".join(filter(None, [error.what, error.why])),
            fix=f"repair it, or remove it:  jupyter overlay base remove {manifest.id}",
        ) from error
    except OSError as error:
        if isinstance(error, TimeoutError):
            raise
        raise CorruptState(
            stale,
            why=f"the new state cannot be recorded: {error}",
            fix=f"make room there, or let its owner run:  {by_owner}",
        ) from error


def _picture(python: Path, tag: str | None) -> Snapshot:
    picture = snapshot(probe(python, torch=True), tag=tag, adopted=True, installer="adopted", created=now())
    mark = fingerprint(picture.manifest.site_dirs)
    return dataclasses.replace(picture, manifest=picture.manifest._replace(fingerprint=mark))


def _interpreter(path: Path) -> Path:
    """The interpreter that ``path`` is, or that lies in it, with no link in its name resolved."""
    candidates = [path] if path.is_file() else [path / "bin/python", path / "bin/python3"]
    for candidate in candidates:
        if candidate.exists():
            return candidate.absolute()
    raise BaseNotFound(
        f"{path} is no Python environment",
        why=f"there is no {candidates[0]}",
        fix="name an environment's directory (it holds bin/python) or interpreter",
    )


def _withdraw_others(base: RegisteredBase, data_dir: Path) -> None:
    """Take out what the same environment was registered as before, when it held another torch."""
    mine = base.manifest
    for other in registry.read_register([base.directory.parent]).bases:
        there = other.manifest
        same = (there.prefix, there.interpreter) == (mine.prefix, mine.interpreter)
        if there.adopted and same and there.id != mine.id:
            withdraw(other, data_dir)


def _command(base: RegisteredBase) -> str:
    python = shlex.quote(str(own_python(base.manifest)))
    return f"jupyter overlay base adopt {python} --tag {base.manifest.tag}"
