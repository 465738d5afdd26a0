"""From an order to a solution: which packages, in which versions, from where, with which hashes.

Before the user has run a cell uv resolves wheels only. What needs a build from source waits for
the first cell.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .. import uv
from ..accelerators import ECOSYSTEM
from ..errors import InstallFailed, OverlayError, ResolutionFailed
from ..files import replace_text
from ..inkernel.packages import named_in
from ..manifest import BaseManifest
from ..overlay import store
from ..policy.rules import url_in
from . import audit
from .order import Order
from .progress import WAITS_FOR_CELL, Progress

if TYPE_CHECKING:
    from ..router import Router  # a web server, which a known lock never needs

_Found = TypeVar("_Found")
_NAMED = 8  # extras that a message names; a notebook may declare hundreds


class Solution(NamedTuple):
    """A lock to install, the versions of the packages that it names, and what it does to the base's."""

    lock: Path
    versions: Mapping[str, str]
    replaced: Mapping[str, tuple[str, str]]  # name → base's version, overlay's version

    @property
    def packages(self) -> Sequence[Mapping[str, Any]]:
        """The packages of the lock, as PEP 751 has them: for rare questions, since reading takes its time."""
        return uv.locked_packages(self.lock.read_text(encoding="utf-8"))


class Solver:
    """Finds what an order's extras need on its base.

    ``builds``: source builds are allowed, because the user has run a cell and the policy lets them.
    ``scratch`` is a directory for its files, which the solution's lock lies in.
    """

    def __init__(
        self, order: Order, root: store.Store, progress: Progress, scratch: Path, *, builds: bool
    ) -> None:
        self._order, self._root, self._progress, self._scratch = order, root, progress, scratch
        self._builds = builds
        self._uv = order.uv
        self._python = order.python
        self._open = contextlib.ExitStack()
        self._routing: Router | None = None
        self._newest: Mapping[str, str] = {}

    def solve(self, *, anew: bool = False) -> Solution | None:
        """A known lock of the same order, or a new one; None where only a cell's consent is missing.

        ``anew``: whatever is known. Raises NotAllowed where the policy forbids what it comes to. To be
        called once.
        """
        with self._open:
            return self._known_or_new(anew=anew)

    def _known_or_new(self, *, anew: bool) -> Solution | None:
        policy = self._order.policy
        policy.refuse_extras(self._order.extras, self._order.manifest.distributions)
        kept = self._root.lock_path(self._order.key)
        if not anew and (solution := self._known(kept)):
            self._judge(solution)
            self._progress.say("install", "Installing a known set of packages")
            return solution
        waits = policy.builds and not self._builds  # a cell's consent may let more in
        try:
            solution = self._solved()
        except ResolutionFailed as error:
            if waits and wants_source(error):
                self._wait(error.why)
                return None
            base = self._order.manifest.distributions
            raise policy.explained(error, wants_source=wants_source(error), base=base) from error
        except InstallFailed as error:  # a lock that leaves nothing to resolve
            raise policy.explained(error, wants_source=False) from error
        if waits and not self._order.exact and (why := self._older_for_want_of_wheels(solution)):
            self._wait(why)
            return None
        self._judge(solution)
        kept.parent.mkdir(mode=0o700, exist_ok=True)
        replace_text(kept, solution.lock.read_text(encoding="utf-8"), mode=0o600, durable=False)
        return solution

    def _judge(self, solution: Solution) -> None:
        """Raise NotAllowed where the policy does not let all of a solution in."""
        policy = self._order.policy
        policy.refuse_plan(list(solution.versions), self._order.extras)
        if policy.max_bytes is not None:
            count = _bytes_to_fetch(solution.packages)
            policy.refuse_bytes(count, "the extras are downloads of at least")

    def _solved(self) -> Solution:
        """A new solution; of packages of which only some may be built, with as many wheels as will do."""
        order = self._order
        find = self._exact if order.exact else self._plan
        if not (self._builds and order.policy.buildable):
            return find(order.build_options(builds=self._builds))
        solution = with_least_built(order, find)
        why = "" if order.exact else self._older_for_want_of_wheels(solution)
        wanting = _named(order.policy.buildable, why)
        if not wanting:
            return solution
        kept = solution.lock.rename(self._scratch / "pylock.wheels.toml")
        try:
            return with_least_built(order, find, wanting)
        except ResolutionFailed:
            return solution._replace(lock=kept)

    def _known(self, kept: Path) -> Solution | None:
        try:
            text = kept.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:  # never resolved, or taken away by a builder that it failed
            return None
        packages = uv.locked_packages(text)
        if not packages:
            return None
        lock = self._scratch / "pylock.toml"
        lock.write_text(text, encoding="utf-8")
        versions = _versions_of(packages)
        return Solution(lock, versions, _replacements(versions, self._order.manifest))

    def _exact(self, options: Sequence[str]) -> Solution:
        """What the notebook's lock adds to the base; nothing is resolved."""
        assert self._order.exact is not None
        self._progress.say("plan", "Looking up the packages of the notebook's lock")
        from .exact import pick

        changes = pick(self._order, self._order.exact, self._uv, self._scratch, options)
        return _solution(self._scratch / "pylock.toml", changes)

    def _plan(self, options: Sequence[str]) -> Solution:
        """Resolve with the versions that a lock names; without them where they were only preferred."""
        self._progress.say("plan", "Resolving " + ", ".join(self._order.extras))
        order = self._order
        wished = order.lock.pins if order.lock else dict(pin.split("==", 1) for pin in order.preferred)
        try:
            return self._held(wished, options)
        except ResolutionFailed as error:
            waits = not self._builds and order.policy.builds and wants_source(error)
            if not order.preferred or waits:
                raise
        self._progress.say("plan", "The versions of juv's lock do not fit here: resolving without them")
        return self._held({}, options)

    def _held(self, wished: Mapping[str, str], options: Sequence[str]) -> Solution:
        """Hold every base package first; let go of the replaceable ones only where that fails.

        ``wished`` are versions to hold whatever the base has, but for what is fixed.
        """
        base = self._order.manifest
        have = base.distributions
        others = _beyond(base, wished) if wished else {}
        roots = tuple(have) if set(others) & set(have) else ()
        try:
            return self._resolve({**have, **others}, roots, options)
        except ResolutionFailed:
            if self._order.policy.pins == "all":
                raise
        fixed = {name: version for name, version in have.items() if name in base.fixed}
        return self._resolve({**fixed, **others}, tuple(have), options)

    def _resolve(self, pins: Mapping[str, str], roots: Sequence[str], options: Sequence[str]) -> Solution:
        order = self._order
        wanted = self._file("wanted.txt", [*order.extras, *roots])
        held = self._file("held.txt", [f"{name}=={version}" for name, version in pins.items()])
        router = self._router
        sources = [*self._uv.index_options(router.url), *order.index_options]
        common = [*sources, "--build-constraints", str(held), *options]
        try:
            changes = self._uv.plan(self._python, wanted, ["-c", str(held), *common])
            audit.audit_plan(changes, order.manifest, pins=order.policy.pins)
            pinned = self._file("pins.txt", pins_of(changes, order.extras))
            lock = self._scratch / "pylock.toml"
            listed = functools.partial(self._list, changes, pinned, common)
            text = router.real(self._uv.lock(self._python, pinned, lock, common, listed=listed))
        except OverlayError as error:
            raise retold(error, order, router, order.extras) from error
        lock.write_text(text, encoding="utf-8")
        solution = _solution(lock, changes)
        if not ECOSYSTEM.isdisjoint(solution.versions):
            audit.audit_origin(solution.packages, order.manifest.tag, order.upstream)
        return solution

    def _list(
        self, changes: Sequence[uv.Change], pinned: Path, options: Sequence[str]
    ) -> dict[str, uv.Listed]:
        """Where the changes come from; and the newest versions of the extras, where these matter.

        Both in one look-up, as long as each extra is there in its newest version.
        """
        policy = self._order.policy
        if not policy.builds or (self._builds and not policy.buildable):
            return self._uv.list_alone(self._python, pinned, options)
        declared = {named_in(extra) for extra in self._order.extras}
        others = [f"{change.name}=={change.version}" for change in changes if change.name not in declared]
        listed: dict[str, uv.Listed] = {}
        with contextlib.suppress(OverlayError):
            names = self._file("names.txt", [*self._order.extras, *others])
            listed = self._uv.list_alone(self._python, names, self._look_up_options)
        self._newest = {name: found.version for name, found in listed.items() if name in declared}
        if all(change.name in listed and listed[change.name].version == change.version for change in changes):
            return listed
        return self._uv.list_alone(self._python, pinned, options)

    def _older_for_want_of_wheels(self, solution: Solution) -> str:
        """Why an extra was taken in an old version, where it is for want of wheels; else nothing.

        uv goes back in time until it finds a version that has a wheel, and that needs nothing
        without one, which nobody would expect (hydra-core 0.11 instead of 1.3). The names alone,
        without their dependencies, tell the newest versions; asking for one of them tells what
        is in its way, which may also be the base. These look-ups build nothing.
        """
        for name, version in self._newest.items():
            if solution.versions.get(name, version) == version:
                continue
            wanted = self._file("newest.txt", [*self._order.extras, f"{name}=={version}"])
            try:
                self._uv.plan(self._python, wanted, ["--no-build", *self._look_up_options])
            except ResolutionFailed as error:
                if wants_source(error):
                    return self._router.real(error.why)
            except OverlayError:
                continue
        return ""

    @property
    def _look_up_options(self) -> list[str]:
        sources = [*self._uv.index_options(self._router.url), *self._order.index_options]
        return ["-c", str(self._scratch / "held.txt"), *sources]

    @property
    def _router(self) -> Router:
        """PyTorch's packages from PyTorch's index, from the first look-up to the end of ``solve``."""
        if self._routing is None:
            from ..router import Router

            order = self._order
            router = Router(order.upstream, order.manifest.fixed, timeout=self._uv.page_timeout)
            self._routing = self._open.enter_context(router)
        return self._routing

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


