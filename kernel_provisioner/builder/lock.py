"""Make the lock of a notebook: solve, unpack and check its extras once, and write down what came.

Nothing of the packages runs, unless source builds are allowed. What was fetched stays in uv's
cache, so that the notebook's next start needs no network.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.version import Version

from .. import uv
from ..accelerators import ECOSYSTEM
from ..base.registry import RegisteredBase
from ..errors import BuildFailed, OverlayError, ResolutionFailed
from ..overlay import store
from ..overlay.skeleton import write_skeleton
from ..policy.rules import url_in
from ..pylock import Lock, LockedPackage
from ..request import Request
from ..settings import Settings
from ..uv_facts import uv_path
from .build import everything, install
from .exact import RELOCK, file_name, files_of
from .order import Order
from .progress import Progress
from .solve import Solver
from .whole import Distribution, needs


def make_lock(
    request: Request,
    base: RegisteredBase,
    root: store.Store,
    settings: Settings,
    *,
    builds: bool = False,
    anew: bool = False,
) -> Lock:
    """The lock of ``request`` as it comes out on ``base``.

    A lock that the request brings holds the versions it names. ``anew``: newer versions than the
    last time are taken where there are any. Raises OverlayError.
    """
    if any(url_in(extra) for extra in request.extras):
        raise ResolutionFailed(
            "a package that is declared by its address cannot be locked",
            why="what lies at an address may change, and another machine's policy may not allow it",
            fix="declare it by its name, from an index",
        )
    root.prepare()
    with tempfile.TemporaryDirectory(prefix="lock-", dir=root.root) as name:
        generation = store.Generation(Path(name, "trial"))
        generation.path.mkdir()
        write_skeleton(generation.path, base.manifest, base.skeleton_path, uv=uv_path())
        _write_order(generation, dataclasses.replace(request, stale=request.lock is not None), base, settings)
        order = Order.read(generation, root.root)
        here = _unpacked(order, root, Path(name), builds=builds, anew=anew) if request.extras else {}
        found = needs(request.extras, here, base.manifest.python)
        if found.faults:
            raise ResolutionFailed(
                f"the packages do not go together on {base.manifest.id}: {found.faults[0]}",
                why="\n".join(found.faults),
                fix="change the extras: jupyter overlay add NOTEBOOK PACKAGE",
            )
        versions = {
            name: here[name].version for name in sorted(found.names) if name not in base.manifest.fixed
        }
        return Lock(
            packages=tuple(_packages(versions, order, Path(name), builds=builds)),
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


def _write_order(
    generation: store.Generation, request: Request, base: RegisteredBase, settings: Settings
) -> None:
    generation.write(
        store.ORDER,
        {
            "order": store.order_of(request, base.manifest, settings),
            "lock": request.lock.as_dict() if request.lock else None,
            "base_directory": str(base.directory),
            "alternatives": [],
            "settings": settings.as_dict(),
            "notebook": "",
        },
    )


def _unpacked(
    order: Order, root: store.Store, scratch: Path, *, builds: bool, anew: bool
) -> dict[str, Distribution]:
    """All distributions that the order comes to, the base's included."""
    progress = Progress(scratch / store.PROGRESS)
    solution = Solver(order, root, progress, scratch, builds=builds).solve(anew=anew)
    if solution is None:
        raise BuildFailed(
            "an extra has to be built from source, which runs its code",
            why="that happens only once you have run a cell of the notebook",
            fix="run a cell of the notebook, then lock it",
        )
    install(order, solution, progress, builds=builds)
    return everything(order.generation)


def _packages(
    versions: Mapping[str, str], order: Order, scratch: Path, *, builds: bool
) -> Iterable[LockedPackage]:
    """The packages with all files of their releases; one of the base's that no index has is left out."""
    pins = [uv.Change(name, Version(version).public) for name, version in versions.items()]
    files = _releases([pin for pin in pins if pin.name not in ECOSYSTEM], order, scratch, builds=builds)
    for pin in pins:
        if pin.name in ECOSYSTEM:
            yield LockedPackage(pin.name, pin.version)
        elif pin.name in files:
            yield LockedPackage(pin.name, pin.version, tuple(sorted(files[pin.name].items())))
        elif pin.name not in order.manifest.distributions:
            raise ResolutionFailed(
                f"{pin.name} {pin.version} cannot be locked: its index gives no hashes", fix=RELOCK
            )


def _releases(
    pins: list[uv.Change], order: Order, scratch: Path, *, builds: bool
) -> dict[str, dict[str, str]]:
    """Name → file name → SHA-256 for every file of these releases, for any platform."""
    tool = order.uv
    python = order.python
    held = [pin for pin in pins if pin.name in order.manifest.distributions]

    def files(some: list[uv.Change], *more: str) -> dict[str, dict[str, str]]:
        return _hashes(files_of(some, python, tool, scratch, ["--universal", *more], indexes=False))

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
