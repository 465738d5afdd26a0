"""Solve, install, verify, publish.

Before the user has run a cell nothing here runs code of a package that the notebook names: uv
unpacks wheels into a staging directory that no interpreter looks at.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import room
from ..aside import Aside
from ..errors import BuildFailed, InstallFailed, OverlayError
from ..overlay import store
from ..overlay.skeleton import CONSTRAINTS, remove_tree, write_receipts
from ..pausepoint import pause
from ..uv_facts import uv_path
from ..uv_failures import may_pass
from . import processors
from .order import Order
from .progress import Progress
from .solve import Solution, Solver
from .staging import Installed, readdress, verify

if TYPE_CHECKING:
    from .whole import Distribution


def build(order: Order, root: store.Store, progress: Progress, *, cell_ran: bool) -> bool:
    """Build and publish the overlay; False where it has to wait for the user's first cell.

    Raises OverlayError with cause and fix; then nothing is published.
    """
    started = time.monotonic()
    order = order._replace(begun=started)
    builds = cell_ran and order.policy.builds
    if order.exact is None:
        order.policy.refuse_unlocked()
    with _scratch(order.generation) as scratch:
        with processors.one_left() if not cell_ran else contextlib.nullcontext():
            solution = Solver(order, root, progress, scratch, builds=builds).solve()
        if solution is None:
            return False
        pause("planned")
        try:
            installed = install(order, solution, progress, builds=builds)
        except InstallFailed as error:
            if not may_pass(error):  # the next try looks for something else
                root.lock_path(order.key).unlink(missing_ok=True)
            if order.exact:
                from .exact import naming_files

                raise naming_files(error, order.exact) from error
            what = error.what + room.needed(error.why, solution.packages)
            raise InstallFailed(what, why=error.why, fix=error.fix) from error
        pause("verified")
        order.refuse_late()
        _publish(order, solution, installed, time.monotonic() - started)
        count = f"{len(installed)} package{'s' * (len(installed) != 1)}"
        progress.say("ready", f"{count} added", total=len(installed))
    return True


@contextlib.contextmanager
def _scratch(generation: store.Generation) -> Iterator[Path]:
    """A directory for the files of one build, which nobody else looks at: the builder's lock is held.

    Not by ``tempfile``, see ``files``; and gone only once the overlay is published, which a cell waits for.
    """
    scratch = generation.path / "scratch"
    remove_tree(scratch)  # one who was killed has left it
    scratch.mkdir(mode=0o700)
    try:
        yield scratch
    finally:
        remove_tree(scratch)


def _write_receipts(order: Order) -> None:
    """What installers need of the overlay; not written by the launch, for the kernel needs none of it."""
    write_receipts(order.generation.path, order.manifest, order.base.skeleton_path, uv=uv_path())
    pause("laid out")


def install(order: Order, solution: Solution, progress: Progress, *, builds: bool) -> list[Installed]:
    """Unpack the lock's packages into staging, check every file, and name what is there."""
    staging = order.generation.path / store.STAGING
    tool, python = order.uv, order.python

    def attempt(options: Sequence[str]) -> None:
        remove_tree(staging)  # never repaired: what is there may be half of a package
        tool.install_lock(python, solution.lock, staging, options, on_line=progress.hear)

    progress.say("install", "Installing")
    # The lock holds no credentials; uv finds them by the index that they belong to.
    sources = _sources(solution) if order.policy.buildable else None
    options = [
        *tool.index_options(order.upstream),
        *order.index_options,
        *order.build_options(sources, builds=builds),
    ]
    receipts = Aside(lambda: _write_receipts(order))  # while uv unpacks, which takes longer
    try:
        attempt([*options, "--offline"])
    except InstallFailed:
        if order.policy.offline:
            raise
        attempt(options)
    finally:
        receipts.result()
    if order.policy.max_bytes is not None:
        order.policy.refuse_bytes(bytes_in(staging), "the extras are, unpacked,")
    pause("unpacked")
    progress.say("verify", "Checking every file")
    installed = verify(staging, order.manifest, solution.replaced, order.root / store.CHECKED)
    readdress(staging, python, order.generation.python)
    if order.exact:
        _check_whole(order, installed)
    return installed


def _sources(solution: Solution) -> set[str]:
    """The packages that are to be built, for want of a wheel."""
    return {package["name"] for package in solution.packages if not package.get("wheels")}


def bytes_in(directory: Path) -> int:
    """The bytes of all files in a directory, whatever they are linked to."""
    return sum(
        os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118 - ten thousands of them
        for folder, _, names in os.walk(directory)
        for name in names
    )


def _check_whole(order: Order, installed: list[Installed]) -> None:
    """Raise InstallFailed where a lock's packages do not go with each other or with this base."""
    from .whole import needs, upset

    here = everything(order.generation)
    python = order.manifest.python
    faults = [
        *needs(order.extras, here, python).faults,
        *upset([package["name"] for package in installed], here, python),
    ]
    if faults:
        raise InstallFailed(
            f"the notebook's lock is not whole on {order.manifest.id}: {faults[0]}",
            why="\n".join(dict.fromkeys(faults)),
            fix="jupyter overlay lock NOTEBOOK  on this machine makes one that is",
        )


def everything(generation: store.Generation) -> dict[str, Distribution]:
    """All distributions of an overlay that is being built: those in staging, then the base's."""
    from .whole import distributions

    sites = "lib*/python*/site-packages"
    staged = sorted((generation.path / store.STAGING).glob(sites))
    return distributions([*staged, *sorted(generation.path.glob(sites))])


def _publish(order: Order, solution: Solution, installed: list[Installed], seconds: float) -> None:
    """Write what the overlay is, last of all; before this it does not exist."""
    if solution.replaced:
        versions = dict(order.manifest.distributions)
        versions.update({name: new for name, (_, new) in solution.replaced.items()})
        lines = [f"{name}=={version}\n" for name, version in sorted(versions.items())]
        (order.generation.path / CONSTRAINTS).write_text("".join(lines), encoding="utf-8")
    content: dict[str, Any] = {
        "base": order.manifest.id,
        "extras": list(order.extras),
        "installed": installed,
        "replaced": {name: list(pair) for name, pair in solution.replaced.items()},
        "seconds": round(seconds, 3),
    }
    order.generation.write(store.OVERLAY, content)


def failure_of(error: BaseException, generation: store.Generation) -> OverlayError:
    """Any error of a build in ``generation`` as one that can be told in a cell."""
    if isinstance(error, OverlayError):
        return error
    if isinstance(error, OSError) and (lack := room.lack_of(error, generation.path)):
        return BuildFailed(f"the overlay could not be built: {lack.what}", why=lack.why, fix=lack.fix)
    return BuildFailed(
        "the overlay could not be built",
        why=f"{type(error).__name__}: {error}",
        fix="restart the kernel; jupyter overlay doctor  looks for what is wrong",
    )
