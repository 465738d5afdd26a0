"""Where the packages of a solution come from: the wheel store, filled first with what it lacks.

What a shared store has is linked from it, and not fetched.

Only what bears no hash, or comes from a version control system, is unpacked for one overlay alone.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import CommandFailed, InstallFailed
from ..inkernel.shared import layout, links
from ..inkernel.shared.environment import loader_environment
from ..inkernel.shared.packages import canonical
from ..inkernel.shared.settle import links_in_the_way
from ..model.manifest import BaseManifest
from ..overlay.skeleton import shebang_for, shebangs_for, site_packages
from ..store import entry as entries
from ..store import fill, shared
from ..store.entry import Entry
from ..store.keys import Material, material_of, place_of
from ..store.place import Stage
from ..store.reasons import PLUGIN, PYTEST
from ..system import processes
from ..system.pause_points import pause
from .solution import Solution
from .spec import BuildSpec
from .stage import verify_unpacked

Install = Callable[..., None]
"""Unpack the packages of a lock (the first) below a prefix (the second), with further options of uv."""

_COMPILE = Path(__file__).parents[1] / "inkernel" / "compile_store.py"
_COMPILES_WITHIN = 1800.0  # seconds


class Supply(NamedTuple):
    """The entries that serve a solution, and the names of the packages that none serves.

    ``later`` are those of the latter that the store is to have, and has not been filled with.
    """

    entries: Sequence[Entry]
    others: Collection[str]
    later: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """The packages that the entries are."""
        return frozenset(canonical(entry.facts["info"].partition("-")[0]) for entry in self.entries)


def supply(
    spec: BuildSpec, solution: Solution, scratch: Path, install: Install, *, fills: bool = True
) -> Supply:
    """The entries for a solution; what is missing is unpacked and checked first, where this ``fills``.

    To be called while the store is held. ``scratch`` is a directory for a lock. Raises InstallFailed and
    OSError.
    """
    materials = materials_of(spec, solution)
    wanted = {name: material for name, material in materials.items() if material}
    others, passed = shared.trusted(spec.shared), set[str]()
    found = {
        name: entries.find(spec.wheels, material, passed)
        or shared.take(spec.wheels, others, material, passed)
        for name, material in wanted.items()
    }
    missing = {name: wanted[name] for name, entry in found.items() if entry is None}
    if missing and fills:
        _fill(spec, solution, missing, scratch, install)
        found.update({name: entries.find(spec.wheels, material) for name, material in missing.items()})
    serving = [entry for _, entry in sorted(found.items()) if entry]
    later = frozenset() if fills else frozenset(missing)
    return Supply(serving, [name for name in materials if not found.get(name)], later)


def materials_of(spec: BuildSpec, solution: Solution) -> dict[str, Material | None]:
    """What the entries are made from that serve a solution, by package; None for what none can serve."""
    place = place_of(spec.manifest, os.uname().machine)
    return {package["name"]: material_of(package, place) for package in solution.packages}


def lay(spec: BuildSpec, supplied: Supply, staging: Path, gone: Collection[str] = ()) -> None:
    """Lay the entries into ``staging``, beside what was unpacked there; ``make_room`` is to follow.

    ``gone`` are distributions of the overlay that are removed before anything is moved in. Raises OSError.
    """
    own = site_packages(spec.generation.path)
    site = staging / own.relative_to(spec.generation.path)
    site.mkdir(parents=True, exist_ok=True)
    leaving = links.named_by(own, gone)

    def shared(path: str) -> bool:
        there = own / path
        if there.is_symlink() and path not in leaving:
            return True
        return _is_shared(spec.manifest, path) or (there.is_dir() and not there.is_symlink())

    Stage(
        staging,
        site,
        beside=own,
        shebang=shebang_for(spec.generation.python),
        shared=shared,
        pytest=_brings_pytest(supplied)
        or PYTEST in spec.manifest.distributions
        or any(own.glob(f"{PYTEST}-*.dist-info")),
    ).lay(supplied.entries)


def make_room(spec: BuildSpec, supplied: Supply, staging: Path, gone: Collection[str] = ()) -> None:
    """Let links of the overlay become files where what is staged has a part in what they lead to.

    So do those of plugins where pytest comes, and of libraries that look for what is staged. ``gone`` are
    distributions that are removed before anything is moved in. Raises OSError, and InstallFailed where a
    link stays in the way: it may lead into the store.
    """
    overlay = spec.generation.path
    own = site_packages(overlay)
    leaving = links.named_by(own, gone)

    def in_the_way() -> set[str]:
        return {os.path.relpath(link, own) for link in links_in_the_way(staging, overlay)} - leaving

    staged = staging / own.relative_to(overlay)
    linked = links.owners(own, in_the_way()) | _not_served(own, staged, pytest=_brings_pytest(supplied))
    if only := linked - set(gone):
        links.free(overlay, only)
    if left := sorted(in_the_way()):
        raise InstallFailed(
            f"an extra would write through {os.path.normpath(own / left[0])}, which is a link",
            why="no package of this environment has put it there, or what it leads to is gone",
            fix="restart the kernel, and remove the link if that does not help",
        )


def _brings_pytest(supplied: Supply) -> bool:
    return PYTEST in {*supplied.names, *supplied.others}


def _not_served(own: Path, staged: Path, *, pytest: bool) -> set[str]:
    """The distributions below ``own`` that are links, and are to be files beside what is staged."""
    found = set()
    for info in own.glob("*.dist-info"):
        entry = links.entry_of(info)
        facts = entries.facts_of(entry) if entry else {}
        reached = any(os.path.lexists(staged / path) for path in facts.get("reaches", ()))
        if reached or (pytest and facts.get("as_files") == PLUGIN):
            found.add(canonical(info.name.partition("-")[0]))
    return found


def lock_of(solution: Solution, names: Collection[str]) -> str:
    """The lock of a solution with the packages of these names alone, as text."""
    text = solution.lock.read_text(encoding="utf-8")
    head, *blocks = re.split(r"^(?=\[\[packages\]\]$)", text, flags=re.MULTILINE)
    named = ((block, re.search(r'^name = "([^"]+)"', block, re.MULTILINE)) for block in blocks)
    return head + "".join(block for block, name in named if name and name[1] in names)


def entries_in(prefix: Path) -> list[str]:
    """The entries that the distributions below ``prefix`` are links to."""
    real = functools.lru_cache(maxsize=None)(os.path.realpath)
    infos = prefix.glob("lib/python*/site-packages/*.dist-info")
    return sorted({entry for info in infos if (entry := links.entry_of(info, real))})


def compile_new(spec: BuildSpec, *, wait: bool = False) -> None:
    """Compile the bytecode of what a published overlay stands on, where that has not been done.

    The overlay serves without it: a process of its own does it, in idle time, unless one is to ``wait``. Who
    is ended meanwhile leaves the rest to the next build. Raises OSError.
    """
    used = spec.generation.read(layout.OVERLAY).get(layout.ENTRIES, [])
    if wait:
        compile_entries(spec, used)
    elif words := _compiling(spec, used):
        log = spec.generation.path / layout.BUILDER_LOG
        processes.spawn(words, env=loader_environment(os.environ), log=log)


def compile_entries(spec: BuildSpec, used: Sequence[str]) -> None:
    """Compile the bytecode of these entries, where that has not been done, and wait for it.

    They serve without it: where it cannot be, that is logged.
    """
    if words := _compiling(spec, used):
        env = loader_environment(os.environ)
        try:
            processes.run(words, env=env, timeout=_COMPILES_WITHIN).check(
                "the bytecode of packages in the wheel store was not compiled"
            )
        except CommandFailed as error:
            import logging  # a builder, whom a cell waits for, starts faster without

            logging.getLogger(__name__).warning("%s: %s", error.what, error.why)


def _compiling(spec: BuildSpec, used: Sequence[str]) -> Sequence[str]:
    """The command that does it; empty where there is nothing to do."""
    new = entries.uncompiled(used)
    return (spec.manifest.interpreter, "-IS", "-W", "ignore", str(_COMPILE), *new) if new else ()


def _fill(
    spec: BuildSpec, solution: Solution, missing: Mapping[str, Material], scratch: Path, install: Install
) -> None:
    """Unpack what is missing by one uv, and again, one by one, what has files in common."""
    shebangs = [form.encode() for form in shebangs_for(spec.python)]

    def unpack(names: Collection[str], *, alone: bool) -> set[str]:
        lock = scratch / "pylock.missing.toml"
        lock.write_text(lock_of(solution, names), encoding="utf-8")
        with fill.workplace(spec.wheels) as work:
            filled = work / "filled"
            install(
                lock, filled, "--link-mode", "copy"
            )  # what is in uv's cache may be other environments', too
            again = set() if alone else fill.shared_files(filled) & set(names)
            verify_unpacked(filled, set(names) - again)
            pause("filled")
            chosen = {name: missing[name] for name in names if name not in again}
            fill.publish(filled, spec.wheels, chosen, shebangs)
        return again

    for name in sorted(unpack(list(missing), alone=False)):
        unpack([name], alone=True)


def _is_shared(base: BaseManifest, path: str) -> bool:
    """Whether a directory below site-packages is a namespace, or a part of one, that the base has, too."""
    if path.partition("/")[0] not in base.namespaces:
        return False
    places = [place for site in base.site_dirs if (place := Path(site, path)).is_dir()]
    return bool(places) and not any(any(place.glob("__init__.*")) for place in places)
