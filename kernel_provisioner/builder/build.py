"""Solve, install, verify, publish.

Before the user has run a cell nothing here runs code of a package that the notebook names: uv
unpacks wheels into a staging directory that no interpreter looks at.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import BuildFailed, InstallFailed, OverlayError
from ..inkernel.shared import layout
from ..inkernel.shared.packages import named_in
from ..overlay import store
from ..overlay.guards import Terms, give_way_to_uv
from ..overlay.skeleton import remove_tree, site_packages, write_receipts
from ..policy.rules import url_in
from ..store import fill
from ..store.entry import bytes_of
from ..system import os_errors
from ..system.background import Aside
from ..system.files import write_new
from ..system.pause_points import pause
from ..uv.discovery import uv_path
from ..uv.messages import system_errors
from . import processors
from .progress import Progress
from .solution import Solution
from .solve import Solver
from .spec import BuildSpec
from .stage import Installed, readdress, verify
from .supply import entries_in, lay, make_room
from .unpack import unpack

if TYPE_CHECKING:
    from .consistency import Distribution


class Staged(NamedTuple):
    """What is in staging, and the solution that it came from; ``later``: see ``supply.Supply``."""

    solution: Solution
    installed: list[Installed]
    later: frozenset[str] = frozenset()


def build(spec: BuildSpec, progress: Progress, *, cell_ran: bool) -> bool:
    """Build and publish the overlay; False where it has to wait for the user's first cell.

    Raises OverlayError with cause and fix; then nothing is published.
    """
    started = time.monotonic()
    spec = spec._replace(begun=started)
    builds = cell_ran and spec.policy.builds
    if spec.exact is None:
        spec.policy.refuse_unlocked()
    with scratch_of(spec.generation) as scratch, fill.held(spec.wheels):
        found = solve_and_install(spec, progress, scratch, builds=builds, beside_kernel=not cell_ran)
        if found is None:
            return False
        pause("verified")
        spec.refuse_late()
        _publish(spec, found, time.monotonic() - started)
        added = len(found.installed)
        progress.say("ready", f"{added} package{'s' * (added != 1)} added", total=added)
        found.solution.keep(spec.known)
    return True


def solve_and_install(
    spec: BuildSpec,
    progress: Progress,
    scratch: Path,
    *,
    builds: bool,
    upgrade: bool = False,
    beside_kernel: bool = False,
) -> Staged | None:
    """What is in staging then; None where that waits for a cell.

    What is known of an earlier build is a short cut: where it leads nowhere (the index has moved, its
    credentials have changed, the cache was emptied), all is looked up as if nothing were known, which is
    what ``upgrade`` asks for at once. ``beside_kernel``: a kernel is starting, and needs a processor.
    """
    with processors.one_left() if beside_kernel else contextlib.nullcontext():
        solution = Solver(spec, progress, scratch, builds=builds).solve(upgrade=upgrade)
    if solution is None:
        return None
    if spec.adds and not solution.versions:
        return Staged(solution, [])
    pause("planned")
    try:
        installed, later = _install(spec, solution, progress, scratch, builds=builds)
        return Staged(solution.only([package["name"] for package in installed]), installed, later)
    except InstallFailed as error:
        if not solution.known:
            raise _told(error, spec, solution) from error
    return solve_and_install(
        spec, progress, scratch, builds=builds, upgrade=True, beside_kernel=beside_kernel
    )


def _told(error: InstallFailed, spec: BuildSpec, solution: Solution) -> InstallFailed:
    if spec.exact:
        from .from_lock import naming_files

        return naming_files(error, spec.exact)
    what = error.what + os_errors.needed(system_errors(error.why), solution.packages)
    return type(error)(what, why=error.why, fix=error.fix)


@contextlib.contextmanager
def scratch_of(generation: store.Generation) -> Iterator[Path]:
    """A directory for the files of one build, which nobody else looks at: the builder's lock is held.

    Not by ``tempfile``, see ``files``; and gone only once the overlay is published, which a cell waits for.
    """
    scratch = generation.path / layout.SCRATCH
    remove_tree(scratch)  # one who was killed has left it
    scratch.mkdir(mode=0o700)
    try:
        yield scratch
    finally:
        remove_tree(scratch)


def _write_receipts(spec: BuildSpec) -> None:
    """What installers need of the overlay; not written by the launch, for the kernel needs none of it."""
    terms = Terms(spec.policy, spec.index_template)
    write_receipts(spec.generation.path, spec.base, terms, uv=uv_path())
    pause("laid out")


def _install(
    spec: BuildSpec, solution: Solution, progress: Progress, scratch: Path, *, builds: bool
) -> tuple[list[Installed], frozenset[str]]:
    """Lay the lock's packages into staging, check every file, and name what is there.

    And what of that the store is to have later; of these only names and sizes are checked, see ``behind``.
    """
    staging = spec.generation.path / layout.STAGING
    progress.say("install", "Installing")
    receipts = Aside(lambda: _write_receipts(spec))  # while uv unpacks, which takes longer
    try:
        supplied = unpack(spec, solution, progress, scratch, builds=builds, fills=not spec.provisional)
        lay(spec, supplied, staging, solution.replaced)
        receipts.result()
    except BaseException as error:
        with contextlib.suppress(OSError):
            receipts.result()
        if isinstance(error, OSError) and (lack := os_errors.lack_of(error, spec.generation.path)):
            what = f"the packages could not be installed: {lack.what}"
            raise InstallFailed(what, why=lack.why, fix=lack.fix) from error
        raise
    if spec.policy.max_bytes is not None:
        what = "the overlay would come to" if spec.adds else "the extras are, unpacked,"
        own = spec.generation.path.glob("lib/python*/site-packages") if spec.adds else ()
        linked = {*entries_in(staging), *(entries_in(spec.generation.path) if spec.adds else ())}
        weight = bytes_in(staging) + sum(map(bytes_in, own)) + sum(map(bytes_of, linked))
        spec.policy.refuse_bytes(weight, what)
    pause("unpacked")
    progress.say("verify", "Checking every file")
    installed = verify(
        staging,
        spec.manifest,
        solution.versions,
        solution.replaced,
        spec.root / store.CHECKED,
        supplied.names | supplied.later,
        _imported_from(spec),
    )
    make_room(spec, supplied, staging, solution.replaced)
    readdress(staging, spec.python, spec.generation.python)
    if not spec.adds and any(package["name"] == "uv" for package in installed):
        give_way_to_uv(spec.generation.path, site_packages(spec.generation.path))
    return (_whole(spec, installed, progress) if spec.exact else installed), supplied.later


def _imported_from(spec: BuildSpec) -> frozenset[str]:
    """The directories that wheels of sources on this machine let Python import from."""
    if not spec.local:
        return frozenset()
    from .source import imported_from

    return imported_from(map(url_in, spec.local))


def bytes_in(directory: Path) -> int:
    """The bytes of all files in a directory, whatever they are linked to."""
    return sum(
        os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118 - ten thousands of them
        for folder, _, names in os.walk(directory)
        for name in names
    )


def _whole(spec: BuildSpec, installed: list[Installed], progress: Progress) -> list[Installed]:
    """Those of a lock's packages that the extras need; the others are taken out.

    Raises InstallFailed where they do not go with each other or with this base.
    """
    from .consistency import needed, upset
    from .strays import without_strays

    python = spec.manifest.python
    found = needed(spec.extras, *staged_and_base(spec.generation), python)
    installed = without_strays(spec, installed, found.names, progress)
    staged, base = staged_and_base(spec.generation)
    faults = [*found.faults, *upset(staged, {**base, **staged}, python)]
    if faults:
        raise InstallFailed(
            f"the notebook's lock is not whole on {spec.manifest.id}: {faults[0]}",
            why="\n".join(dict.fromkeys(faults)),
            fix="jupyter overlay lock NOTEBOOK  on this machine makes one that is" + _or_source(spec),
        )
    return installed


def _or_source(spec: BuildSpec) -> str:
    """What else helps where the lock lacks what is declared: its author had it from a directory."""
    known = {*(spec.exact.pins if spec.exact else ()), *spec.manifest.distributions}
    lacking = [name for name in map(named_in, spec.extras) if name not in known]
    if not lacking:
        return ""
    own = f"where {', '.join(lacking)} is a library of its author's, and you have that"
    return f";\n{own}:\n  jupyter overlay add NOTEBOOK -e DIRECTORY"


def everything(generation: store.Generation) -> dict[str, Distribution]:
    """All distributions of an overlay that is being built: those in staging, then the base's."""
    staged, base = staged_and_base(generation)
    return {**base, **staged}


