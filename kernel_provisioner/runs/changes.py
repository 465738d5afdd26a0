"""What a change of a notebook's declarations would do, before it is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from ..builder.plan import make_plan
from ..launch.preview import preview
from ..model.request import Request
from ..overlay import store
from ..settings import Settings
from .installed import content_of
from .subject import Subject


def changes_of(
    subject: Subject,
    settings: Settings,
    *,
    request: Request | None = None,
    upgrade: bool = False,
    forget: Iterable[str] = (),
) -> dict[str, Any]:
    """What would be installed and removed where the notebook said what ``subject.content`` says.

    ``request`` stands for that where it is known already. ``upgrade``: newer versions than are installed are
    taken where there are any. ``forget`` names packages that are no longer kept from ``%overlay add``.
    ``bytes`` is what is to be fetched at most, 0 where no index says; ``waits`` is why more is known only
    once a cell has run. Raises OverlayError where it is not available.
    """
    pinned = subject.kernel.tag
    outlook = preview(subject.found, pinned=pinned, settings=settings, request=request, without=forget)
    running = store.Generation(subject.running) if subject.running else outlook.generation
    before = content_of(running).versions
    builds = settings.policy.builds and running is not None and running.entered
    root = store.Store(Path(settings.overlay_root))
    plan = make_plan(outlook.request, outlook.base, root, settings, builds=builds, upgrade=upgrade)
    base = outlook.base.manifest
    return {
        "base": base.id,
        "reason": outlook.chosen.reason,
        "notices": [*outlook.request.warnings, *outlook.chosen.notices],
        "packages": [] if plan.waits else differences(before, plan.versions, base.distributions),
        "bytes": plan.bytes,
        "waits": plan.waits,
    }


def differences(
    before: Mapping[str, str], after: Mapping[str, str], base: Mapping[str, str]
) -> list[dict[str, str]]:
    """Each package that changes: ``what`` is add, upgrade, downgrade, remove or replace (of the base's)."""
    found = []
    for name in sorted({*before, *after}):
        old, new = before.get(name, ""), after.get(name, "")
        if old == new:
            continue
        if not new:
            found.append({"what": "remove", "name": name, "from": old, "to": base.get(name, "")})
        elif old:
            found.append({"what": _direction(old, new), "name": name, "from": old, "to": new})
        elif name in base:
            found.append({"what": "replace", "name": name, "from": base[name], "to": new})
        else:
            found.append({"what": "add", "name": name, "from": "", "to": new})
    return found


def _direction(old: str, new: str) -> str:
    try:
        return "upgrade" if Version(new) > Version(old) else "downgrade"
    except InvalidVersion:
        return "upgrade"
