"""Plan, audit, fetch, install, verify, publish.

Before the user has run a cell nothing here runs code of a package that the notebook names: uv
resolves wheels only and unpacks them into a staging directory that no interpreter looks at.
What needs a build from source waits for the first cell.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import records, uv
from ..accelerators import index_url
from ..base.registry import read_manifest
from ..errors import BuildFailed, InstallFailed, OverlayError, ResolutionFailed
from ..manifest import BaseManifest
from ..overlay import store
from ..overlay.skeleton import CONSTRAINTS, remove_tree
from ..router import Router
from . import audit
from .progress import Progress

WAITS_FOR_CELL = "needs-cell"


@dataclasses.dataclass(frozen=True)
class Order:
    """What to build, as the launch wrote it down."""

    generation: store.Generation
    key: str
    base: BaseManifest
    extras: tuple[str, ...]
    exclude_newer: str
    index_template: str
    pins: str
    source_builds: str
    offline: bool

    @classmethod
    def read(cls, generation: store.Generation) -> Order:
        """The order in a generation's directory; raises CorruptState."""
        data = generation.read(store.ORDER)
        order, settings = data["order"], data["settings"]
        return cls(
            generation=generation,
            key=data["key"],
            base=read_manifest(Path(data["base_directory"])),
            extras=tuple(order["extras"]),
            exclude_newer=order["exclude_newer"],
            index_template=settings["index_template"],
            pins=settings["pins"],
            source_builds=settings["source_builds"],
            offline=settings["offline"],
        )


@dataclasses.dataclass(frozen=True)
class Solution:
    """A lock to install, and what it does to the base's packages."""

    lock: Path
    replaced: Mapping[str, tuple[str, str]]  # name → base's version, overlay's version


