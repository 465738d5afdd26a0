"""``jupyter overlay list`` and ``prune``: the overlays of this user, and the removal of the unneeded."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from traitlets import Bool, Float, Unicode

from ..collector import Kept, Overlay, Policy, Removed, collect, removable, scan
from ..collector.shared import DAYS, prune_shared
from ..collector.wheels import Wheel
from ..errors import clean
from ..inkernel.shared.disk import human, usage
from ..project.notes import known
from ..runs.disk import collected_data, overlay_data, pruned_data
from .common import OverlayApp


class ListApp(OverlayApp):
    """List all overlays: state, last start, base and notebook.

    A notebook has one current overlay, and may have older ones, which jupyter overlay prune removes.
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
            "Measure the disk space of each overlay; this reads every directory.",
        ),
    }
    sizes = Bool(False, help="Measure the disk space of each overlay.").tag(config=True)

    def run(self) -> int | None:
        """Look; see the class."""
        self.words(0, 0)
        root, now = Path(self.settings().overlay_root), time.time()
        data: list[dict[str, Any]] = []
        lines = [_line("STATE", "LAST STARTED", "SIZE" if self.sizes else "", "BASE", "NOTEBOOK")]
        needless, policy = 0, Policy()
        shared: Counter[str] = Counter()
        for overlay in scan(root):
            needless += sum(1 for _ in removable(overlay, policy, now=now))
            for found in overlay.generations:
                data.append(entry := overlay_data(overlay, found))
                shared.update(entry["shared_stores"])
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
            lines.append(f"{needless} of {len(data)} unused: jupyter overlay prune  removes them")
        for place, packages in sorted(shared.items()):
            one = "package" if packages == 1 else "packages"
            lines.append(f"{packages} {one} linked from the shared wheel store {place}")
        if venvs := known(root):
            one = "environment of a project" if len(venvs) == 1 else "environments of projects"
            lines.append(f"and {len(venvs)} {one}: jupyter overlay du  names all")
        self.emit(data, lines)
        return None


class PruneApp(OverlayApp):
    """Remove unused overlays, and print the disk space that each one used.

    This removes overlays whose notebook or base is gone, overlays of kernels without a notebook that have
    ended, failed and interrupted builds, and all but the newest overlay of each notebook. An overlay that a
    kernel runs in, or that is being built, always stays.

    An overlay with packages that were installed by hand (with pip, for example) stays too, and is listed;
    --all removes it. A removed overlay is built again at the next start of its notebook, without what was
    installed by hand.

    With --store, only the packages in a shared wheel store are removed that no notebook or requirements file
    needs any more with which "prebuild --store" filled it. A package is first taken out of use: kernels that
    run keep it, and new overlays are not linked to it. After 30 days, or DAYS, the next prune deletes it.
    """

    usage = "jupyter overlay prune [--dry-run] [--older-than DAYS] [--all | --store DIR] [--json]"
    description = __doc__
    examples = """
    jupyter overlay prune --dry-run            print what would be removed
    jupyter overlay prune
    jupyter overlay prune --older-than 30      and what no kernel has used for 30 days
    jupyter overlay prune --all                every overlay that is not in use
    jupyter overlay prune --store DIR          what nothing needs of a shared wheel store
    """
    flags = {
        **OverlayApp.flags,
        "dry-run": ({"PruneApp": {"dry_run": True}}, "Only print what would be removed."),
        "all": (
            {"PruneApp": {"everything": True}},
            "Every overlay that is not in use, whatever it holds; with --older-than, every one of that age.",
        ),
    }
    aliases = {**OverlayApp.aliases, "older-than": "PruneApp.older_than", "store": "PruneApp.store"}
    dry_run = Bool(False, help="Only print what would be removed.").tag(config=True)
    everything = Bool(False, help="Every overlay that is not in use.").tag(config=True)
    older_than = Float(
        None,
        min=0.0,
        allow_none=True,
        help="Also remove overlays unused for this many days; with --store, what is out of use so long.",
    ).tag(config=True, metavar="DAYS")
    store = Unicode("", help="Remove from this shared wheel store what nothing needs, and no overlay.").tag(
        config=True, metavar="DIR"
    )

    def run(self) -> int | None:
        """Collect; see the class."""
        self.words(0, 0)
        if self.store:
            self._prune_store(Path(self.store).absolute())
            return None
        root = Path(self.settings().overlay_root)
        collected = collect(
            root,
            Policy(self.older_than, self.everything),
            now=time.time(),
            dry_run=self.dry_run,
            tell=None if self.json_output else self._tell,
        )
        data = collected_data(collected, dry_run=self.dry_run)
        lines = [_kept(kept) for kept in collected.kept]
        if collected.kept:
            lines.append("jupyter overlay prune --all  removes these too")
        lines += [f"skipped, because a kernel was starting: {path}" for path in collected.busy]
        count, freed = len(collected.removed), sum(removed.usage.own_bytes for removed in collected.removed)
        verb = "would be removed" if self.dry_run else "removed"
        lines.append(
            f"{count} overlay{'' if count == 1 else 's'} {verb}, {human(freed)} of disk"
            if count
            else "nothing to remove"
        )
        if wheels := len(collected.wheels):
            size = human(sum(wheel.bytes for wheel in collected.wheels))
            one = f"{wheels} package{'' if wheels == 1 else 's'} that nothing uses"
            lines.append(f"{one} {verb} from the wheel store, {size} of disk")
        self.emit(data, lines)
        return None

    def _prune_store(self, place: Path) -> None:
        """Prune a shared store, and say what became of each package."""
        days = DAYS if self.older_than is None else self.older_than
        pruned = prune_shared(place, now=time.time(), days=days, dry_run=self.dry_run)
        out = "would be taken out of use" if self.dry_run else "taken out of use"
        gone = "would be deleted" if self.dry_run else "deleted"
        lines = [f"{wheel.name} {out} ({human(wheel.bytes)})" for wheel in pruned.retired]
        lines += [f"{wheel.name} {gone} ({human(wheel.bytes)})" for wheel in pruned.removed]
        if waiting := pruned.waiting:
            lines.append(f"{_packages(waiting)} out of use, deleted by a prune after {days:g} days")
        if pruned.removed:
            lines.append(f"{_packages(pruned.removed)} {gone}")
        self.emit(pruned_data(pruned, dry_run=self.dry_run), lines or ["nothing to remove"])

    def _tell(self, removed: Removed) -> None:
        """Say what goes before it goes."""
        verb = "would remove" if self.dry_run else "removing"
        size = human(removed.usage.own_bytes)
        name = clean(str(_named(removed.notebook, removed.path)))
        print(f"{verb} {name}: {removed.reason} ({size})", flush=True)
        if removed.by_hand:
            print(f"  including what was installed by hand: {', '.join(removed.by_hand)}", flush=True)


def _whose(overlay: Overlay) -> str:
    if overlay.notebook:
        return overlay.notebook + (" (gone)" if overlay.notebook_gone else "")
    return "(a fork server)" if overlay.warm else "(none)"


def _packages(wheels: Sequence[Wheel]) -> str:
    one = "" if len(wheels) == 1 else "s"
    return f"{len(wheels)} package{one}, {human(sum(wheel.bytes for wheel in wheels))}"


def _kept(kept: Kept) -> str:
    packages = ", ".join(kept.by_hand)
    return (
        f"kept {_named(kept.notebook, kept.path)}: {kept.reason}, but {packages} was installed in it by hand"
    )


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
