"""What overlays take on disk, and what a sweep removes, as JSON."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from ..collector import Account, Collected, Environment, Found, Overlay, Removed, Shared
from ..collector.shared import Pruned
from ..collector.wheels import Wheel, linked_to, shared_places


def account_data(counted: Account) -> dict[str, Any]:
    """As ``jupyter overlay du --json`` has it."""
    return {
        "bases": [
            {
                "id": shared.base.manifest.id,
                "path": shared.base.manifest.prefix,
                "adopted": shared.base.manifest.adopted,
                "environments": shared.environments,
                **_measured(shared),
            }
            for shared in counted.bases
        ],
        "environments": [
            {
                "kind": entry.kind,
                "name": entry.name or None,
                "path": str(entry.path),
                "base": entry.base or None,
                "state": entry.state,
                "counts": entry.counts,
                "store_bytes": entry.store_bytes,
                **_measured(entry),
            }
            for entry in counted.environments
        ],
        "store": {"wheels": len(counted.wheels), "bytes": sum(counted.wheels.values())},
        "shared_stores": {
            "wheels": len(counted.shared),
            "bytes": sum(counted.shared.values()),
            "places": [
                {"path": place, "wheels": len(wheels), "bytes": sum(wheels)}
                for place, wheels in shared_by_place(counted).items()
            ],
        },
        "together": {"own_bytes": counted.together.own_bytes, "linked_bytes": counted.together.linked_bytes},
        "shared_bytes": counted.shared_bytes,
        "private_bytes": counted.private_bytes,
        "notes": list(counted.notes),
    }


def shared_by_place(counted: Account) -> dict[str, list[int]]:
    """Shared store → the bytes of each package that is linked from it."""
    found: dict[str, list[int]] = {}
    for path, size in counted.shared.items():
        found.setdefault(str(Path(path).parent), []).append(size)
    return dict(sorted(found.items()))


def _measured(entry: Shared | Environment) -> dict[str, int]:
    used = entry.usage
    return {
        "own_bytes": used.own_bytes,
        "own_files": used.own_files,
        "linked_bytes": used.linked_bytes,
        "linked_files": used.linked_files,
    }


def overlay_data(overlay: Overlay, found: Found) -> dict[str, Any]:
    """One overlay, as ``jupyter overlay list --json`` has it."""
    used = datetime.datetime.fromtimestamp(found.used, datetime.timezone.utc)
    return {
        "notebook": overlay.notebook or None,
        "notebook_gone": overlay.notebook_gone,
        "path": str(found.path),
        "state": found.state.value,
        "in_use": found.in_use,
        "last_started": used.isoformat(timespec="seconds"),
        "base": found.base or None,
        "base_gone": found.base_gone,
        "shared_stores": linked_from(found.path),
    }


def linked_from(overlay: Path) -> dict[str, int]:
    """Shared store → how many packages of an overlay are linked from there."""
    places = shared_places(linked_to(overlay) or ())
    return {place: len(paths) for place, paths in places.items()}


def pruned_data(pruned: Pruned, *, dry_run: bool) -> dict[str, Any]:
    """What a prune of a shared store did or would do, as JSON."""
    return {
        "dry_run": dry_run,
        "out_of_use": [_wheel(wheel) for wheel in pruned.retired],
        "removed": [_wheel(wheel) for wheel in pruned.removed],
        "waiting": [_wheel(wheel) for wheel in pruned.waiting],
    }


def _wheel(wheel: Wheel) -> dict[str, Any]:
    return {"name": wheel.name, "path": str(wheel.path), "bytes": wheel.bytes}


def collected_data(collected: Collected, *, dry_run: bool) -> dict[str, Any]:
    """What a sweep did or would do, as ``jupyter overlay prune --json`` has it."""
    return {
        "dry_run": dry_run,
        "removed": [_removal(removed) for removed in collected.removed],
        "kept": [
            {
                "path": str(kept.path),
                "notebook": kept.notebook,
                "reason": kept.reason,
                "by_hand": list(kept.by_hand),
            }
            for kept in collected.kept
        ],
        "busy": [str(path) for path in collected.busy],
        "locks": [str(path) for path in collected.locks],
        "wheels": [_wheel(wheel) for wheel in collected.wheels],
    }


def _removal(removed: Removed) -> dict[str, Any]:
    return {
        "path": str(removed.path),
        "notebook": removed.notebook or None,
        "reason": removed.reason,
        "own_bytes": removed.usage.own_bytes,
        "by_hand": list(removed.by_hand),
    }
