"""From an order to a solution: which packages, in which versions, from where, with which hashes.

Before the user has run a cell uv resolves wheels only. What needs a build from source waits for
the first cell.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import uv
from ..errors import InstallFailed, OverlayError, ResolutionFailed
from ..manifest import BaseManifest
from ..overlay import store
from . import audit
from .order import Order
from .progress import WAITS_FOR_CELL, Progress

if TYPE_CHECKING:
    from ..router import Router  # a web server, which a known lock never needs

_NAMED = 8  # extras that a message names; a notebook may declare hundreds


@dataclasses.dataclass(frozen=True)
class Solution:
    """A lock to install, and what it does to the base's packages."""

    lock: Path
    replaced: Mapping[str, tuple[str, str]]  # name → base's version, overlay's version


class Solver:
    """Finds what an order's extras need, in the overlay whose interpreter the order names.

    ``builds``: source builds are allowed, because the user has run a cell and the policy lets them.
    ``scratch`` is a directory for its files, which the solution's lock lies in.
    """

    def __init__(
        self, order: Order, root: store.Store, progress: Progress, scratch: Path, *, builds: bool
    ) -> None:
        self._order, self._root, self._progress, self._scratch = order, root, progress, scratch
        self._builds = builds
        self._uv = uv.find_uv(offline=order.offline)
        self._python = order.generation.python

    def solve(self, *, anew: bool = False) -> Solution | None:
        """A known lock of the same order, or a new one; None where only a cell's consent is missing.

        ``anew``: whatever is known.
        """
        kept = self._root.lock_path(self._order.key)
        if not anew and kept.exists() and (solution := self._known(kept)):
            self._progress.say("install", "Installing a known set of packages")
            return solution
        wheels = [] if self._builds else ["--no-build"]
        try:
            solution = self._exact(wheels) if self._order.exact else self._plan(wheels)
        except ResolutionFailed as error:
            if wheels and self._order.source_builds != "never" and _wants_source(error):
                self._wait(error.why)
                return None
            raise
        if (
            wheels
            and not self._order.exact
            and self._order.source_builds != "never"
            and (why := self._older_for_want_of_wheels(solution))
        ):
            self._wait(why)
            return None
        kept.parent.mkdir(mode=0o700, exist_ok=True)
        temporary = kept.with_name(f".{kept.name}.{os.getpid()}")
        shutil.copyfile(solution.lock, temporary)
        temporary.replace(kept)
        return solution

    def _known(self, kept: Path) -> Solution | None:
        names = locked_versions(kept.read_text(encoding="utf-8"))
        if not names:
            return None
        lock = self._scratch / "pylock.toml"
        shutil.copyfile(kept, lock)
        return Solution(lock, _replacements(names, self._order.manifest))

    def _exact(self, options: Sequence[str]) -> Solution:
        """What the notebook's lock adds to the base; nothing is resolved."""
        assert self._order.exact is not None
        self._progress.say("plan", "Looking up the packages of the notebook's lock")
        from .exact import pick

        changes = pick(self._order, self._order.exact, self._uv, self._scratch, options)
        replaced = {change.name: (change.replaces, change.version) for change in changes if change.replaces}
        return Solution(self._scratch / "pylock.toml", replaced)

    def _plan(self, options: Sequence[str]) -> Solution:
        """Resolve with the versions that a lock names; without them where they were only preferred."""
        self._progress.say("plan", "Resolving " + ", ".join(self._order.extras))
        order = self._order
        wished = order.lock.pins if order.lock else dict(pin.split("==", 1) for pin in order.preferred)
        try:
            return self._held(wished, options)
        except ResolutionFailed as error:
            waits = not self._builds and order.source_builds != "never" and _wants_source(error)
            if not order.preferred or waits:
                raise
        self._progress.say("plan", "The versions of juv's lock do not fit here: resolving without them")
        return self._held({}, options)

    def _held(self, wished: Mapping[str, str], options: Sequence[str]) -> Solution:
        """Hold every base package first; let go of the replaceable ones only where that fails.

        ``wished`` are versions to hold whatever the base has, but for what is fixed.
        """
        from .exact import same_public

        base = self._order.manifest
        have = base.distributions
        others = {
            name: version
            for name, version in wished.items()
            if name not in base.fixed and not (name in have and same_public(have[name], version))
        }
        roots = tuple(have) if set(others) & set(have) else ()
        try:
            return self._resolve({**have, **others}, roots, options)
        except ResolutionFailed:
            if self._order.pins == "all":
                raise
        fixed = {name: version for name, version in have.items() if name in base.fixed}
        return self._resolve({**fixed, **others}, tuple(have), options)

    def _resolve(self, pins: Mapping[str, str], roots: Sequence[str], options: Sequence[str]) -> Solution:
        order = self._order
        wanted = self._file("wanted.txt", [*order.extras, *roots])
        held = self._file("held.txt", [f"{name}=={version}" for name, version in pins.items()])
        from ..router import Router

        with Router(order.upstream, order.manifest.fixed, timeout=self._uv.page_timeout) as router:
            common = [
                *self._uv.index_options(router.url), *order.index_options, "--build-constraints", str(held),
                *options,
            ]  # fmt: skip
            try:
                changes = self._uv.plan(self._python, wanted, ["-c", str(held), *common])
                replaced = audit.audit_plan(changes, order.manifest, pins=order.pins)
                pinned = self._file("pins.txt", [f"{change.name}=={change.version}" for change in changes])
                lock = self._scratch / "pylock.toml"
                text = router.real(self._uv.lock(self._python, pinned, lock, common))
            except OverlayError as error:
                raise retold(error, order, router, order.extras) from error
            audit.audit_origin(uv.locked_packages(text), order.manifest.tag, order.upstream)
        lock.write_text(text, encoding="utf-8")
        return Solution(lock, {change.name: (change.replaces, change.version) for change in replaced})

    def _older_for_want_of_wheels(self, solution: Solution) -> str:
        """Why an extra was taken in an old version, where it is for want of wheels; else nothing.

        uv goes back in time until it finds a version that has a wheel, and that needs nothing
        without one, which nobody would expect (hydra-core 0.11 instead of 1.3). The names alone,
        without their dependencies, tell the newest versions; asking for one of them tells what
        is in its way, which may also be the base. These look-ups build nothing.
        """
        planned = locked_versions(solution.lock.read_text(encoding="utf-8"))
        order = self._order
        held = ["-c", str(self._scratch / "held.txt"), *order.index_options]
        from ..router import Router

        with Router(order.upstream, order.manifest.fixed, timeout=self._uv.page_timeout) as router:
            options = [*self._uv.index_options(router.url), *held]
            try:
                newest = self._newest(self._file("names.txt", order.extras), ["--no-deps", *options])
            except OverlayError:
                return ""
            for name, version in newest.items():
                if planned.get(name, version) == version:
                    continue
                wanted = self._file("newest.txt", [*order.extras, f"{name}=={version}"])
                try:
                    self._uv.plan(self._python, wanted, ["--no-build", *options])
                except ResolutionFailed as error:
                    if _wants_source(error):
                        return router.real(error.why)
                except OverlayError:
                    continue
        return ""

    def _newest(self, names: Path, options: Sequence[str]) -> dict[str, str]:
        """Name → newest version of the requirements in the file ``names``."""
        done = self._uv.run(
            "pip", "compile", "-q", "--no-header", "--no-annotate", "--python", self._python, names, *options
        )
        lines = done.check("the newest versions are not known").stdout.splitlines()
        return dict(line.split("==", 1) for line in lines if "==" in line)

    def _wait(self, why: str) -> None:
        self._progress.say(WAITS_FOR_CELL, "Source builds run code: they start with the first cell", why=why)

    def _file(self, name: str, lines: Sequence[str]) -> Path:
        path = self._scratch / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path


