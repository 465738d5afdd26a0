"""Make the lock of a notebook: solve, unpack and check its extras once, and write down what came.

Nothing of the packages runs, unless source builds are allowed. What was fetched stays in uv's
cache, so that the notebook's next start needs no network.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.version import Version

from ..base.registry import RegisteredBase
from ..errors import BuildFailed, OverlayError, ResolutionFailed
from ..inkernel.shared import layout
from ..inkernel.shared.packages import named_in
from ..model.accelerators import ECOSYSTEM
from ..model.lock import Lock, LockedPackage
from ..model.request import Request
from ..overlay import store
from ..policy.rules import url_in
from ..settings import Settings
from ..store import fill
from ..uv import client
from .build import solve_and_install, staged_and_base
from .consistency import Distribution, needed, needs
from .from_lock import RELOCK, checked, file_name, files_of, written
from .progress import Progress
from .spec import BuildSpec
from .trial import trial


def make_lock(
    request: Request,
    base: RegisteredBase,
    root: store.Store,
    settings: Settings,
    *,
    builds: bool = False,
    upgrade: bool = False,
) -> Lock:
    """The lock of ``request`` as it comes out on ``base``.

    A lock that the request brings holds the versions it names. ``upgrade``: newer versions than the
    last time are taken where there are any. What comes from a source on this machine is not in it. Raises
    OverlayError.
    """
    if any(url_in(extra) for extra in request.extras):
        raise ResolutionFailed(
            "a package that is declared by its address cannot be locked",
            why="what lies at an address may change, and another machine's policy may not allow it",
            fix="declare it by its name, from an index",
        )
    stale = dataclasses.replace(request, stale=request.lock is not None)
    with trial(stale, base, root, settings) as (spec, scratch), fill.held(spec.wheels):
        staged, own = _unpacked(spec, scratch, builds=builds, upgrade=upgrade) if request.extras else ({}, {})
        here = {**own, **staged}
        found = needed(request.extras, staged, own, base.manifest.python)
        if found.faults:
            raise ResolutionFailed(
                f"the packages do not go together on {base.manifest.id}: {found.faults[0]}",
                why="\n".join(found.faults),
                fix="change the extras: jupyter overlay add NOTEBOOK PACKAGE",
            )
        left_out = _bases_own(spec, here) | set(map(named_in, request.local))
        versions = {name: here[name].version for name in sorted(found.names - left_out)}
        return Lock(
            packages=tuple(_packages(versions, spec, scratch, builds=builds)),
            torch=Version(base.manifest.torch).public,
            requires_python=f">={base.manifest.python_xy}",
            extras=request.extras,
            exclude_newer=request.exclude_newer,
            base_provided=tuple(
                sorted(
                    name
                    for name in found.names
                    if here[name].version == base.manifest.distributions.get(name)
                )
            ),
        )


def located(lock: Lock, request: Request, base: RegisteredBase, root: store.Store, settings: Settings) -> str:
    """A notebook's lock as PEP 751 text, with the addresses that this machine's indexes have for its files.

    For any platform, but PyTorch's own packages, which are the base's builds. Raises OverlayError, also where
    an index has another file of that name.
    """
    pins = [client.Change(package.name, package.version) for package in lock.packages]
    own = [pin for pin in pins if pin.name not in ECOSYSTEM]
    stack = [pin for pin in pins if pin.name in ECOSYSTEM]
    with trial(request, base, root, settings) as (spec, scratch):
        tool = spec.uv
        found = files_of(own, spec.python, tool, scratch, _everywhere(spec), indexes=False)
        torchs = files_of(stack, spec.python, tool.at(spec.upstream), scratch, [])
        return written([*checked(found, lock), *torchs])


def _everywhere(spec: BuildSpec) -> list[str]:
    """uv's options for all platforms, and for Pythons from the base's on.

    Without that version uv asks for every release of its series, which a package may have left behind
    (``>=3.11.5``): https://docs.astral.sh/uv/reference/cli/#uv-pip-compile--universal
    """
    return ["--universal", "--python-version", spec.manifest.python]


def _bases_own(spec: BuildSpec, here: Mapping[str, Distribution]) -> frozenset[str]:
    """What a lock leaves to each base: what is fixed, and what its ipykernel needs unless it was replaced.

    Locked, a notebook would bring a second IPython to every base that holds another one.
    """
    base = spec.manifest.distributions
    kernels = needs(["ipykernel"], here, spec.manifest.python).names
    kept = {name for name in kernels if name in here and here[name].version == base.get(name)}
    return spec.fixed | kept


def _unpacked(
    spec: BuildSpec, scratch: Path, *, builds: bool, upgrade: bool
) -> tuple[dict[str, Distribution], dict[str, Distribution]]:
    """The distributions that the order comes to, and the base's."""
    progress = Progress(scratch / layout.PROGRESS)
    found = solve_and_install(spec, progress, scratch, builds=builds, upgrade=upgrade)
    if found is None:
        raise BuildFailed(
            "an extra must be built from source, which runs its code",
            why="that happens only after you have run a cell of the notebook",
            fix="run a cell of the notebook, then lock it",
        )
    found.solution.keep(spec.known)
    return staged_and_base(spec.generation)


def _packages(
    versions: Mapping[str, str], spec: BuildSpec, scratch: Path, *, builds: bool
) -> Iterable[LockedPackage]:
    """The packages with all files of their releases; one of the base's that no index has is left out."""
    pins = [client.Change(name, Version(version).public) for name, version in versions.items()]
    files = _releases([pin for pin in pins if pin.name not in ECOSYSTEM], spec, scratch, builds=builds)
    for pin in pins:
        if pin.name in ECOSYSTEM:
            yield LockedPackage(pin.name, pin.version)
        elif pin.name in files:
            yield LockedPackage(pin.name, pin.version, tuple(sorted(files[pin.name].items())))
        elif pin.name not in spec.manifest.distributions:
            raise ResolutionFailed(
                f"{pin.name} {pin.version} cannot be locked: its index gives no hashes", fix=RELOCK
            )


def _releases(
    pins: list[client.Change], spec: BuildSpec, scratch: Path, *, builds: bool
) -> dict[str, dict[str, str]]:
    """Name → file name → SHA-256 for every file of these releases, for any platform."""
    tool = spec.uv
    python = spec.python
    held = [pin for pin in pins if pin.name in spec.manifest.distributions]

    def files(some: list[client.Change], *more: str) -> dict[str, dict[str, str]]:
        return _hashes(files_of(some, python, tool, scratch, [*_everywhere(spec), *more], indexes=False))

    try:
        if not builds:  # the others have a wheel already, so that none is built for the list of its files
            files(held, "--no-build")
        return files(pins)
    except ResolutionFailed:
        found = files([pin for pin in pins if pin not in held])
    for pin in held:  # an adopted base may hold packages that no index has
        with contextlib.suppress(OverlayError):
            found |= files([pin], "--no-build")
    return found


def _hashes(packages: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    found = {
        package["name"]: {
            file_name(file): file["hashes"]["sha256"]
            for file in [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else [])]
            if "sha256" in file.get("hashes", {})
        }
        for package in packages
    }
    return {name: files for name, files in found.items() if files}
