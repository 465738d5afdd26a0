"""Newer versions for a notebook: in its lock where it has one, else in a new overlay, built at once."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..builder.plan import make_plan
from ..errors import BuildFailed, OverlayError
from ..inkernel.shared.packages import canonical, named_in
from ..overlay import store
from ..settings import Settings
from .changes import differences
from .installed import content_of
from .kernels import Prospect, prospect
from .locking import LockSubject
from .prebuild import Ahead, Tell


@dataclasses.dataclass(frozen=True)
class Upgrade:
    """What changed, or would: ``packages`` as ``differences`` has them; ``locked``: in the notebook's lock.

    ``waits`` is why more is known only once a cell has run. ``lock`` is the new lock, which is not written.
    """

    notebook: Path
    base: str
    locked: bool
    packages: list[dict[str, str]]
    notices: tuple[str, ...]
    waits: str = ""
    lock: Mapping[str, object] | None = None

    def as_dict(self, *, dry_run: bool) -> dict[str, Any]:
        """As ``jupyter overlay upgrade --json`` has it."""
        return {
            **{name: value for name, value in vars(self).items() if name != "lock"},
            "notebook": str(self.notebook),
            "notices": list(self.notices),
            "dry_run": dry_run,
        }


def upgrade(
    notebook: str, names: Sequence[str], settings: Settings, *, kernel: str, dry_run: bool, tell: Tell
) -> Upgrade:
    """Take the newest versions of the packages ``names``, of all where none is named; raises OverlayError.

    The others stay where that can be. A new lock is the caller's to write. The notebook's running kernel
    keeps what it has.
    """
    ahead = prospect(notebook, kernel, settings)
    wanted = [canonical(name) for name in names]
    tell("Looking for newer versions")
    if ahead.outlook.request.lock is not None:
        return _of_lock(ahead, wanted, settings, kernel=kernel)
    return _of_overlay(ahead, wanted, settings, kernel=kernel, dry_run=dry_run, tell=tell)


def _of_lock(ahead: Prospect, names: Sequence[str], settings: Settings, *, kernel: str) -> Upgrade:
    subject = LockSubject.read(ahead.path, allow_urls=settings.policy.urls)
    before = subject.old.pins if subject.old else {}
    _refuse_unknown(names, {*before, *map(named_in, ahead.outlook.request.extras)}, ahead)
    lock, base, notices = subject.lock(settings, kernel=kernel, upgrade=True, exclude_newer="", names=names)
    changed = differences(before, lock.pins, {})
    return Upgrade(ahead.path, base, True, changed, tuple(notices), lock=lock.as_dict())


def _of_overlay(
    ahead: Prospect, names: Sequence[str], settings: Settings, *, kernel: str, dry_run: bool, tell: Tell
) -> Upgrade:
    outlook, root = ahead.outlook, store.Store(Path(settings.overlay_root))
    base, generation = outlook.base.manifest, outlook.generation
    content = content_of(generation)
    have = content.versions
    _refuse_unknown(names, {*have, *map(named_in, outlook.request.extras)}, ahead)
    hold = {name: version for name, version in have.items() if name not in names} if names else {}
    builds = settings.policy.builds and generation is not None and generation.entered
    plan = make_plan(
        outlook.request, outlook.base, root, settings,
        builds=builds, upgrade=True, hold=hold, keep=not dry_run,
    )  # fmt: skip
    before = {name: version for name, version in have.items() if name not in content.by_hand}
    changed = [] if plan.waits else differences(before, plan.versions, base.distributions)
    if changed and not dry_run:
        outcome = Ahead(settings, kernel, source_builds=builds, renew=True).build(ahead.path, tell)
        if outcome.error is not None:
            raise outcome.error
        if outcome.state != "built":
            raise BuildFailed(f"{ahead.path.name} was not upgraded", why=outcome.why)
    return Upgrade(ahead.path, base.id, False, changed, ahead.notices, plan.waits)


def _refuse_unknown(names: Sequence[str], known: set[str], ahead: Prospect) -> None:
    """Raise OverlayError for a name that is none of the notebook's packages."""
    for name in names:
        if name in known:
            continue
        held = ahead.outlook.base.manifest.distributions.get(name)
        close = difflib.get_close_matches(name, known, 1)
        if held:
            public = held.partition("+")[0]
            raise OverlayError(
                f"{name} {held} is the base's, which never changes",
                fix=f'for this notebook alone: jupyter overlay add {ahead.path} "{name}>{public}"',
            )
        raise OverlayError(
            f"{name} is none of the packages of {ahead.path.name}"
            + (f"; did you mean {close[0]}?" if close else ""),
            fix=f"jupyter overlay tree {ahead.path}  shows them",
        )
