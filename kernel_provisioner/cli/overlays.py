"""``jupyter overlay list`` and ``prune``: the overlays of this user, and the removal of the unneeded."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import Any

from traitlets import Bool, Float

from ..inkernel.disk import human, usage
from ..prune import Found, Kept, Overlay, Policy, Removed, doomed, survey, sweep
from ..venv.notes import known
from .common import OverlayApp


class ListApp(OverlayApp):
    """List all overlays: how each stands, when a kernel last started in it, its base and its notebook.

    A notebook has one overlay for what it asks now, and may have older ones, which
    jupyter overlay prune removes.
    """

    usage = "jupyter overlay list [--sizes] [--json]"
    description = __doc__
    examples = """
    jupyter overlay list
    jupyter overlay list --sizes
    """
    flags = {
        **OverlayApp.flags,
        "sizes": (
            {"ListApp": {"sizes": True}},
            "Measure what each takes on disk, which reads every directory.",
        ),
    }
    sizes = Bool(False, help="Measure what each takes on disk.").tag(config=True)

    def run(self) -> int | None:
        """Look; see the class."""
        self.words(0, 0)
        root, now = Path(self.settings().overlay_root), time.time()
        data: list[dict[str, Any]] = []
        lines = [_line("STATE", "LAST STARTED", "SIZE" if self.sizes else "", "BASE", "NOTEBOOK")]
        needless, policy = 0, Policy()
        for overlay in survey(root):
            needless += sum(1 for _ in doomed(overlay, policy, now=now))
            for found in overlay.generations:
                data.append(entry := _described(overlay, found))
                if self.sizes:
                    used = usage([found.path])
                    entry |= {"own_bytes": used.own_bytes, "linked_bytes": used.linked_bytes}
                if not self.json_output:
                    size = human(entry["own_bytes"]) if self.sizes else ""
                    state = "in use" if found.in_use and entry["state"] == "ready" else entry["state"]
                    since = _ago(now - found.used)
                    lines.append(_line(state, since, size, found.base or "?", _whose(overlay)))
        if not data:
            lines = [f"no overlay yet in {root}"]
        elif needless:
            lines.append(f"{needless} of {len(data)} nobody needs: jupyter overlay prune  removes them")
        if venvs := known(root):
            one = "environment of a project" if len(venvs) == 1 else "environments of projects"
            lines.append(f"and {len(venvs)} {one}: jupyter overlay du  names all")
        self.emit(data, lines)
        return None


class PruneApp(OverlayApp):
    """Remove overlays that nobody will miss, and say what each took on disk.

    These go: overlays of notebooks or bases that are gone, of kernels that had no notebook and have
    ended, failed and interrupted builds, and all but the newest of a notebook's overlays. What a
    kernel runs in, or a build is under way in, always stays.

    An overlay that holds packages installed by hand (with pip, say) stays too, and is named; --all
    removes it. A removed overlay comes back at its notebook's next start, without what was
    installed by hand.
    """

    usage = "jupyter overlay prune [--dry-run] [--older-than DAYS] [--all] [--json]"
    description = __doc__
    examples = """
    jupyter overlay prune --dry-run            only say what would go
    jupyter overlay prune
    jupyter overlay prune --older-than 30      also what no kernel has started in for 30 days
    jupyter overlay prune --all                every overlay that is not in use
    """
    flags = {
        **OverlayApp.flags,
        "dry-run": ({"PruneApp": {"dry_run": True}}, "Only say what would be removed."),
        "all": (
            {"PruneApp": {"everything": True}},
            "Every overlay that is not in use, whatever it holds; with --older-than, every one of that age.",
        ),
    }
    aliases = {**OverlayApp.aliases, "older-than": "PruneApp.older_than"}
    dry_run = Bool(False, help="Only say what would be removed.").tag(config=True)
    everything = Bool(False, help="Every overlay that is not in use.").tag(config=True)
    older_than = Float(
        None, min=0.0, allow_none=True, help="Also what no kernel has started in for so many days."
    ).tag(config=True, metavar="DAYS")

    def run(self) -> int | None:
        """Collect; see the class."""
        self.words(0, 0)
        root = Path(self.settings().overlay_root)
        swept = sweep(
            root,
            Policy(self.older_than, self.everything),
            now=time.time(),
            dry_run=self.dry_run,
            tell=None if self.json_output else self._tell,
        )
        data = {
            "dry_run": self.dry_run,
            "removed": [_removal(removed) for removed in swept.removed],
            "kept": [
                {
                    "path": str(kept.path),
                    "notebook": kept.notebook,
                    "reason": kept.reason,
                    "by_hand": list(kept.by_hand),
                }
                for kept in swept.kept
            ],
            "busy": [str(path) for path in swept.busy],
            "locks": [str(path) for path in swept.locks],
        }
        lines = [_kept(kept) for kept in swept.kept]
        if swept.kept:
            lines.append("jupyter overlay prune --all  removes these too")
        lines += [f"left alone, for a kernel was starting: {path}" for path in swept.busy]
        count, freed = len(swept.removed), sum(removed.usage.own_bytes for removed in swept.removed)
        verb = "would be removed" if self.dry_run else "removed"
        lines.append(
            f"{count} overlay{'' if count == 1 else 's'} {verb}, {human(freed)} of disk"
            if count
            else "nothing to remove"
        )
        self.emit(data, lines)
        return None

    def _tell(self, removed: Removed) -> None:
        """Say what goes before it goes."""
        verb = "would remove" if self.dry_run else "removing"
        size = human(removed.usage.own_bytes)
        print(f"{verb} {_named(removed.notebook, removed.path)}: {removed.reason} ({size})", flush=True)
        if removed.by_hand:
            print(f"  with what was installed by hand: {', '.join(removed.by_hand)}", flush=True)


def _whose(overlay: Overlay) -> str:
    if overlay.notebook:
        return overlay.notebook + (" (gone)" if overlay.notebook_gone else "")
    return "(a fork server)" if overlay.warm else "(none)"


def _described(overlay: Overlay, found: Found) -> dict[str, Any]:
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
    }


def _kept(kept: Kept) -> str:
    packages = ", ".join(kept.by_hand)
    return (
        f"kept {_named(kept.notebook, kept.path)}: {kept.reason}, but {packages} was installed in it by hand"
    )


def _removal(removed: Removed) -> dict[str, Any]:
    return {
        "path": str(removed.path),
        "notebook": removed.notebook or None,
        "reason": removed.reason,
        "own_bytes": removed.usage.own_bytes,
        "by_hand": list(removed.by_hand),
    }


def _named(notebook: str, path: Path) -> str:
    return f"{notebook or path.parent.name} ({path.name})"


def _line(state: str, used: str, size: str, base: str, notebook: str) -> str:
    sized = f"{size:>10}  " if size else ""
    return f"{state:10} {used:>14}  {sized}{base:38} {notebook}"


def _ago(seconds: float) -> str:
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' * (count > 1)} ago"
    return "just now"
