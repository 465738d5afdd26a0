"""A failure in the words of a cell: this notebook by its name, and first what the next cell can do."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from .shared.info import Info

_COMMAND = re.compile(
    r"jupyter overlay (add|remove|lock|upgrade|tree|why|base create|base list|base use|du)\b( NOTEBOOK\b)?"
    r"""((?: (?:'[^']*'|"[^"]*"|[^\s;,'")]+))*)"""
)
_LONG = 8  # lines of a reason that are read
_EDITS = ("InvalidRequest", "NoBaseFits")  # what is wrong stands in the notebook


def told_in_cell(failure: dict[str, str], info: Info) -> dict[str, str]:
    """``failure`` with a fix that can be typed into the next cell, and after it what a terminal takes."""
    name = shlex.quote(Path(info.notebook).name) if info.notebook else "NOTEBOOK"

    def rewritten(match: re.Match[str]) -> str:
        command, notebook, words = match[1], match[2] or "", match[3]
        shell = f"jupyter overlay {command}{notebook.replace('NOTEBOOK', name)}{words}"
        return f"%overlay {command}{words}  (in a terminal: {shell})"

    fix = failure.get("fix", "")
    told = _COMMAND.sub(rewritten, fix).replace("NOTEBOOK", name) if info.command else fix
    if info.notebook and failure.get("error") in _EDITS and "save" not in told:
        told += "\nthen save the notebook, and restart the kernel"
    return {**failure, "why": _shortened(failure.get("why", ""), name), "fix": told}


def _shortened(why: str, name: str) -> str:
    """A resolver's reason by its end, where it is long: there it names the two that do not go together."""
    lines = why.splitlines()
    if len(lines) <= _LONG:
        return why
    decisive = [line for line in lines[1:] if "you require" in line][-2:] or lines[-2:]
    count = len(lines) - 1 - len(decisive)
    return "\n".join([
        lines[0], *decisive, f"({count} more lines: %overlay log, or jupyter overlay log {name})"
    ])  # fmt: skip