def retold(error: OverlayError, order: Order, router: Router, extras: Sequence[str]) -> OverlayError:
    """A failed resolution in the words of the notebook: its extras, its base, and what would help."""
    base = order.manifest
    if router.failures and not isinstance(error, ResolutionFailed):
        return InstallFailed(
            "the extras need "
            + ", ".join(sorted(router.failures))
            + f", which could not be looked up for {base.tag}",
            why="\n".join(router.failures.values()),
            fix="check the network, or set TorchOverlay.index_template to a mirror that can be reached",
        )
    if isinstance(error, ResolutionFailed) and not error.fix:  # uv's; the audit has its own words
        more = f" and {len(extras) - _NAMED} more" if len(extras) > _NAMED else ""
        named = ", ".join(extras[:_NAMED]) + more
        return ResolutionFailed(
            f"the extras {named} do not fit on {base.id} (torch {base.torch})",
            why="\n".join([router.real(error.why), *router.failures.values()]),
            fix="change what the reason names, in the notebook's metadata or with\n"
            "  jupyter overlay add NOTEBOOK PKG\n"
            "then restart the kernel; or choose one of another base, listed by\n"
            "  jupyter overlay base list",
        )
    return type(error)(error.what, why=router.real(error.why), fix=error.fix)


def locked_versions(lock: str) -> dict[str, str]:
    """Name → version of a lock's packages."""
    return {entry["name"]: str(entry.get("version", "")) for entry in uv.locked_packages(lock)}


def _wants_source(error: ResolutionFailed) -> bool:
    """Whether a resolution failed only because building from source was not allowed."""
    text = error.why
    return any(
        words in text
        for words in ("no usable wheels", "no wheels", "building source distributions", "Building source")
    )


def _replacements(versions: Mapping[str, str], base: BaseManifest) -> dict[str, tuple[str, str]]:
    have = base.distributions
    return {name: (have[name], version) for name, version in versions.items() if name in have}
