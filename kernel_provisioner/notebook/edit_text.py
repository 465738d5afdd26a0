"""Write extras into the PEP 723 block of a text notebook, and change nothing else in the file.

The block is TOML, which tomlkit changes without disturbing what stands around; lines that come out
the same stay the bytes that they were.
"""

from __future__ import annotations

import codecs
import dataclasses
import difflib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InvalidRequest
from ..model.request import Request, parse_request
from .contents import KEY
from .extras import name_of
from .file import read_bytes, replace
from .lock_file import lock_beside
from .script import OPENING, block_of, toml_in
from .text import MAX_SIZE, TextNotebook, parse

_CELLS = {
    "percent": ("# %%", ""),
    "light": ("# +", "# -"),
    "myst": ("```{code-cell} LEXER", "```"),
    "quarto": ("```{python}", "```"),
    "markdown": ("```python", "```"),
}
"""The lines around a code cell, in each form of text notebook."""

_LINE = 100  # characters; a list that is longer is written over several lines


@dataclasses.dataclass(frozen=True)
class TextDocument:
    """A text notebook as it was read, and the file's status then."""

    notebook: TextNotebook
    data: bytes
    status: os.stat_result

    @classmethod
    def read(cls, path: Path) -> TextDocument:
        """The document in a file; raises NotebookUnreadable, and InvalidRequest for a block that is none."""
        path = Path(os.path.realpath(path))  # a link stays a link
        data, status = read_bytes(path, MAX_SIZE)
        document = cls(parse(path, data), data, status)
        if len(document.notebook.blocks) > 1:
            raise InvalidRequest(
                f"{OPENING} stands in {path.name} more than once",
                field=OPENING,
                why="a change of one of them would leave it open which one counts",
                fix="keep one of the blocks, with all dependencies in it",
            )
        try:
            parse_request(None, document._blocks)
        except InvalidRequest as error:
            if error.field == OPENING:  # and no single dependency, which can be removed
                raise
        return document

    @property
    def extras(self) -> list[str]:
        """The dependencies of its block; raises InvalidRequest where they are no list of text."""
        try:
            return dependencies_of(self._toml)
        except TypeError:
            parse_request(None, self._blocks)  # which says where
            raise

    def check(self, extras: list[str], *, allow_urls: bool) -> Request:
        """What it asks for with these extras; raises InvalidRequest where a launch would refuse that."""
        said, lock = self.notebook.torch_env, lock_beside(self.notebook.path)
        if lock is not None and (said is None or isinstance(said, dict)):
            said = {**(said or {}), "lock": lock}
        return parse_request(said, [with_dependencies(self._toml, extras)], allow_urls=allow_urls)

    def write(self, extras: list[str]) -> list[str]:
        """Write the file with ``extras``, if they are others, and return them."""
        if extras != self.extras:
            toml = with_dependencies(self._toml, extras)
            lines = self._changed(toml) if self.notebook.blocks else self._inserted(toml)
            bom = codecs.BOM_UTF8 if self.data.startswith(codecs.BOM_UTF8) else b""
            replace(self.notebook.path, bom + "\n".join(lines).encode(), self.status, like=self.status)
        return extras

    def absent(self, name: str, extras: list[str]) -> InvalidRequest:
        """Why ``name`` cannot be removed from ``extras``, which are left."""
        said = self.notebook.torch_env
        declared = said.get("extras") if isinstance(said, Mapping) else None
        named = [name_of(str(extra)) for extra in declared] if isinstance(declared, list) else []
        if name_of(name) in named:
            return InvalidRequest(
                f"{name} is not among the dependencies in the notebook's {OPENING} block",
                field=f"{KEY}.extras",
                why=f"it is one of the extras under {KEY} in the YAML header",
                fix=f"remove {name} from the extras in the header",
            )
        return InvalidRequest(
            f"{name} is not among the dependencies",
            field=f"{OPENING} dependencies",
            why=f"they are {', '.join(extras)}" if extras else f"the notebook has none in a {OPENING} block",
            fix="name one of them" if extras else "nothing needs to be removed",
        )

    @property
    def _blocks(self) -> list[str]:
        return [toml_in(self.notebook.lines[start:end]) for start, end in self.notebook.blocks]

    @property
    def _toml(self) -> str:
        return (self._blocks or [""])[0]

    def _changed(self, toml: str) -> list[str]:
        """The lines of the notebook with this text in its block."""
        lines = self.notebook.lines
        start, end = self.notebook.blocks[0]
        old, new = lines[start:end], self._ended(block_of(toml))
        while old and new and old[0].rstrip() == new[0].rstrip():
            del old[0], new[0]
            start += 1
        while old and new and old[-1].rstrip() == new[-1].rstrip():
            del old[-1], new[-1]
            end -= 1
        return [*lines[:start], *new, *lines[end:]]

    def _inserted(self, toml: str) -> list[str]:
        """The lines of the notebook with this text in a new cell."""
        lines, form = self.notebook.lines, self.notebook.form
        first, last = _CELLS[form]
        at = self.notebook.first_cell
        before = [""] if at and lines[at - 1].strip() else []
        cell = [first.replace("LEXER", self.notebook.lexer), *block_of(toml), *([last] if last else [])]
        return [*lines[:at], *self._ended([*before, *cell, ""]), *lines[at:]]

    def _ended(self, lines: list[str]) -> list[str]:
        """``lines`` with the line ends of this file."""
        return [f"{line}\r" for line in lines] if self.notebook.lines[0].endswith("\r") else lines


def dependencies_of(toml: str) -> list[str]:
    """The dependencies in the text of a block; raises TypeError where they are no list of text."""
    found = _parsed(toml).get("dependencies", [])
    if not isinstance(found, list) or not all(isinstance(extra, str) for extra in found):
        raise TypeError(f"dependencies = {found!r}")
    return [str(extra) for extra in found]


def _parsed(toml: str) -> Any:
    import tomlkit  # no launch needs it
    from tomlkit.exceptions import TOMLKitError

    try:
        return tomlkit.parse(f"{toml}\n" if toml else "")
    except TOMLKitError as error:
        fix = "change its dependencies by hand"
        raise InvalidRequest(
            f"{OPENING} cannot be changed", field=OPENING, why=str(error), fix=fix
        ) from error


def with_dependencies(toml: str, extras: list[str]) -> str:
    """The text of a block with ``extras`` as its dependencies."""
    document = _parsed(toml)
    listed = document.get("dependencies")
    if listed is None:
        document["dependencies"] = _parsed(_list(extras))["dependencies"]
        return str(document.as_string())
    old = [str(extra) for extra in listed]
    changes = difflib.SequenceMatcher(None, old, extras, autojunk=False).get_opcodes()
    for kind, start, end, begin, stop in reversed(changes):
        if kind == "equal":
            continue
        shared = min(end - start, stop - begin)
        for at in reversed(range(start + shared, end)):
            del listed[at]
        for at in range(stop - begin):
            if at < shared:
                listed[start + at] = extras[begin + at]
            else:
                listed.insert(start + at, extras[begin + at])
    return str(document.as_string())


def _list(extras: list[str]) -> str:
    """A TOML list, on one line where that is short."""
    items = [json.dumps(extra, ensure_ascii=False) for extra in extras]
    line = f"dependencies = [{', '.join(items)}]"
    if len(line) <= _LINE:
        return line
    return "\n".join(["dependencies = [", *(f"    {item}," for item in items), "]"])
