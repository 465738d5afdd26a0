"""``jupyter overlay du``: what all environments share, and what each of them owns."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from ..base.registry import read_register
from ..collector import Account, Environment, Shared, account
from ..inkernel.shared.disk import human
from ..runs.disk import account_data, shared_by_place
from .common import OverlayApp

_WIDE = 1000  # columns where nobody looks: a file or a pipe gets each row as one line


class DiskUseApp(OverlayApp):
    """Show the disk space of bases, overlays and project environments, and how much sharing saves.

    Each file is counted once, even with several names. What an environment has by links to the wheel store,
    and by hard links to files elsewhere, is listed separately: it takes no extra space.
    """

    usage = "jupyter overlay du [--json]"
    description = __doc__
    examples = "jupyter overlay du"

    def run(self) -> int | None:
        """Measure; see the class."""
        self.words(0, 0)
        with self.working("Measuring"):
            counted = account(Path(self.settings().overlay_root), read_register().bases)
        if self.json_output:
            self.emit(account_data(counted), [])
            return None
        if not counted.bases and not counted.environments:
            self.emit(None, ["nothing yet. Create a base: jupyter overlay base create cpu"])
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
    places = {"wheel store": list(counted.wheels.values())}
    places |= {f"shared wheel store {path}": sizes for path, sizes in shared_by_place(counted).items()}
    for words, sizes in places.items():
        if sizes:
            one = "" if len(sizes) == 1 else "s"
            named = f"{words} ({len(sizes)} package{one}, linked from environments)"
            table.add_row(Text(named), human(sum(sizes)), human(0), "")
    known = {shared.base.manifest.id for shared in counted.bases}
    for entry in counted.environments:
        if entry.base not in known:
            table.add_row(Text(f"{_name(entry)}, on {entry.base or 'an unknown base'}"), *_sizes(entry))
    return table


def _comparison(counted: Account) -> Table:
    count = _count(counted)
    table = _table("", "TORCH BASES", "ENVIRONMENTS", "TOGETHER")
    for name, copies, total, packages in (
        ("as it is", len(counted.bases), counted.shared_bytes, counted.store_bytes),
        ("if each were private", count, counted.private_bytes, counted.package_bytes),
    ):
        added = counted.added_bytes + packages
        table.add_row(name, f"{human(total - added)} in {copies}", f"{human(added)} in {count}", human(total))
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
    linked = used.linked_bytes + (entry.store_bytes if isinstance(entry, Environment) else 0)
    return human(used.own_bytes), human(linked), str(used.own_files + used.linked_files)


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
