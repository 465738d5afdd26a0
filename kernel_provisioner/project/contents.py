"""Which files in an environment are its user's: neither this command nor an installer put them there.

An environment lies in a project's directory. What is removed there is only what was written there:
nobody's notes, kernels or ``.pth`` files.
"""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Iterator
from importlib.metadata import PathDistribution
from pathlib import Path

from ..errors import InvalidRequest
from ..inkernel.shared import layout
from ..inkernel.shared.links import ANCHOR
from ..inkernel.shared.packages import LENT
from ..overlay import guards
from ..overlay.skeleton import HOOK, remove_tree
from ..system import records
from .scripts import SCRIPTS

_SITES = ("lib/python*/site-packages", f"{layout.STAGING}/lib/python*/site-packages")
# Directories of ours at the top.
_WHOLE = frozenset({layout.BUILD_INDEX, layout.STAGING, layout.SCRATCH, "torch_extensions"})
_FILES = frozenset({
    layout.OVERLAY, layout.SPEC, layout.FAILED, layout.ENTERED, layout.PROGRESS, layout.BUILDER_LOCK,
    layout.BUILDER_LOG, layout.ENTER_LOCK, layout.USE_LOCK, layout.PROJECT, guards.CONSTRAINTS,
    guards.BUILD_CONSTRAINTS, guards.PIP_CONFIG, "pyvenv.cfg", ".gitignore", ".lock", *SCRIPTS,
    "bin/uv", "lib64", ANCHOR,
})  # fmt: skip
_NAMED = 5  # files that a message names


def users_files(directory: Path) -> list[str]:
    """The files of the user's in an environment, relative to it, sorted."""
    own = {*_FILES, *_installed(directory)}
    return sorted(path for path in _files(directory) if path not in own)


def discard(directory: Path) -> None:
    """Remove an environment; raises InvalidRequest, nothing removed, where it holds files of its user's."""
    refuse_users_files(directory)
    remove_tree(directory)


def refuse_users_files(directory: Path) -> None:
    """Raise InvalidRequest where an environment holds files of its user's."""
    if found := users_files(directory):
        more = f"\nand {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise InvalidRequest(
            f"{directory} contains files that neither this command nor an installer created",
            why="\n".join(found[:_NAMED]) + more,
            fix="move or remove them yourself, then run the command again",
        )


def _files(directory: Path) -> Iterator[str]:
    """What an installer's or our own directories do not account for as a whole; links in ``bin`` are ours."""
    for folder, names, files in os.walk(directory):
        place = os.path.relpath(folder, directory)
        at_top = place == "."
        for name in list(names):
            whole = name == "__pycache__" or name.endswith(".dist-info") or (at_top and name in _WHOLE)
            linked = os.path.islink(f"{folder}/{name}")  # noqa: PTH114 - thousands of them
            if whole or linked:
                names.remove(name)
            if linked and not whole:
                files.append(name)
        for name in files:
            if name.endswith(".pyc") or (place == "bin" and os.path.islink(f"{folder}/{name}")):  # noqa: PTH114
                continue
            yield name if at_top else f"{place}/{name}"


def _installed(directory: Path) -> Iterator[str]:
    """What distributions own, also those that a killed run has not moved in, and what we lay beside them."""
    for pattern in _SITES:
        for site in directory.glob(pattern):
            inside = os.path.relpath(site, directory).removeprefix(f"{layout.STAGING}/")
            yield from (
                f"{inside}/{name}" for name in (f"{HOOK}.py", f"{LENT}/__init__.py", f"{LENT}/__main__.py")
            )
            yield from (f"{inside}/{layout.BASE_PATHS}{suffix}" for suffix in (".pth", ".start"))
            for dist_info in records.dist_infos(site):
                with contextlib.suppress(OSError, ValueError, csv.Error):
                    yield from (os.path.normpath(f"{inside}/{row[0]}") for row in records.rows(dist_info))
                with contextlib.suppress(OSError, ValueError):
                    for entry in PathDistribution(dist_info).entry_points:
                        if entry.group in ("console_scripts", "gui_scripts"):
                            yield f"bin/{entry.name}"
