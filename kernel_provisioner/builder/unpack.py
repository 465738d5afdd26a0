"""Unpack a solution into staging: what the wheel store does not serve, by uv, as files.

The store is filled first. A ``provisional`` overlay does not wait for that: what the store lacks is unpacked
as hard links to uv's cache, which takes a fifth of the time, and the store is filled ``behind`` its kernel.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import InstallFailed
from ..inkernel.shared import layout
from ..overlay.skeleton import link_lib64, remove_tree
from ..store import fill
from ..system import records
from .progress import Progress
from .solution import Solution, without_wheel
from .spec import BuildSpec
from .stage import verify_unpacked
from .supply import Supply, lock_of, supply


def unpack(
    spec: BuildSpec, solution: Solution, progress: Progress, scratch: Path, *, builds: bool, fills: bool
) -> Supply:
    """Unpack what no entry of the store serves; the entries are to be laid beside it.

    ``fills``: the store is filled first with what it lacks; else that is unpacked, too. To be called while
    the store is held. Raises InstallFailed and OSError.
    """
    staging = spec.generation.path / layout.STAGING
    tool, python = spec.uv_at(spec.upstream), spec.python
    # The lock holds no credentials; uv finds them by the index that they belong to.
    sources = without_wheel(solution.packages) if spec.policy.buildable else None
    options = [*spec.index_options, *spec.build_options(sources, builds=builds)]

    def install(lock: Path, prefix: Path, *more: str) -> None:
        def attempt(*last: str) -> None:
            remove_tree(prefix)  # never repaired: what is there may be half of a package
            (prefix / "lib").mkdir(parents=True)
            link_lib64(prefix)
            tool.install_lock(python, lock, prefix, [*options, *more, *last], on_line=progress.hear)

        try:
            attempt("--offline")
        except InstallFailed:
            if spec.policy.offline:
                raise
            attempt()

    supplied = supply(spec, solution, scratch, install, fills=fills)
    staged = solution.lock
    if supplied.entries:
        staged = scratch / "pylock.others.toml"
        staged.write_text(lock_of(solution, supplied.others), encoding="utf-8")
    remove_tree(staging)
    if supplied.others or not supplied.entries:
        install(staged, staging)
    else:
        (staging / "lib").mkdir(parents=True)
        link_lib64(staging)
    if supplied.later:
        if supplied.later & fill.shared_files(staging):  # apart alone they show what each of them brings
            return unpack(spec, solution, progress, scratch, builds=builds, fills=True)
        verify_unpacked(staging, supplied.later, records.cut_short)
    return supplied
