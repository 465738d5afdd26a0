"""``jupyter overlay du``: what all environments share, and what each of them owns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from ..base.registry import read_register
from ..inkernel.disk import human
from ..prune import Account, Environment, Shared, account
from .common import OverlayApp

_WIDE = 1000  # columns where nobody looks: a file or a pipe gets each row as one line


class DiskUseApp(OverlayApp):
    """Say what bases, notebooks' overlays and project environments take on disk, and what that saves.

    A file that has several names is counted once. What is a hard link to a file that exists
    elsewhere too (in uv's cache, as a rule) is told apart: it takes no room while that is there.
    """

    usage = "jupyter overlay du [--json]"
    description = __doc__
    examples = "jupyter overlay du"

    def run(self) -> int | None:
        """Measure; see the class."""
        self.words(0, 0)
        counted = account(Path(self.settings().overlay_root), read_register().bases)
        if self.json_output:
            self.emit(_data(counted), [])
            return None
        if not counted.bases and not counted.environments:
            self.emit(None, ["nothing yet; jupyter overlay base create cpu  makes a base"])
            return None
        console = self.console
        if not console.is_terminal:
            console.width = _WIDE
        console.print(_inventory(counted))
        console.print()
        console.print(_comparison(counted))
        console.print()
        for note in (*counted.notes, *_caution(counted)):
            console.print(Text(note))
        return None


def _inventory(counted: Account) -> Table:
    table = _table("", "OWN", "LINKED", "FILES")
    for shared in counted.bases:
        table.add_row(_named(shared), *_sizes(shared))
        for entry in counted.environments:
            if entry.base == shared.base.manifest.id:
                table.add_row(Text(f"  {_name(entry)}"), *_sizes(entry))
    known = {shared.base.manifest.id for shared in counted.bases}
    for entry in counted.environments:
        if entry.base not in known:
            table.add_row(Text(f"{_name(entry)}, on {entry.base or 'an unknown base'}"), *_sizes(entry))
    return table


def _comparison(counted: Account) -> Table:
    count = _count(counted)
    table = _table("", "TORCH BASES", "ENVIRONMENTS", "TOGETHER")
    for name, copies, total in (
        ("as it is", len(counted.bases), counted.shared_bytes),
        ("if each were private", count, counted.private_bytes),
    ):
        bases, added = human(total - counted.added_bytes), human(counted.added_bytes)
        table.add_row(name, f"{bases} in {copies}", f"{added} in {count}", human(total))
    table.add_row("saved", "", "", human(max(counted.private_bytes - counted.shared_bytes, 0)))
    return table


def _caution(counted: Account) -> list[str]:
    if not _count(counted):
        return []
    return [
        "Private: made by pip, or by uv on another disk than its cache. uv beside its cache makes hard",
        "links there too, so such environments own little but bytecode, until the cache is emptied.",
    ]


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False)
    for name in names:
        table.add_column(name, justify="right" if name else "left", no_wrap=bool(name), overflow="fold")
    return table


def _sizes(entry: Shared | Environment) -> tuple[str, str, str]:
    used = entry.usage
    return human(used.own_bytes), human(used.linked_bytes), str(used.own_files + used.linked_files)


def _named(shared: Shared) -> Text:
    adopted = ", adopted" if shared.base.manifest.adopted else ""
    one = "" if shared.environments == 1 else "s"
    return Text(f"{shared.base.manifest.id} ({shared.environments} environment{one}{adopted})")


def _name(entry: Environment) -> str:
    name = entry.name or "(no notebook)"
    return (
        name
        if entry.counts
        else f"{name} ({entry.path.name}, {'old' if entry.state == 'ready' else entry.state})"
    )


def _count(counted: Account) -> int:
    return sum(shared.environments for shared in counted.bases)


def _data(counted: Account) -> dict[str, Any]:
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
                **_measured(entry),
            }
            for entry in counted.environments
        ],
        "together": {"own_bytes": counted.together.own_bytes, "linked_bytes": counted.together.linked_bytes},
        "shared_bytes": counted.shared_bytes,
        "private_bytes": counted.private_bytes,
        "notes": list(counted.notes),
    }


def _measured(entry: Shared | Environment) -> dict[str, int]:
    used = entry.usage
    return {
        "own_bytes": used.own_bytes,
        "own_files": used.own_files,
        "linked_bytes": used.linked_bytes,
        "linked_files": used.linked_files,
    }
