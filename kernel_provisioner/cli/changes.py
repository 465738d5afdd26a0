"""Which packages would change, as lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..inkernel.shared.disk import human

_SIGNS = {"add": "+", "remove": "-", "upgrade": "↑", "downgrade": "↓", "replace": "~"}


def change_lines(changes: Mapping[str, Any]) -> list[str]:
    """What ``runs.changes`` found, a line for each package, and what remains open."""
    lines = [*changes["notices"], *(package_line(change) for change in changes["packages"])]
    if changes["waits"]:
        lines.append(f"more is known once a cell has run: {changes['waits'].splitlines()[-1]}")
    elif not changes["packages"]:
        lines.append("no package would change")
    if changes["bytes"] and changes["packages"]:
        lines.append(f"at most {human(changes['bytes'])} to fetch")
    return lines


def package_line(change: Mapping[str, str]) -> str:
    """One package that changes: its versions before and after."""
    old, new = change["from"], change["to"]
    if change["what"] == "replace":
        return f"  ~ {change['name']} {new}, in this notebook only; the base has {old}"
    if change["what"] == "remove":
        return f"  - {change['name']} {old}" + (f"; the base's {new} takes its place" if new else "")
    versions = " → ".join(filter(None, (old, new)))
    return f"  {_SIGNS[change['what']]} {change['name']} {versions}"