def build(order: Order, root: store.Store, progress: Progress, *, cell_ran: bool) -> bool:
    """Build and publish the overlay; False where it has to wait for the user's first cell.

    Raises OverlayError with cause and fix; then nothing is published.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torch-overlay-", dir=order.generation.path) as name:
        builder = _Build(order, root, progress, Path(name), cell_ran)
        solution = builder.solve()
        if solution is None:
            return False
        installed = builder.install(solution)
    _publish(order, solution, installed, time.monotonic() - started)
    progress.say("ready", f"{len(installed)} packages added", total=len(installed))
    return True


class _Build:
    """One build's tools and places."""

    def __init__(
        self, order: Order, root: store.Store, progress: Progress, scratch: Path, cell_ran: bool
    ) -> None:
        self._order, self._root, self._progress, self._scratch = order, root, progress, scratch
        self._uv = uv.find_uv(offline=order.offline)
        self._cell_ran = cell_ran
        self._python = order.generation.python
        self._staging = order.generation.path / store.STAGING

    def solve(self) -> Solution | None:
        """A known lock of the same order, or a new one; None where only a cell's consent is missing."""
        kept = self._root.lock_path(self._order.key)
        if kept.exists() and (solution := self._known(kept)):
            self._progress.say("install", "Installing a known set of packages")
            return solution
        wheels = [] if self._builds_allowed else ["--no-build"]
        try:
            solution = self._plan(wheels)
        except ResolutionFailed as error:
            if wheels and self._order.source_builds != "never" and _wants_source(error):
                return self._wait(error)
            raise
        if wheels and self._order.source_builds != "never" and self._older_for_want_of_wheels():
            return self._wait(None)
        kept.parent.mkdir(mode=0o700, exist_ok=True)
        temporary = kept.with_name(f".{kept.name}.{os.getpid()}")
        shutil.copyfile(solution.lock, temporary)
        temporary.replace(kept)
        return solution

    def install(self, solution: Solution) -> list[dict[str, str]]:
        """Unpack the lock's packages into staging, check every file, and name what is there."""
        remove_tree(self._staging)
        options = [] if self._builds_allowed else ["--no-build"]
        self._progress.say("install", "Installing")
        try:
            self._install(solution, [*options, "--offline"])
        except InstallFailed:
            if self._order.offline:
                raise
            remove_tree(self._staging)  # never repaired: what is there may be half of a package
            self._install(solution, options)
        self._progress.say("verify", "Checking every file")
        return self._verify(solution)

    @property
    def _builds_allowed(self) -> bool:
        return self._cell_ran and self._order.source_builds != "never"

    def _known(self, kept: Path) -> Solution | None:
        names = _locked(kept.read_text(encoding="utf-8"))
        if not names:
            return None
        lock = self._scratch / "pylock.toml"
        shutil.copyfile(kept, lock)
        return Solution(lock, _replacements(names, self._order.base))

    def _plan(self, options: Sequence[str]) -> Solution:
        """Hold every base package first; let go of the replaceable ones only where that fails."""
        self._progress.say("plan", "Resolving " + ", ".join(self._order.extras))
        base = self._order.base
        try:
            return self._resolve(base.distributions, (), options)
        except ResolutionFailed:
            if self._order.pins == "all":
                raise
        fixed = {name: version for name, version in base.distributions.items() if name in base.fixed}
        return self._resolve(fixed, tuple(base.distributions), options)

    def _resolve(self, pins: Mapping[str, str], roots: Sequence[str], options: Sequence[str]) -> Solution:
        order = self._order
        wanted = self._file("wanted.txt", [*order.extras, *roots])
        held = self._file("held.txt", [f"{name}=={version}" for name, version in pins.items()])
        upstream = index_url(order.index_template, order.base.tag)
        newer = ["--exclude-newer", order.exclude_newer] if order.exclude_newer else []
        with Router(upstream, order.base.fixed) as router:
            common = ["--index", router.url, "--build-constraints", str(held), *newer, *options]
            try:
                changes = self._uv.plan(self._python, wanted, ["-c", str(held), *common])
                replaced = audit.audit_plan(changes, order.base, pins=order.pins)
                pinned = self._file("pins.txt", [f"{change.name}=={change.version}" for change in changes])
                lock = self._scratch / "pylock.toml"
                text = router.real(self._uv.lock(self._python, pinned, lock, common))
            except OverlayError as error:
                raise retold(error, order, router, order.extras) from error
            audit.audit_origin(_indexes(text), upstream, list(router.failures.values()))
        lock.write_text(text, encoding="utf-8")
        return Solution(lock, {change.name: (change.replaces, change.version) for change in replaced})

    def _older_for_want_of_wheels(self) -> bool:
        """Whether an extra was taken in an old version because its newest has no wheel.

        uv goes back in time until it finds a wheel, which nobody would expect; the names alone,
        without their dependencies, tell whether it did. That look-up builds nothing.
        """
        names = self._file("names.txt", self._order.extras)
        options = ["--no-deps", "-c", str(self._scratch / "held.txt")]
        if self._order.exclude_newer:
            options += ["--exclude-newer", self._order.exclude_newer]
        upstream = index_url(self._order.index_template, self._order.base.tag)
        with Router(upstream, self._order.base.fixed) as router:
            options += ["--index", router.url]
            try:
                free = self._newest(names, options)
                wheels = self._newest(names, [*options, "--no-build"])
            except OverlayError:
                return False
        return free != wheels

    def _newest(self, names: Path, options: Sequence[str]) -> set[str]:
        done = self._uv.run(
            "pip", "compile", "-q", "--no-header", "--no-annotate", "--python", self._python, names, *options
        )
        done.check("the newest versions are not known")
        return set(done.stdout.split())

    def _wait(self, error: ResolutionFailed | None) -> None:
        why = error.why if error else "the newest version of an extra has no wheel for this Python"
        self._progress.say(WAITS_FOR_CELL, "Source builds run code: they start with the first cell", why=why)

    def _install(self, solution: Solution, options: Sequence[str]) -> None:
        self._progress.expect(len(_locked(solution.lock.read_text(encoding="utf-8"))))
        self._uv.install_lock(
            self._python, solution.lock, self._staging, options, on_line=self._progress.hear
        )

    def _verify(self, solution: Solution) -> list[dict[str, str]]:
        installed = []
        for site in sorted(self._staging.glob("lib*/python*/site-packages")):
            for dist_info in records.dist_infos(site):
                faults = records.check(dist_info)
                if faults:
                    raise InstallFailed(
                        f"{faults[0].distribution} is damaged: {faults[0]}",
                        why=f"{len(faults)} of its files are not what its RECORD says",
                        fix=f"uv cache clean {faults[0].distribution.split('-')[0]}  then restart the kernel; "
                        "where it comes again, the package itself is broken",
                    )
                name, _, version = dist_info.name.removesuffix(".dist-info").partition("-")
                installed.append({"name": name.replace("_", "-").lower(), "version": version})
            self._refuse_shadows(site, solution)
            for hider in audit.namespace_hiders(site, self._order.base):
                _drop(hider, site)
        return installed

    def _refuse_shadows(self, site: Path, solution: Solution) -> None:
        if hidden := audit.shadowing(site, self._order.base, solution.replaced):
            raise InstallFailed(
                "an extra would hide " + ", ".join(hidden) + f" of {self._order.base.id}",
                why="a package that ships a file of that name would run in place of the base's own",
                fix="remove that extra: a package that overwrites others' modules is broken or hostile",
            )

    def _file(self, name: str, lines: Sequence[str]) -> Path:
        path = self._scratch / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path


