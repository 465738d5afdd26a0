"""Where the chosen base cannot hold the extras: find one that can, for the next start.

A kernel cannot change its Python while it runs, so the notebook is told to restart, and the
launch then takes the other base at once: what does not fit is remembered for a while, and what
does has its lock already.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from ..base.registry import RegisteredBase
from ..errors import OverlayError, ResolutionFailed
from ..overlay import store
from .progress import Progress
from .solve import Solver
from .spec import BuildSpec, registered


def look_elsewhere(
    spec: BuildSpec, root: store.Store, progress: Progress, error: ResolutionFailed, *, builds: bool
) -> ResolutionFailed:
    """``error``, with the base that would hold the extras as its fix, or why no other would."""
    reasons = []
    for directory in spec.alternatives:
        try:
            base = registered(directory)
            progress.say("plan", f"Checking whether {base.manifest.id} has them")
            _plan_on(base, spec, progress, builds=builds)
        except OverlayError as other:
            reasons.append(f"on {directory.name}: {(other.why or other.what).splitlines()[-1]}")
            continue
        root.note_unfit(store.spec_key(spec.content), spec.sources, error.why or error.what)
        torch = f"torch {base.manifest.torch}, Python {base.manifest.python}"
        return ResolutionFailed(
            error.what,
            why=error.why,
            fix=f"restart the kernel: it will run on {base.manifest.id} ({torch}), which holds them",
        )
    return ResolutionFailed(error.what, why="\n".join([error.why, *reasons]), fix=error.fix)


def _plan_on(base: RegisteredBase, spec: BuildSpec, progress: Progress, *, builds: bool) -> None:
    """Solve the order on another base; keeps the lock."""
    with tempfile.TemporaryDirectory(prefix="torch-overlay-", dir=spec.generation.path) as name:
        trial = store.Generation(Path(name, "trial"))
        there = spec.elsewhere(base, trial)
        solution = Solver(there, progress, Path(name), builds=builds).solve()
        if solution is not None:
            solution.keep(there.known)
