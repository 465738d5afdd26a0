"""Whether an environment works: where it was made, with its base there, whose torch uv and pip see."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..base import registry
from ..base.current import broken
from ..base.registry import RegisteredBase
from ..base.trust import unsafe
from ..errors import BaseNotFound, CorruptState
from ..overlay.guards import BUILD_CONSTRAINTS
from ..overlay.skeleton import is_intact, receipt_of_torch
from . import notes
from .refill import lost_packages


class Fault(NamedTuple):
    """What is wrong with an environment, and what repairs it. ``minor``: it may be in order later."""

    text: str
    fix: str
    minor: bool = False


def faults(root: Path, others: Iterable[Path] = ()) -> Iterator[Fault]:
    """What is wrong with the environments that are noted in ``root``, and with those at ``others``."""
    noted = notes.known(root)
    for venv in noted:
        spec = None if venv.unseen else notes.spec_at(venv.path)
        if spec and not venv.ready:
            fix = f"jupyter overlay venv {venv.path} …  with the same arguments creates it"
            yield Fault(f"{venv.path} is being created, or was not finished", fix, minor=True)
        elif spec and (found := fault(venv.path, spec)):
            yield found
    there = {os.path.realpath(venv.path) for venv in noted}
    for path in others:
        spec = None if os.path.realpath(path) in there else notes.spec_at(path)
        if spec and (found := fault(path, spec)):
            yield found


def fault(place: Path, spec: Mapping[str, Any]) -> Fault | None:
    """The first thing that is wrong with the environment at ``place``, built by ``spec``."""
    sync = f"jupyter overlay sync {shlex.quote(str(place))}"
    if moved := moved_from(place, spec):
        return Fault(f"{place} was created as {moved}, and does not work at another path", sync)
    try:
        base = base_of(spec)
    except (BaseNotFound, CorruptState) as error:
        fix = (
            f"{sync}  puts it on a base with the same torch; on another one:\n"
            f"jupyter overlay venv {place} --base TAG … --recreate"
        )
        return Fault(f"{place} cannot be used: {error.what}", fix)
    if not is_intact(place, base.manifest):
        return Fault(f"the Python of {place} is gone, or does not find its base", sync)
    if not os.path.lexists(place / receipt_of_torch(base)):
        return Fault(f"in {place} uv and pip no longer find the base's torch: another program took it", sync)
    if lost := lost_packages(place):
        names = ", ".join(info.name.partition("-")[0] for info in lost)
        return Fault(f"{place} has lost {names}: what it was linked to in the wheel store is gone", sync)
    return None


def moved_from(place: Path, spec: Mapping[str, Any]) -> Path | None:
    """Where the environment at ``place`` was made, if that is another place."""
    made = Path(spec.get("place", place))
    return None if made.exists() and made.samefile(place) else made


def base_of(spec: Mapping[str, Any]) -> RegisteredBase:
    """The base that an environment stands on; raises BaseNotFound or CorruptState where it is gone."""
    directory = Path(spec["base_directory"])
    try:
        base = RegisteredBase(registry.read_manifest(directory), directory)
    except CorruptState:
        base = registry.read_register().get(spec["order"]["base"])
    if error := broken(base):
        raise error
    return base


def base_instead(place: Path) -> RegisteredBase:
    """A base that can take the place of the one that is gone: the same torch, for the same Python.

    Raises BaseNotFound, with the command that makes such a base.
    """
    torch = next((line.removeprefix("torch==") for line in _pins(place) if line.startswith("torch==")), "")
    python = next((path.name.removeprefix("python") for path in place.glob("lib/python3*")), "")
    for base in registry.read_register().bases:
        manifest = base.manifest
        fits = manifest.torch == torch and manifest.python_xy == python.rstrip("t")
        if fits and unsafe(base) is None and broken(base) is None:
            return base
    public, _, tag = torch.partition("+")
    name = shlex.quote(str(place))
    create = f"jupyter overlay base create {tag} --torch {public} --python {python}"
    if not tag:
        create = (
            f"jupyter overlay base adopt ENV  with an environment that has torch {torch}, Python {python}"
        )
    raise BaseNotFound(
        f"the base of {place} is gone, and no other has torch {torch} for Python {python}",
        why="its packages are built for that Python, and may be for that torch",
        fix=f"{create}\nthen  jupyter overlay sync {name}\n"
        f"or, on another base:  jupyter overlay venv {name} --base TAG … --recreate",
    )


def _pins(place: Path) -> list[str]:
    """What an environment's builds are held to: torch's stack as its base has it."""
    try:
        return (place / BUILD_CONSTRAINTS).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
