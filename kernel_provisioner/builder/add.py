"""Add packages to an overlay that its user works in: what ``%overlay add`` runs.

It is a build, of what the notebook declares and the new requirements, on the overlay as it is: the user
has run a cell, so uv may look at it. What comes is staged, checked and judged as ever, and only then moved
in. The policy is that of the launch, and that of the configuration files as they are now.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import CorruptState, InvalidRequest, NotAllowed
from ..inkernel.shared import layout
from ..inkernel.shared.packages import named_in, packages
from ..inkernel.shared.settle import settle_added
from ..model.request import parse_request
from ..notebook.text import is_text
from ..overlay import store
from ..overlay.added import remember, undeclared
from ..overlay.guards import give_way_to_uv
from ..overlay.skeleton import remove_tree, site_packages
from ..overlay.sources import sources_of
from ..policy import Policy
from ..settings import load_policy
from ..store import fill
from ..system import locks
from ..system.pause_points import pause
from .build import scratch_of, solve_and_install
from .offer import Offer, offer_of
from .progress import Progress
from .solution import Solution
from .spec import BuildSpec
from .supply import compile_new, entries_in

_WAIT = 10.0  # seconds for a launch of the same notebook


class Added(NamedTuple):
    """What an addition came to: the names that had another version before, and the base's among them.

    ``replaced`` is name → the base's version, the overlay's own; ``offer`` what the user can do to keep it.
    """

    changed: tuple[str, ...] = ()
    replaced: dict[str, tuple[str, str]] = {}
    offer: Offer = Offer()


def add(spec: BuildSpec, requirements: Sequence[str], *, declared: bool = False) -> Added:
    """Install ``requirements`` into the overlay now, and remember them unless they are ``declared``.

    They are checked as a notebook's extras are. Raises OverlayError; then nothing has changed. Whoever is
    killed on the way has changed nothing either, or all of it: see ``settle_added``.
    """
    path = spec.generation.path
    settle_added(path)  # of one who was killed just after it counted
    spec = _under(spec.policy.joined(load_policy()), spec)
    wanted = parse_request({"extras": list(requirements)}, allow_urls=spec.policy.urls)
    if wanted.torch:
        raise InvalidRequest(
            f"torch is the base's: {spec.manifest.torch}",
            field="torch",
            fix="choose another base, or declare torch in the notebook's metadata",
        )
    spec.policy.refuse_unlocked()
    new = [extra for extra in wanted.extras if not _asked_for(extra, spec.extras)]
    kept = [] if declared else new
    spec = spec.onto_overlay(tuple(new))
    spec = spec.from_sources(tuple(one.requirement for one in sources_of(path.parent, spec.extras)))
    with scratch_of(spec.generation) as scratch, fill.held(spec.wheels):
        progress = Progress(scratch / layout.PROGRESS)
        try:
            found = solve_and_install(spec, progress, scratch, builds=spec.policy.builds, upgrade=True)
            assert found is not None, "what waits for a cell's consent has it"
            solution = found.solution
            there = {package.name for package in packages(path)}
            spec.policy.refuse_count(len(there | set(solution.versions)))
            spec.refuse_late()
            if kept:  # before it counts: whoever is killed in between gets it at the next launch
                remember(path.parent, _said(spec.generation)["declared"], kept)
            if solution.versions:
                _commit(spec, solution)
                pause("added")
                settle_added(path)
            if new:
                _note(spec)
        except BaseException:
            if not (path / layout.ADDING).exists():
                remove_tree(path / layout.STAGING)
            raise
    with contextlib.suppress(OSError):
        compile_new(spec)
    return Added(tuple(solution.replaced), _beside_base(spec, solution), _offer(spec, kept))


def _asked_for(extra: str, extras: Sequence[str]) -> bool:
    """Whether this is among the extras already, or a bare name of one."""
    return extra in extras or extra in map(named_in, extras)


def _note(spec: BuildSpec) -> None:
    """Let the overlay be the one for all that is asked for now, so that the next launch takes it."""
    generation = spec.generation
    with locks.exclusive(generation.path.parent / layout.LAUNCH_LOCK, timeout=_WAIT):
        data = generation.read(layout.SPEC)
        declared = _said(generation)["declared"]
        generation.write(layout.SPEC, {**data, "declared": declared, "order": dict(spec.content)})


def _offer(spec: BuildSpec, new: Sequence[str]) -> Offer:
    """How the notebook, if there is one, can declare what is ``new``."""
    said = _said(spec.generation)
    if not new or not said["notebook"]:
        return Offer()
    added = undeclared(spec.generation.path.parent, said["declared"])
    text = is_text(Path(said["notebook"]))
    return offer_of(said["script"], said["declared"], added, new, text=text)


def _said(generation: store.Generation) -> dict[str, Any]:
    """What the notebook declared at the launch, in which block, and where it is."""
    data = generation.read(layout.SPEC)
    return {
        "declared": data.get("declared", data["order"]["extras"]),
        "script": data.get("script", ""),
        "notebook": data.get("notebook", ""),
    }


def _commit(spec: BuildSpec, solution: Solution) -> None:
    """Let what is staged count: from now on it is moved in, whatever becomes of this process."""
    state = _state(spec.generation)
    before = {name: pair for name, pair in state.get("replaced", {}).items() if name not in solution.versions}
    replaced = {**before, **_beside_base(spec, solution)}
    gone = [*solution.replaced]
    if "uv" in gone:
        give_way_to_uv(spec.generation.path, site_packages(spec.generation.path))
    added = sorted({*state.get("added", ()), *solution.versions})
    linked = sorted({*state.get(layout.ENTRIES, ()), *entries_in(spec.generation.path / layout.STAGING)})
    now = {**state, "replaced": replaced, "added": added, layout.ENTRIES: linked}
    spec.generation.write(layout.ADDING, {"state": now, "gone": gone})


def _beside_base(spec: BuildSpec, solution: Solution) -> dict[str, tuple[str, str]]:
    """Name → the base's version and the overlay's own; not where the base's own serves again."""
    base = spec.manifest.distributions
    return {
        name: (base[name], version)
        for name, version in solution.versions.items()
        if base.get(name, version) != version
    }


def _state(generation: store.Generation) -> dict[str, Any]:
    try:
        return generation.read(layout.OVERLAY)
    except CorruptState:  # the kernel runs on; its next launch builds anew
        return {"schema": store.SCHEMA}


def _under(policy: Policy, spec: BuildSpec) -> BuildSpec:
    """The order as ``policy`` lets it be, from now on; raises NotAllowed where its index is not."""
    try:
        template = policy.template(spec.index_template)
    except ValueError as error:
        fix = "restart the kernel, which then follows the rules of now alone"
        raise NotAllowed("nothing can be added under these rules", why=str(error), fix=fix) from error
    return spec._replace(policy=policy, index_template=template, begun=time.monotonic())
