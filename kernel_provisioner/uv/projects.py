"""What uv says of a project and does to it: its root, its lock, what that selects, and its environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.markers import InvalidMarker, Marker

from ..errors import InstallFailed, InvalidRequest, ResolutionFailed
from ..system import processes
from .client import Uv

_LINE = re.compile(r"([A-Za-z0-9][\w.-]*)(?:\[[^]]*])?==([^\s;]+)(?:\s*;\s*(.*))?$")


def workspace_of(tool: Uv, directory: Path) -> Path:
    """The root of the project or workspace that ``directory`` lies in; raises InvalidRequest."""
    done = tool.run("workspace", "dir", "--directory", directory)
    if done.returncode != 0:
        raise InvalidRequest(
            f"{directory} is no uv project",
            why=done.stderr.strip(),
            fix="name the directory that holds pyproject.toml",
        )
    return Path(done.stdout.strip())


def lock_project(tool: Uv, directory: Path, python: str, torch: str = "") -> None:
    """Bring uv.lock up to date, to that version of torch where one is named; raises ResolutionFailed."""
    options = ["-P", f"torch=={torch}"] if torch else []
    done = tool.run("lock", "--directory", directory, "--python", python, *options)
    if done.returncode != 0:
        what = f"{directory} cannot be locked" + (f" with torch {torch}" if torch else "")
        fix = "change pyproject.toml as the reason says"
        if torch:
            fix = f"let [tool.uv.sources] name an index that has torch {torch}, or leave out --relock"
        raise ResolutionFailed(what, why=done.stderr.strip(), fix=fix)


def selected(
    tool: Uv, directory: Path, python: str, choice: Sequence[str], markers: Mapping[str, str]
) -> dict[str, str]:
    """Name → version of what the lock selects with these options, for an interpreter with these markers.

    Raises InvalidRequest where uv does not know the options.
    """
    listed = ("--frozen", "-q", "--no-hashes", "--no-header", "--no-annotate")
    done = tool.run("export", *listed, "--directory", directory, "--python", python, *choice)
    if done.returncode != 0:
        raise InvalidRequest(
            f"what is to be installed of {directory} cannot be told",
            why=done.stderr.strip(),
            fix="choose --extra and --group among those of pyproject.toml",
        )
    matches = map(_LINE.match, done.stdout.splitlines())
    return {found[1]: found[2] for found in matches if found and _holds(found[3], markers)}


def sync(place: Path, directory: Path, *words: str) -> None:
    """``uv sync`` in ``directory`` by the uv of its environment ``place``; raises InstallFailed."""
    done = processes.run((place / "bin/uv", "sync", *words, "--color", "never"), env=_env(), cwd=directory)
    if done.returncode != 0:
        raise InstallFailed(
            f"the packages of {directory} cannot be installed",
            why=done.stderr.strip(),
            fix="change what the reason names, then run the command again",
        )


def install_files(place: Path, files: Sequence[Path]) -> None:
    """``uv pip install -r`` by the uv of the environment ``place``, which holds to its base.

    Paths in the files are of the working directory, as pip has it. Raises InstallFailed.
    """
    listed = [word for file in files for word in ("-r", str(file))]
    words = ("pip", "install", "--python", str(place), *listed)
    done = processes.run((str(place / "bin/uv"), *words), env=_env(), cwd=Path.cwd())
    if done.returncode != 0:
        raise InstallFailed(
            f"what {', '.join(map(str, files))} lists cannot be installed",
            why=done.stderr.strip(),
            fix="change what the reason names, then run the command again",
        )


def install_again(place: Path, requirements: Sequence[str]) -> None:
    """Install exactly these, without what they need, by the uv of the environment; raises InstallFailed."""
    words = ("pip", "install", "-q", "--no-deps", "--reinstall", "--python", str(place), *requirements)
    done = processes.run((str(place / "bin/uv"), *words), env=_env())
    if done.returncode != 0:
        raise InstallFailed(
            f"{', '.join(requirements)} cannot be installed again",
            why=done.stderr.strip(),
            fix="change what the reason names, then run the command again",
        )


def uninstall(place: Path, names: Sequence[str]) -> None:
    """Take packages out of the environment ``place``; raises InstallFailed."""
    done = processes.run((place / "bin/uv", "pip", "uninstall", "--python", place, *names), env=_env())
    if done.returncode != 0:
        raise InstallFailed(f"{', '.join(names)} cannot be removed from {place}", why=done.stderr.strip())


def _env() -> dict[str, str]:
    """What the user has set, but for what would name another environment."""
    elsewhere = ("VIRTUAL_ENV", "CONDA_PREFIX", "UV_PYTHON", "UV_PROJECT", "UV_PROJECT_ENVIRONMENT")
    inherited = processes.inherited_environment(os.environ)
    return {name: value for name, value in inherited.items() if name not in elsewhere}


def _holds(marker: str | None, markers: Mapping[str, str]) -> bool:
    try:
        return not marker or Marker(marker).evaluate({**markers, "extra": ""})
    except InvalidMarker:
        return True
