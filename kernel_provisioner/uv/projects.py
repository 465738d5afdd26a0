"""What uv says of a project and does to it: its root, its lock, what that selects, and its environment."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.markers import InvalidMarker, Marker

from ..errors import CommandFailed, InstallFailed, InvalidRequest, ResolutionFailed
from ..policy import OPEN, Policy
from ..system import processes
from .client import Uv, index_variables, locked_packages
from .messages import wants_source

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
    """Bring uv.lock up to date, to that version of torch where one is named; raises ResolutionFailed.

    Where the policy lets not everything be built, nothing is: not even to learn what a package needs.
    """
    options = ["-P", f"torch=={torch}"] if torch else []
    if tool.policy.buildable is not None:
        options.append("--no-build")
    done = tool.run("lock", "--directory", directory, "--python", python, *options)
    if done.returncode != 0:
        what = f"{directory} cannot be locked" + (f" with torch {torch}" if torch else "")
        fix = "change pyproject.toml as the reason says"
        if torch:
            fix = f"let [tool.uv.sources] name an index that has torch {torch}, or leave out --relock"
        error = ResolutionFailed(what, why=done.stderr.strip(), fix=fix)
        raise tool.policy.explained(error, wants_source=wants_source(error), wants_newer=False)


def is_current(tool: Uv, directory: Path, python: str) -> bool:
    """Whether uv.lock is there, and holds what pyproject.toml asks for."""
    return tool.run("lock", "--check", "--directory", directory, "--python", python).returncode == 0


def selected(
    tool: Uv, directory: Path, python: str, choice: Sequence[str], markers: Mapping[str, str]
) -> dict[str, str]:
    """Name → version of what the lock selects with these options, for an interpreter with these markers.

    Raises InvalidRequest where uv does not know the options.
    """
    text = _exported(tool, directory, python, ("--no-hashes", "--no-annotate", *choice))
    matches = map(_LINE.match, text.splitlines())
    return {found[1]: found[2] for found in matches if found and _holds(found[3], markers)}


def selected_files(
    tool: Uv, directory: Path, python: str, choice: Sequence[str], markers: Mapping[str, str]
) -> list[dict[str, Any]]:
    """As ``selected``, the packages as PEP 751 has them: with their files, or where else they come from."""
    text = _exported(tool, directory, python, ("--format", "pylock.toml", *choice))
    return [package for package in locked_packages(text) if _holds(package.get("marker"), markers)]


def sync(place: Path, directory: Path, *words: str, policy: Policy = OPEN, ends: float | None = None) -> None:
    """``uv sync`` in ``directory`` by the uv of its environment ``place``; raises InstallFailed.

    Of the policy count its indexes, ``offline``, and whether anything is built. ``ends`` is the moment (of
    ``time.monotonic``) after which NotAllowed is raised.
    """
    env = index_variables(_env(), policy)
    if policy.offline:
        env["UV_OFFLINE"] = "1"
    if not policy.builds:
        env["UV_NO_BUILD"] = "1"
    left = None if ends is None else ends - time.monotonic()
    if left is not None and left <= 0:
        raise policy.late()
    command = (str(place / "bin/uv"), "sync", *words, "--color", "never")
    try:
        done = processes.run(command, env=env, cwd=directory, timeout=left)
    except CommandFailed as error:
        if ends is not None and time.monotonic() >= ends:
            raise policy.late() from error
        raise
    if done.returncode != 0:
        failed = InstallFailed(
            f"the packages of {directory} cannot be installed",
            why=done.stderr.strip(),
            fix="change what the reason names, then run the command again",
        )
        raise policy.explained(failed, wants_source=wants_source(failed), wants_newer=False)


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


def _exported(tool: Uv, directory: Path, python: str, words: Sequence[str]) -> str:
    done = tool.run(
        "export", "--frozen", "-q", "--no-header", "--directory", directory, "--python", python, *words
    )
    if done.returncode != 0:
        raise InvalidRequest(
            f"what is to be installed of {directory} cannot be told",
            why=done.stderr.strip(),
            fix="choose --extra and --group among those of pyproject.toml",
        )
    return done.stdout


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