def _publish(order: Order, solution: Solution, installed: list[dict[str, str]], seconds: float) -> None:
    """Write what the overlay is, last of all; before this it does not exist."""
    if solution.replaced:
        versions = dict(order.base.distributions)
        versions.update({name: new for name, (_, new) in solution.replaced.items()})
        lines = [f"{name}=={version}\n" for name, version in sorted(versions.items())]
        (order.generation.path / CONSTRAINTS).write_text("".join(lines), encoding="utf-8")
    content: dict[str, Any] = {
        "base": order.base.id,
        "extras": list(order.extras),
        "installed": installed,
        "replaced": {name: list(pair) for name, pair in solution.replaced.items()},
        "seconds": round(seconds, 3),
    }
    order.generation.write(store.OVERLAY, content)


def retold(error: OverlayError, order: Order, router: Router, extras: Sequence[str]) -> OverlayError:
    """A failed resolution in the words of the notebook: its extras, its base, and what would help."""
    base = order.base
    if router.failures and not isinstance(error, ResolutionFailed):
        return InstallFailed(
            "the extras need "
            + ", ".join(sorted(router.failures))
            + f", which could not be looked up for {base.tag}",
            why="\n".join(router.failures.values()),
            fix="check the network, or set TorchOverlay.index_template to a mirror that can be reached",
        )
    if isinstance(error, ResolutionFailed):
        why = router.real(error.why)
        return ResolutionFailed(
            f"the extras {', '.join(extras)} do not fit on {base.id} (torch {base.torch})",
            why=why,
            fix=error.fix
            or "change the extras that the reason names (jupyter overlay add/remove NOTEBOOK PKG), "
            "or choose a kernel whose base holds what they need (jupyter overlay base list)",
        )
    return type(error)(error.what, why=router.real(error.why), fix=error.fix)


def _wants_source(error: ResolutionFailed) -> bool:
    """Whether a resolution failed only because building from source was not allowed."""
    text = error.why
    return any(
        words in text
        for words in ("no usable wheels", "no wheels", "building source distributions", "Building source")
    )


def _indexes(lock: str) -> dict[str, str]:
    return {entry["name"]: str(entry.get("index", "")) for entry in _packages(lock)}


def _locked(lock: str) -> dict[str, str]:
    return {entry["name"]: str(entry.get("version", "")) for entry in _packages(lock)}


def _packages(lock: str) -> list[dict[str, Any]]:
    try:
        import tomllib
    except ImportError:  # Python 3.10
        import tomli as tomllib
    try:
        return list(tomllib.loads(lock).get("packages", []))
    except tomllib.TOMLDecodeError:
        return []


def _replacements(versions: Mapping[str, str], base: BaseManifest) -> dict[str, tuple[str, str]]:
    have = base.distributions
    return {name: (have[name], version) for name, version in versions.items() if name in have}


def _drop(path: Path, site: Path) -> None:
    """Remove a file and its row in whichever RECORD owns it."""
    relative = path.relative_to(site).as_posix()
    path.unlink()
    for dist_info in records.dist_infos(site):
        kept = [row for row in records.rows(dist_info) if row[0] != relative]
        with contextlib.suppress(OSError):
            if len(kept) != sum(1 for _ in records.rows(dist_info)):
                text = io.StringIO()
                csv.writer(text, lineterminator="\n").writerows(kept)
                (dist_info / "RECORD").unlink()  # it may be a hard link into uv's cache
                (dist_info / "RECORD").write_text(text.getvalue(), encoding="utf-8")


def failure_of(error: BaseException) -> OverlayError:
    """Any error as one that can be told in a cell."""
    if isinstance(error, OverlayError):
        return error
    if isinstance(error, OSError) and error.errno == 28:
        return BuildFailed(
            f"the disk is full at {error.filename}",
            why=str(error),
            fix="free space there, or set TORCH_OVERLAY_ROOT to another disk; then restart",
        )
    return BuildFailed(
        "the overlay could not be built",
        why=f"{type(error).__name__}: {error}",
        fix="restart the kernel; jupyter overlay doctor  looks for what is wrong",
    )
