"""A ``# /// script`` cell that is run: what it adds is installed now, the rest needs a restart.

A declaration counts at the next start only where it is in the file; so a cell that shows another one than
the saved notebook is told of.
"""

from __future__ import annotations

import ast
import contextlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .shared.info import Info
from .shared.packages import named_in, plain

OPENING = "# /// script"
_BLOCK = re.compile(r"^# /// script[ \t]*\n((?:#(?:| .*)\n)*?)# ///[ \t]*$", re.MULTILINE)
_LARGEST = 32 << 20  # bytes of a notebook that is looked into for a saved declaration


class ScriptCells:
    """Applies such cells, each declaration once.

    ``known`` are the requirements that are installed already, ``plain``. ``add`` installs others, says what
    came, and lets them be known.
    """

    def __init__(self, info: Info, known: set[str], add: Callable[[list[str]], None]) -> None:
        self._info, self._known, self._add = info, known, add
        self._told: set[str] = set()

    def apply(self, code: str) -> None:
        """Apply the block in ``code``, if there is one; raises what ``add`` raises."""
        block = _BLOCK.search(f"{code}\n")
        said = _parsed(block[1]) if block else None
        if block is None or said is None:  # which a launch will refuse, with what is wrong
            return
        wanted = [text for text in said.get("dependencies", ()) if isinstance(text, str)]
        new = [text for text in wanted if named_in(text) != "torch" and plain(text) not in self._known]
        if new:
            self._add(new)
        later = self._needs_restart(wanted, str(said.get("requires-python", "")))
        for text in later if block[0] not in self._told else ():
            print(f"{text}: the base is chosen at the start. Save the notebook, then restart the kernel.")
        self._told.add(block[0])
        if self._info.notebook and not _is_saved(Path(self._info.notebook), block[0]):
            print(
                "This declaration is not in the saved notebook: save it, or the next start does not count it."
            )

    def _needs_restart(self, wanted: list[str], python: str) -> list[str]:
        """What is asked of the base, and was not when this kernel started."""
        asked = {part for spec in (self._info.torch,) for part in _parts(spec)}
        torch = [text for text in wanted if named_in(text) == "torch"]
        changed = [text for text in torch if not _parts(plain(text).removeprefix("torch")) <= asked]
        if not _parts(python) <= _parts(self._info.requires_python):
            changed.append(f"requires-python {python}")
        return changed


def _parsed(lines: str) -> dict[str, Any] | None:
    """What the comment lines of a block say, None where that is no TOML."""
    text = "\n".join(line[2:] for line in lines.splitlines())
    if sys.version_info >= (3, 11):
        import tomllib

        try:
            return tomllib.loads(text)
        except ValueError:
            return None
    listed = re.search(r"^dependencies\s*=\s*(\[.*?^?\])", text, re.MULTILINE | re.DOTALL)
    python = re.search(r"""^requires-python\s*=\s*["'](.*?)["']""", text, re.MULTILINE)
    try:
        found = ast.literal_eval(listed[1]) if listed else []
    except (SyntaxError, ValueError):
        return None
    return {"dependencies": found, "requires-python": python[1] if python else ""}


def _parts(specifier: str) -> set[str]:
    return {part.strip() for part in specifier.replace(" ", "").split(",") if part.strip()}


def _is_saved(notebook: Path, block: str) -> bool:
    """Whether the file of a notebook holds this block; also true where nobody can tell."""
    try:
        if notebook.stat().st_size > _LARGEST:
            return True
        text = notebook.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n")
    except OSError:
        return True
    if notebook.suffix != ".ipynb":
        return block in text
    with contextlib.suppress(ValueError, AttributeError, TypeError):
        sources = (cell.get("source", "") for cell in json.loads(text).get("cells", ()))
        return any(block in (source if isinstance(source, str) else "".join(source)) for source in sources)
    return True
