"""What a notebook's extras come to on a base, before anything is installed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from ..base.registry import RegisteredBase
from ..inkernel.shared import layout
from ..model.request import Request
from ..overlay import store
from ..settings import Settings
from .progress import Progress
from .solution import bytes_to_fetch
from .solve import Solver
from .trial import trial


class Plan(NamedTuple):
    """The versions that an overlay would hold, and those of the base that it would replace.

    ``bytes`` is the least that all files of them come to, as far as the indexes say how large they are; 0
    where they do not. ``waits`` is why only a cell's consent lets more be known: something has to be built.
    """

    versions: Mapping[str, str] = {}
    replaced: Mapping[str, tuple[str, str]] = {}
    bytes: int = 0
    waits: str = ""


def make_plan(
    request: Request,
    base: RegisteredBase,
    root: store.Store,
    settings: Settings,
    *,
    builds: bool = False,
    upgrade: bool = False,
    hold: Mapping[str, str] = MappingProxyType({}),
    keep: bool = True,
) -> Plan:
    """The plan of ``request`` on ``base``; with ``keep`` it is remembered, so that a launch builds just that.

    ``builds``: source builds are allowed, because the user has run a cell. ``upgrade``: newer versions than
    the last time are taken where there are any, but for the packages to ``hold``, name → version, which stay
    if that can be. Raises OverlayError where there is no plan.
    """
    if request.empty:
        return Plan()
    with trial(request, base, root, settings) as (spec, scratch):
        told = scratch / layout.PROGRESS
        preferred = tuple(f"{name}=={version}" for name, version in hold.items())
        order = spec._replace(preferred=preferred) if upgrade and spec.exact is None else spec
        solution = Solver(order, Progress(told), scratch, builds=builds).solve(upgrade=upgrade)
        if solution is None:
            return Plan(waits=str(json.loads(told.read_text(encoding="utf-8").splitlines()[-1])["why"]))
        if keep:
            solution.keep(spec.known)
        return Plan(dict(solution.versions), dict(solution.replaced), bytes_to_fetch(solution.packages))
