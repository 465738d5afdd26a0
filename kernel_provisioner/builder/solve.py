"""From an order to a solution: which packages, in which versions, from where, with which hashes.

Before the user has run a cell uv resolves wheels only. What needs a build from source waits for
the first cell.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InstallFailed, OverlayError, ResolutionFailed
from ..inkernel.shared.packages import named_in
from ..model.accelerators import ECOSYSTEM, is_accelerator_library
from ..policy.rules import url_in
from ..uv import client
from ..uv.messages import Search, wants_newer, wants_source
from . import audit
from .least_built import named_among, with_least_built
from .progress import WAITS_FOR_CELL, Progress
from .retold import retold
from .solution import Solution, bytes_to_fetch, known_solution, without_wheel
from .spec import BuildSpec

if TYPE_CHECKING:
    from ..index.pytorch import Router  # a web server, which a known lock never needs


class Solver:
    """Finds what an order's extras need on its base.

    ``builds``: source builds are allowed, because the user has run a cell and the policy lets them.
    ``scratch`` is a directory for its files, which the solution's lock lies in.
    """

    def __init__(self, spec: BuildSpec, progress: Progress, scratch: Path, *, builds: bool) -> None:
        self._spec, self._progress, self._scratch = spec, progress, scratch
        self._builds = builds
        self._uv = spec.uv
        self._python = spec.python
        self._open = contextlib.ExitStack()
        self._routing: Router | None = None
        self._search = Search()
        self._newest: Mapping[str, str] = {}

    def solve(self, *, upgrade: bool = False) -> Solution | None:
        """What is known of the same order, or a new solution; None where only a cell's consent is missing.

        ``upgrade``: whatever is known. Raises NotAllowed where the policy forbids what it comes to. To be
        called once.
        """
        with self._open:
            return self._known_or_new(upgrade=upgrade)

    def _known_or_new(self, *, upgrade: bool) -> Solution | None:
        policy = self._spec.policy
        policy.refuse_extras(self._spec.extras, self._spec.manifest.distributions)
        waits = policy.builds and not self._builds  # a cell's consent may let more in
        kept = None if upgrade else known_solution(self._spec.known, self._spec.manifest, self._scratch)
        if kept is not None:
            solution, packages = kept
            self._judge(solution)
            if waits and (names := without_wheel(packages)):
                self._wait(f"there is no wheel of {', '.join(names)}")
                return None
            self._progress.say("install", "Installing a known set of packages")
            return solution
        try:
            solution = self._solved()
        except ResolutionFailed as error:
            if waits and wants_source(error):
                self._wait(error.why)
                return None
            base = self._spec.manifest.distributions
            source, newer = wants_source(error), wants_newer(error)
            raise policy.explained(error, wants_source=source, wants_newer=newer, base=base) from error
        except InstallFailed as error:  # a lock that leaves nothing to resolve
            raise policy.explained(error, wants_source=False, wants_newer=wants_newer(error)) from error
        if waits and not self._spec.exact and (why := self._older_for_want_of_wheels(solution)):
            self._wait(why)
            return None
        by_address = any(map(url_in, self._spec.extras))
        if waits and by_address and (names := without_wheel(solution.packages)):
            self._wait(f"there is no wheel of {', '.join(names)}")
            return None
        self._judge(solution)
        return solution

    def _judge(self, solution: Solution) -> None:
        """Raise NotAllowed where the policy does not let all of a solution in."""
        policy = self._spec.policy
        policy.refuse_plan(list(solution.versions), self._spec.extras)
        if policy.max_bytes is not None:
            count = bytes_to_fetch(solution.packages)
            policy.refuse_bytes(count, "the extras are downloads of at least")

    def _solved(self) -> Solution:
        """A new solution; of packages of which only some may be built, with as many wheels as will do."""
        spec = self._spec
        find = self._exact if spec.exact else self._plan
        if not (self._builds and spec.policy.buildable):
            return find(spec.build_options(builds=self._builds))
        solution = with_least_built(spec, find)
        why = "" if spec.exact else self._older_for_want_of_wheels(solution)
        wanting = named_among(spec.policy.buildable, why)
        if not wanting:
            return solution
        kept = solution.lock.rename(self._scratch / "pylock.wheels.toml")
        try:
            return with_least_built(spec, find, wanting)
        except ResolutionFailed:
            return solution._replace(lock=kept)

    def _exact(self, options: Sequence[str]) -> Solution:
        """What the notebook's lock adds to the base; nothing is resolved."""
        assert self._spec.exact is not None
        self._progress.say("plan", "Looking up the packages of the notebook's lock")
        from .from_lock import pick

        changes = pick(self._spec, self._spec.exact, self._uv, self._scratch, options)
        if self._spec.local:
            changes += self._sources_beside(self._scratch / "pylock.toml", options)
        return Solution.of(self._scratch / "pylock.toml", changes)

    def _sources_beside(self, lock: Path, options: Sequence[str]) -> list[client.Change]:
        """Put into ``lock`` what comes from sources on this machine, which no notebook's lock holds."""
        wheels = self._file("sources.txt", self._spec.local)
        text = self._uv.lock(self._python, wheels, options, indexes=False)
        entries = text[text.index("[[packages]]") :]
        before = lock.read_text(encoding="utf-8").replace("packages = []\n", "")
        lock.write_text(f"{before}\n{entries}", encoding="utf-8")
        have = self._spec.manifest.distributions
        return [
            client.Change(package["name"], str(package.get("version", "")), have.get(package["name"], ""))
            for package in client.locked_packages(text)
        ]

    def _plan(self, options: Sequence[str]) -> Solution:
        """Resolve with the versions that a lock names; without them where they were only preferred."""
        self._progress.say("plan", "Resolving " + ", ".join(self._spec.extras))
        spec = self._spec
        wished = spec.lock.pins if spec.lock else dict(pin.split("==", 1) for pin in spec.preferred)
        try:
            return self._resolve(wished, options)
        except ResolutionFailed as error:
            waits = not self._builds and spec.policy.builds and wants_source(error)
            if not spec.preferred or waits:
                raise
        self._progress.say("plan", "juv's locked versions do not fit here: resolving without them")
        return self._resolve({}, options)

    def _resolve(self, wished: Mapping[str, str], options: Sequence[str]) -> Solution:
        """The versions of a private environment: what is fixed is held, the rest of the base is preferred.

        ``wished`` are versions to hold whatever the base has, but for what is fixed.
        """
        spec, base = self._spec, self._spec.manifest
        router = self._router
        fixed = base.distributions.keys() if spec.policy.pins == "all" else spec.fixed
        held = {name: base.distributions[name] for name in fixed} | self._beyond(wished)
        common = [*spec.index_options, *options]
        stack = self._file("stack.txt", _pins({name: base.distributions[name] for name in base.fixed}))
        common += ["--build-constraints", str(stack)]
        try:
            changes = self._changes(held, common)
            audit.audit_plan(changes, base, fixed=spec.fixed, pins=spec.policy.pins)
            pinned = self._file("pins.txt", pins_of(changes, spec.wanted))
            lock = self._scratch / "pylock.toml"
            listed = functools.partial(self._list, changes, pinned, common)
            text = router.real(self._asking.lock(self._python, pinned, common, listed=listed))
        except OverlayError as error:
            raise retold(error, spec, router, spec.extras, self._look_up) from error
        lock.write_text(text, encoding="utf-8")
        solution = Solution.of(lock, _with_versions(changes, text))
        if not ECOSYSTEM.isdisjoint(solution.versions):
            audit.audit_origin(solution.packages, base.tag, spec.upstream)
        if any(map(is_accelerator_library, solution.versions)):
            from .libraries import audit_libraries

            wanted, bound = self._scratch / "wanted.txt", ["-c", str(pinned), *common]
            needed_by = functools.partial(self._asking.needed_by, self._python, wanted, bound)
            audit_libraries(solution.packages, base, spec.extras, needed_by)
        return solution

    def _changes(self, held: Mapping[str, str], options: Sequence[str]) -> list[client.Change]:
        """What the extras add to the base, and replace of it.

        uv takes a version that is installed for one to prefer. It does not ask what else needs a package
        that it replaces. So all of the base is asked for, too, wherever one is: first with the versions
        that were found, which mostly goes well.
        """
        extras, base = self._spec.wanted, self._spec.manifest.distributions
        bound = ["-c", str(self._file("held.txt", _pins(held))), *options]
        changes = self._planned(self._file("wanted.txt", extras), bound)
        if self._search.backtracked:
            changes = self._as_privately(changes, bound)
        if not any(change.replaces for change in changes):
            return changes
        everything = self._file("everything.txt", [*extras, *base])
        found = self._file("found.txt", [pin for pin in pins_of(changes, extras) if " @ " not in pin])
        with contextlib.suppress(ResolutionFailed):
            return self._planned(everything, ["-c", str(found), *bound])
        return self._planned(everything, bound)

    def _planned(self, wanted: Path, options: Sequence[str]) -> list[client.Change]:
        def hear(search: Search) -> None:
            self._search = self._search.joined(search)

        return self._asking.plan(self._python, wanted, options, told=hear)

    def _as_privately(self, changes: list[client.Change], bound: Sequence[str]) -> list[client.Change]:
        """``changes``, in the versions that a private environment gets of what the base does not hold.

        Where one of two packages has to be older, uv's choice depends on the order in which it learns of
        packages, and so on torch being asked for, and on the base. So a private environment is asked about.
        """
        base = self._spec.manifest.distributions
        asked = self._file("private.txt", [*self._spec.wanted, *_pins({"torch": base["torch"]})])
        with contextlib.suppress(OverlayError):
            found = self._asking.list_all(self._python, asked, bound)
            private = {name: listed.version for name, listed in found.items() if name not in base}
            if any(private.get(change.name, change.version) != change.version for change in changes):
                pins = self._file("privately.txt", _pins(private))
                return self._planned(self._scratch / "wanted.txt", ["-c", str(pins), *bound])
        return changes

    def _beyond(self, wished: Mapping[str, str]) -> dict[str, str]:
        """The wished versions that are not the base's, but for what is fixed in every overlay."""
        if not wished:
            return {}
        from .from_lock import same_public

        have = self._spec.manifest.distributions
        return {
            name: version
            for name, version in wished.items()
            if name not in self._spec.fixed and not (name in have and same_public(have[name], version))
        }

    def _list(
        self, changes: Sequence[client.Change], pinned: Path, options: Sequence[str]
    ) -> dict[str, client.Listed]:
        """Where the changes come from; and the newest versions of what uv has passed over on the way.

        Both in one look-up where these are none but those that were taken in the end.
        """
        policy, passed = self._spec.policy, self._search.passed_over
        if not passed or not policy.builds or (self._builds and not policy.buildable):
            return self._asking.list_alone(self._python, pinned, options)
        apart = {*passed, *(named_in(extra) for extra in self._spec.wanted if url_in(extra))}
        others = [change for change in changes if change.name not in apart]
        asked = [f"{name}{within}" for name, within in passed.items()]
        listed = self._newest_of([*asked, *pins_of(others, ())])
        for one in () if listed else asked:  # of one there may be nothing that could be installed here
            listed |= self._newest_of([one])
        self._newest = {name: listed[name].version for name in passed if name in listed}
        if all(change.name in listed and listed[change.name].version == change.version for change in changes):
            return listed
        return self._asking.list_alone(self._python, pinned, options)

    def _newest_of(self, requirements: Sequence[str]) -> dict[str, client.Listed]:
        """The newest version of each, wheel or not; nothing where uv does not find all of them."""
        with contextlib.suppress(OverlayError):
            return self._look_up(requirements)
        return {}

    def _look_up(self, requirements: Sequence[str]) -> dict[str, client.Listed]:
        names = self._file("names.txt", requirements)
        return self._asking.list_alone(self._python, names, self._look_up_options)

    def _older_for_want_of_wheels(self, solution: Solution) -> str:
        """Why a package was taken in an old version, where it is for want of wheels; else nothing.

        uv goes back in time until it finds a version that has a wheel, and that needs nothing
        without one, which nobody would expect (hydra-core 0.11 instead of 1.3, or a pre-release). So of what
        it passed over the newest version in its range is looked up by itself, and whether that has a wheel.
        These look-ups build nothing.
        """
        have = {**self._spec.manifest.distributions, **solution.versions}
        doubtful = {
            name: version
            for name, version in self._newest.items()
            if name not in have or _is_older(have[name], version)
        }
        if not doubtful:
            return ""
        wanted = self._file("newest.txt", _pins(doubtful))
        try:
            self._asking.list_alone(self._python, wanted, ["--no-build", *self._look_up_options])
        except ResolutionFailed as error:
            return self._router.real(error.why) if wants_source(error) else ""
        except OverlayError:
            return ""
        return ""

    @property
    def _look_up_options(self) -> list[str]:
        return ["-c", str(self._scratch / "held.txt"), *self._spec.index_options]

    @property
    def _asking(self) -> client.Uv:
        """uv, with PyTorch's packages from PyTorch's index."""
        return self._uv.at(self._router.url, str(self._spec.base.receipts))

    @property
    def _router(self) -> Router:
        """PyTorch's packages from PyTorch's index, from the first look-up to the end of ``solve``."""
        if self._routing is None:
            from ..index.pytorch import Router

            spec = self._spec
            router = Router(spec.upstream, spec.manifest.fixed, timeout=self._uv.page_timeout)
            self._routing = self._open.enter_context(router)
        return self._routing

    def _wait(self, why: str) -> None:
        self._progress.say(WAITS_FOR_CELL, "Source builds run code: they start with the first cell", why=why)

    def _file(self, name: str, lines: Sequence[str]) -> Path:
        path = self._scratch / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path


def _is_older(version: str, other: str) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(version) < Version(other)
    except InvalidVersion:  # in an environment that was adopted
        return version != other


def _with_versions(changes: Sequence[client.Change], lock: str) -> Sequence[client.Change]:
    """``changes`` with the versions that a lock tells of what comes from a repository."""
    if all(change.version for change in changes):
        return changes
    known = {package["name"]: str(package.get("version", "")) for package in client.locked_packages(lock)}
    return [change._replace(version=change.version or known.get(change.name, "")) for change in changes]


def _pins(versions: Mapping[str, str]) -> list[str]:
    return [f"{name}=={version}" for name, version in versions.items()]


def pins_of(changes: Sequence[client.Change], extras: Sequence[str]) -> list[str]:
    """What fixes exactly these changes: versions, or the address that an extra names."""
    urls = {named_in(extra): url for extra in extras if (url := url_in(extra))}
    return [
        f"{change.name} @ {urls[change.name]}" if change.name in urls else f"{change.name}=={change.version}"
        for change in changes
    ]
