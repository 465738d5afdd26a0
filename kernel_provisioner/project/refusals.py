"""What stands against making an environment at a place, or against using the one that is there."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

from ..base.registry import RegisteredBase
from ..errors import CommandFailed, InvalidRequest, NoBaseFits
from ..model.request import Request
from ..overlay.skeleton import is_intact
from ..system import processes
from .standing import moved_from

_PATIENCE = 60.0  # seconds for a Python to start from a cold disk


def refuse_torch(request: Request, base: RegisteredBase) -> None:
    """Raise NoBaseFits where another torch than the base's is asked for."""
    manifest = base.manifest
    if request.torch and not SpecifierSet(request.torch).contains(manifest.torch, prereleases=True):
        raise NoBaseFits(
            f"torch{request.torch} is required, but {manifest.id} has torch {manifest.torch}",
            why="an environment on a base uses the base's torch",
            fix="choose another base, listed by  jupyter overlay base list",
        )


def refuse_foreign(directory: Path) -> None:
    """Raise InvalidRequest where something is at a place that is none of our environments."""
    if is_filled(directory) or directory.is_symlink():
        raise InvalidRequest(
            f"{directory} already exists, and was not created by this command",
            fix="choose a directory that does not exist, or remove that one yourself",
        )


def refuse_moved(directory: Path, spec: Mapping[str, Any]) -> None:
    """Raise InvalidRequest where the environment, built by ``spec``, was made at another place."""
    if place := moved_from(directory, spec):
        raise InvalidRequest(
            f"{directory} was created as {place}, and does not work at another path",
            why="the scripts and settings of an environment contain the path that it was created at",
            fix=f"jupyter overlay sync {shlex.quote(str(directory))}\n"
            "or the same command with --recreate, which builds it again here",
        )


def refuse_broken(directory: Path, base: RegisteredBase) -> None:
    """Raise InvalidRequest where the environment is there, and its Python does not run or find the base."""
    python = directory / "bin" / "python"
    try:
        done = processes.run((python, "-I", "-B", "-c", ""), env={}, timeout=_PATIENCE)
        done.check(f"{python} ended with status {done.returncode}")
        why = "" if is_intact(directory, base.manifest) else "it no longer finds its base"
    except CommandFailed as error:
        why = error.why or error.what
    if why:
        fix = "the same command with --recreate builds it again"
        if not os.access(base.manifest.interpreter, os.X_OK):
            kind = f"adopt {base.manifest.prefix}" if base.manifest.adopted else f"create {base.manifest.tag}"
            fix = f"jupyter overlay base {kind}\ncreates the base again, whose Python is gone; then {fix}"
        raise InvalidRequest(f"{directory} already exists, but its Python does not run", why=why, fix=fix)


def refuse_changed(directory: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise InvalidRequest where the environment that is there was built from something else."""
    if before != now:
        raise InvalidRequest(
            f"{directory} already exists, and was created from something else",
            why=_differences(before, now),
            fix="the same command with --recreate builds it again;\n"
            f"or add to it: . {directory}/bin/activate; uv pip install …",
        )


def is_filled(directory: Path) -> bool:
    """Whether there is anything in a directory, or at its place."""
    try:
        return any(directory.iterdir())
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        return True


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    lines = [
        f"{key.replace('_', '-')}: {_shown(before.get(key))}, and now {_shown(now[key])}"
        for key in now
        if before.get(key) != now[key]
    ]
    return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key}={text}" for key, text in value.items())
    return str(value) or "none"
