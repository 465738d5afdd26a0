"""An environment for a uv project: its base found by the lock, its packages installed by uv itself."""

from __future__ import annotations

import dataclasses
import os
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from packaging.specifiers import SpecifierSet

from ..base import registry
from ..base.current import broken
from ..base.registry import RegisteredBase
from ..base.trust import refuse_unsafe, unsafe
from ..errors import InvalidRequest, NoBaseFits
from ..inkernel.shared.packages import packages
from ..launch.choose import choose
from ..model.accelerators import ECOSYSTEM
from ..model.request import Request
from ..overlay import store
from ..project.allowed import Chosen, markers_of, refuse_forbidden
from ..project.files import ProjectFiles, locked_tag, read_files
from ..project.kept import choice_of, read_kept, write_kept
from ..project.make import Made, make_venv
from ..settings import Settings
from ..uv.client import Uv, find_uv
from ..uv.projects import lock_project, selected, sync, workspace_of

ENVIRONMENT = ".venv"


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is asked for: see the command's options. None: what the environment keeps."""

    directory: Path
    extras: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    base: str = ""
    exact: bool = False
    relock: bool = False
    recreate: bool = False


@dataclasses.dataclass(frozen=True)
class Project:
    """An environment with its project's packages. ``locked``: the torch of the lock; empty for none."""

    made: Made
    locked: str
    choice: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether the base's torch is used in the place of another, which is locked."""
        return bool(self.locked) and self.locked != self.made.base.manifest.torch


def make_project(
    wanted: Wanted, settings: Settings, *, tell: Callable[[str], None] = lambda _: None
) -> Project:
    """Make or update the environment of a project; see the command. Raises OverlayError.

    Where there is a policy, what the lock adds to the base is judged first, and exactly that is installed.
    """
    if wanted.exact and wanted.relock:
        raise InvalidRequest("--exact keeps the lock, and --relock changes it", fix="leave out one of them")
    policy = settings.policy
    ends = None if policy.max_seconds is None else time.monotonic() + policy.max_seconds
    tool = find_uv(policy=policy, ends=ends)
    files = read_files(wanted.directory, workspace_of(tool, wanted.directory))
    place = files.root / ENVIRONMENT
    member = os.path.relpath(wanted.directory, files.root)
    choices = dict((read_kept(place) or {}).get("choices", {}))
    choice = _choice(wanted, choices.get(member, []))
    base, locked = _base(wanted, files, tool, choice, settings)
    files.refuse_python(base.manifest)
    if wanted.exact and locked and locked != base.manifest.torch:
        raise _inexact(files, locked, base)
    if wanted.relock and locked != base.manifest.torch:
        tell(f"Locking torch {base.manifest.torch}")
        lock_project(tool, wanted.directory, base.manifest.interpreter, base.manifest.torch)
        locked = _locked(tool, files, base, choice)
    if policy.layers:
        tell("Checking what the policy allows")
        refuse_forbidden(tool, Chosen(files, choice), base.manifest)
    made = make_venv(place, base, Request(), settings=settings, recreate=wanted.recreate, tell=tell)
    write_kept(place, base, {**choices, member: choice})
    tell("Installing what the lock selects")
    sync(place, wanted.directory, *(["--frozen"] if policy.layers else []), policy=policy, ends=ends)
    installed = {package.name: package.version for package in packages(place)}
    lost = tuple(name for name in made.lost if name not in installed)
    made = dataclasses.replace(made, installed=installed, lost=lost)
    return Project(made, locked or _locked(tool, files, base, choice), tuple(choice))


def _choice(wanted: Wanted, kept: Sequence[str]) -> list[str]:
    if wanted.extras is None and wanted.groups is None:
        return list(kept)
    return choice_of(wanted.extras or (), wanted.groups or ())


def _base(
    wanted: Wanted, files: ProjectFiles, tool: Uv, choice: Sequence[str], settings: Settings
) -> tuple[RegisteredBase, str]:
    """The base, and the version of torch that is locked, empty where none is."""
    register = registry.read_register()
    if wanted.base:
        named = register.get(wanted.base)
        refuse_unsafe(named)
        return named, _locked(tool, files, named, choice)
    usable = [base for base in register.bases if unsafe(base) is None and broken(base) is None]
    fitting = [
        base for base in usable if SpecifierSet(files.python).contains(base.manifest.python, prereleases=True)
    ]
    exact = []  # with how much of what belongs to torch each has in the locked version
    for base in fitting:
        found = _selected(tool, files, base, choice)
        if found.get("torch") == base.manifest.torch:
            has = base.manifest.distributions
            exact.append((sum(found.get(name) == has.get(name) for name in ECOSYSTEM & found.keys()), base))
    if exact:
        base = max(exact, key=lambda one: one[0])[1]
        return base, base.manifest.torch
    root = store.Store(Path(settings.overlay_root))
    request = Request(requires_python=files.python)
    base = choose(request, pinned="", settings=settings, root=root).base
    return base, _locked(tool, files, base, choice)


def _locked(tool: Uv, files: ProjectFiles, base: RegisteredBase, choice: Sequence[str]) -> str:
    return _selected(tool, files, base, choice).get("torch", "")


def _selected(
    tool: Uv, files: ProjectFiles, base: RegisteredBase, choice: Sequence[str]
) -> dict[str, str]:  # fmt: skip
    """Name → version of what the lock selects on a base's Python; nothing where there is no lock."""
    if not files.lock.exists():
        return {}
    return selected(tool, files.directory, base.manifest.interpreter, choice, markers_of(base.manifest))


def _inexact(files: ProjectFiles, locked: str, base: RegisteredBase) -> NoBaseFits:
    tag = locked_tag(files.lock, locked) or base.manifest.tag
    fix = f"jupyter overlay base create {tag} --torch {locked.partition('+')[0]}  makes a base that fits"
    if "+" not in locked:
        fix = (
            f"make an environment with it, and adopt that:\n"
            f"uv venv torch-env; uv pip install --python torch-env torch=={locked}\n"
            "jupyter overlay base adopt torch-env"
        )
    return NoBaseFits(
        f"no base has torch {locked}, which {shlex.quote(str(files.lock))} says",
        why=f"{base.manifest.id} has torch {base.manifest.torch}",
        fix=f"{fix}\nor --relock locks the base's torch; or leave out --exact to use it without that",
    )
