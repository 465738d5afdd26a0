"""Give an environment back what it has lost: its place, its base, the link to it, receipts, ``bin/uv``."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from ..base.registry import RegisteredBase
from ..errors import BaseNotFound, CorruptState, InvalidRequest
from ..inkernel.shared.packages import packages
from ..model.accelerators import is_accelerator_library
from ..overlay.guards import CONSTRAINTS
from ..overlay.lent import is_served_by_us, lent_script, renew_uv
from ..overlay.skeleton import is_intact, link_again, missing_receipts
from ..settings import Settings
from ..uv.client import find_uv
from ..uv.projects import sync, uninstall, workspace_of
from . import notes
from .allowed import Chosen, refuse_forbidden
from .files import read_files
from .kept import read_kept, write_kept
from .refill import lost_packages, refill
from .renew import lay_guards, renew
from .scripts import write_scripts
from .standing import base_instead, base_of, moved_from


@dataclasses.dataclass(frozen=True)
class Mended:
    """What was done: receipts laid again, packages removed for the base's, and whether the link was gone.

    ``again``: packages that the wheel store had lost; ``scripts``: those that were gone, or not as this
    version writes them. ``moved``: the place that it was made for, or empty; ``instead``: the ID of the base
    that is gone, or empty.
    """

    path: Path
    base: RegisteredBase
    linked: bool
    receipts: tuple[str, ...]
    removed: tuple[str, ...]
    project: bool
    again: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    moved: str = ""
    instead: str = ""


def mend(directory: Path, settings: Settings) -> Mended:
    """Repair the environment ``directory``, or the one in ``directory/.venv``; a project's is synced, too.

    Where it was moved it works at its new place, and where its base is gone, on another with the same torch.
    Nothing that was installed is lost but what took the place of the base's torch. Raises OverlayError.
    """
    place, spec = directory, notes.spec_at(directory)
    if spec is None:
        place = directory / ".venv"
        spec = notes.spec_at(place)
    if spec is None:
        raise InvalidRequest(
            f"{directory} contains no environment that jupyter overlay venv created",
            why="uv deletes an environment whose Python is not the one in .python-version",
            fix=f"jupyter overlay venv --project {directory}  creates one",
        )
    moved, instead = moved_from(place, spec), ""
    try:
        base = base_of(spec)
    except (BaseNotFound, CorruptState):
        base, instead = base_instead(place), spec["order"]["base"]
    linked = is_intact(place, base.manifest)
    if moved or instead or str(base.directory) != spec["base_directory"]:
        renew(place, spec, base, settings)
        linked = True
    if not linked:
        link_again(place, base)
    kept = read_kept(place)
    if not ((place / "bin/uv").exists() and (place / CONSTRAINTS).exists()):
        lay_guards(place, base, settings)
    elif (script := lent_script(place)) and not is_served_by_us(script):
        renew_uv(place, script, base.manifest)
    made_at = place if moved else Path(spec.get("place", place))  # a link may lead here
    scripts = write_scripts(made_at, base, settings)
    again = refill(place, lost_packages(place))
    removed = _foreign(place, base, whole=kept is not None)
    if removed:
        uninstall(place, removed)
    receipts = missing_receipts(place, base)
    if kept is not None:
        write_kept(place, base, kept["choices"])
        _sync(place, place.parent if place == directory else directory, base, kept["choices"], settings)
    return Mended(
        place, base, not linked, tuple(receipts), tuple(removed), kept is not None, tuple(again),
        tuple(scripts), str(moved or ""), instead,
    )  # fmt: skip


def _sync(
    place: Path, project: Path, base: RegisteredBase, choices: dict[str, Any], settings: Settings
) -> None:
    """Install what the lock selects; raises NotAllowed, nothing installed, for what the policy forbids."""
    words, policy = ["--inexact"], settings.policy
    if policy.layers:
        tool = find_uv(policy=policy)
        files = read_files(project, workspace_of(tool, project))
        choice = choices.get(os.path.relpath(project, files.root), [])
        refuse_forbidden(tool, Chosen(files, choice), base.manifest)
        words.append("--frozen")
    sync(place, project, *words, policy=policy)


def _foreign(place: Path, base: RegisteredBase, *, whole: bool) -> list[str]:
    """What lies before the base's torch; where torch does, and ``whole``, what came along with it."""
    names = {package.name for package in packages(place)}
    found = names & base.manifest.fixed
    if whole and "torch" in found:
        found |= {name for name in names if is_accelerator_library(name)}
    return sorted(found)
