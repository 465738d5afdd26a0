"""Fill a shared wheel store with the packages of notebooks and requirements files; no overlay is made."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..base.registry import RegisteredBase, make_shared
from ..base.trust import refuse_unsafe_places
from ..builder.build import solve_and_install
from ..builder.progress import Progress
from ..builder.supply import compile_entries, materials_of
from ..builder.trial import trial
from ..collector.shared import unneeded
from ..collector.wheels import Wheel, wheels_in
from ..errors import BuildFailed, OverlayError
from ..inkernel.shared import layout
from ..launch.choose import choose
from ..model.request import Request
from ..overlay import store
from ..project.wanted import wanted
from ..settings import Settings
from ..store import fill, lists
from ..store.keys import key_of
from ..system.permissions import owners_of_this_program
from .kernels import kernel_for, prospect
from .trees import notebooks_under

_REQUIREMENTS = (".txt", ".in")


@dataclasses.dataclass(frozen=True)
class Filled:
    """What became of one notebook or requirements file.

    ``state``: filled, skipped (``why`` says what for) or failed (``error`` says of what). ``packages`` is
    the number of those that it needs beside its base, ``new`` of those that the store did not have.
    """

    path: Path
    state: str
    base: str = ""
    packages: int = 0
    new: int = 0
    seconds: float = 0.0
    why: str = ""
    error: OverlayError | None = None

    def as_dict(self) -> dict[str, Any]:
        """The outcome as JSON values."""
        data = dataclasses.asdict(self)
        error = self.error.as_dict() if self.error else None
        return {**data, "path": str(self.path), "seconds": round(self.seconds, 3), "error": error}


class StoreFiller:
    """Fills the store in a directory, which is made for all to read, on the kernel ``wanted`` by name.

    ``source_builds``: packages without a wheel may be built, which runs their code. Raises BaseUnsafe where
    others could change what lies there.
    """

    def __init__(self, place: Path, settings: Settings, wanted: str = "", *, source_builds: bool) -> None:
        refuse_unsafe_places([place], f"the wheel store {place} is not filled")
        make_shared(place)
        self.place = place
        self._settings = dataclasses.replace(settings, shared_stores=())
        self._wanted, self._source_builds = wanted, source_builds

    @property
    def notices(self) -> list[str]:
        """What to tell of a store that others will not use."""
        if os.geteuid() in (0, *owners_of_this_program()):
            return []
        trusted = "root, or to the owner of this installation"
        return [f"nobody else will use this store: others trust only what belongs to {trusted}"]

    @property
    def unneeded(self) -> list[Wheel]:
        """What is in the store that nothing needs it was filled with."""
        return unneeded(self.place)

    def fill(self, path: Path) -> Filled:
        """Put all packages of a notebook or requirements file into the store, with their bytecode.

        Never raises for what is wrong with one of them; others go on.
        """
        started = time.monotonic()
        try:
            request, base = self._asked(path)
            if not request.extras:
                lists.write(self.place, path, base.manifest.tag, ())
                return Filled(path, "skipped", why="it declares no packages")
            packages, new = self._fill(path, request, base)
        except OverlayError as error:
            return Filled(path, "failed", error=error, seconds=time.monotonic() - started)
        return Filled(path, "filled", base.manifest.id, packages, new, time.monotonic() - started)

    def _asked(self, path: Path) -> tuple[Request, RegisteredBase]:
        if path.suffix not in _REQUIREMENTS:
            outlook = prospect(path, self._wanted, self._settings).outlook
            return outlook.request, outlook.base
        request = wanted((), [path], allow_urls=self._settings.policy.urls).request
        root = store.Store(Path(self._settings.overlay_root))
        tag = kernel_for("", self._wanted)[0].tag
        return request, choose(request, pinned=tag, settings=self._settings, root=root).base

    def _fill(self, path: Path, request: Request, base: RegisteredBase) -> tuple[int, int]:
        """The number of packages, and of those that are new; raises OverlayError."""
        builds = self._source_builds and self._settings.policy.builds
        root = store.Store(Path(self._settings.overlay_root))
        with trial(request, base, root, self._settings) as (trying, scratch), fill.held(self.place):
            spec = trying._replace(wheels=self.place)
            before = len(list(wheels_in(self.place)))
            progress = Progress(scratch / layout.PROGRESS)
            found = solve_and_install(spec, progress, scratch, builds=builds)
            if found is None:
                raise BuildFailed(
                    "a package must be built from source, which runs its code",
                    fix="--source-builds  allows it, where you trust these packages",
                )
            keys = [key_of(material) for material in materials_of(spec, found.solution).values() if material]
            compile_entries(spec, [str(self.place / key) for key in keys])
            lists.write(self.place, path, base.manifest.tag, keys)
            return len(found.installed), len(list(wheels_in(self.place))) - before


def sources_in(words: Sequence[str]) -> list[Path]:
    """The notebooks, in directories too, and the requirements files that are named."""
    files = [Path(word).absolute() for word in words if Path(word).suffix in _REQUIREMENTS]
    others = [word for word in words if Path(word).suffix not in _REQUIREMENTS]
    return [*files, *(notebooks_under(others) if others else ())]