def staged_and_base(
    generation: store.Generation,
) -> tuple[dict[str, Distribution], dict[str, Distribution]]:
    """The distributions of an overlay that is being built: those in staging, and the base's."""
    from .consistency import distributions

    sites = "lib/python*/site-packages"
    staged = distributions(sorted((generation.path / layout.STAGING).glob(sites)))
    return staged, distributions(sorted(generation.path.glob(sites)))


def _publish(spec: BuildSpec, staged: Staged, seconds: float) -> None:
    """Write what the overlay is, last of all; before this it does not exist."""
    content: dict[str, Any] = {
        "base": spec.manifest.id,
        "extras": list(spec.extras),
        "installed": staged.installed,
        "replaced": {name: list(pair) for name, pair in staged.solution.replaced.items()},
        layout.ENTRIES: entries_in(spec.generation.path / layout.STAGING),
        "seconds": round(seconds, 3),
    }
    if staged.later:
        write_new(spec.generation.path / layout.PROVISIONAL, "")
    spec.generation.write(layout.OVERLAY, content)


def failure_of(error: BaseException, generation: store.Generation) -> OverlayError:
    """Any error of a build in ``generation`` as one that can be told in a cell."""
    if isinstance(error, OverlayError):
        return error
    if isinstance(error, OSError) and (lack := os_errors.lack_of(error, generation.path)):
        return BuildFailed(f"the overlay could not be built: {lack.what}", why=lack.why, fix=lack.fix)
    return BuildFailed(
        "the overlay could not be built",
        why=f"{type(error).__name__}: {error}",
        fix="restart the kernel; jupyter overlay doctor  checks this machine",
    )