def with_least_built(
    order: Order, find: Callable[[list[str]], _Found], built: frozenset[str] = frozenset()
) -> _Found:
    """What ``find``, given uv's options, finds when few of the packages that may be built are built.

    Where all others must be wheels, uv takes no wheel of a package that it may build. So one may be
    ``built`` only once a failure names it, and all of them where a failure names none.
    """
    while True:
        try:
            return find(order.build_options(built, builds=True))
        except ResolutionFailed as error:  # noqa: PERF203 - as often as there are packages to build
            more = frozenset(order.policy.buildable or ()) - built
            if not more or not wants_source(error):
                raise
            built |= _named(more, error.why) or more


def _named(names: Iterable[str], text: str) -> frozenset[str]:
    return frozenset(name for name in names if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text))


def _beyond(base: BaseManifest, wished: Mapping[str, str]) -> dict[str, str]:
    """The wished versions that are not the base's, but for what is fixed in every overlay."""
    from .exact import same_public

    have = base.distributions
    return {
        name: version
        for name, version in wished.items()
        if name not in base.fixed and not (name in have and same_public(have[name], version))
    }


def pins_of(changes: Sequence[uv.Change], extras: Sequence[str]) -> list[str]:
    """What fixes exactly these changes: versions, or the address that an extra names."""
    urls = {named_in(extra): url for extra in extras if (url := url_in(extra))}
    return [
        f"{change.name} @ {urls[change.name]}" if change.name in urls else f"{change.name}=={change.version}"
        for change in changes
    ]


def _bytes_to_fetch(packages: Sequence[Mapping[str, Any]]) -> int:
    """The least that a lock's files come to, as far as the indexes say how large they are."""
    total = 0
    for package in packages:
        files = package.get("wheels") or [package.get("sdist") or package.get("archive") or {}]
        total += min(int(file.get("size", 0)) for file in files)
    return total


def _versions_of(packages: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Name → version of a lock's packages."""
    return {entry["name"]: str(entry.get("version", "")) for entry in packages}


def _solution(lock: Path, changes: Sequence[uv.Change]) -> Solution:
    versions = {change.name: change.version for change in changes}
    replaced = {change.name: (change.replaces, change.version) for change in changes if change.replaces}
    return Solution(lock, versions, replaced)


def wants_source(error: ResolutionFailed) -> bool:
    """Whether a resolution failed only because building from source was not allowed."""
    text = error.why
    return any(
        words in text
        for words in ("no usable wheels", "no wheels", "building source distributions", "Building source")
    )


def _replacements(versions: Mapping[str, str], base: BaseManifest) -> dict[str, tuple[str, str]]:
    have = base.distributions
    return {name: (have[name], version) for name, version in versions.items() if name in have}
