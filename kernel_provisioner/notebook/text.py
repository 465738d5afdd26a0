"""Text notebooks: scripts and Markdown that jupytext, MyST and Quarto open as notebooks.

What such a notebook says stands in its YAML header or in a PEP 723 block of its code; its lock, which
is long, in a file beside it. The file is somebody else's, like any notebook: see read.py.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import InvalidRequest, NotebookUnreadable
from .contents import KEY, NotebookText
from .file import open_notebook, read_bytes, refuse
from .header import MAX_HEADER, Header, MalformedHeader, find_header, values
from .json_object import check_block
from .lock_file import lock_beside
from .script import OPENING, spans, toml_in

MAX_SIZE = 4 << 20
"""The most bytes in a text notebook that is read. It holds no outputs."""

_SCRIPTS = frozenset({".py"})
_MYST = frozenset({".myst", ".mystnb", ".mnb"})
_QUARTO = frozenset({".qmd"})
_MARKDOWN = frozenset({".md", ".markdown"})

_PERCENT = re.compile(r"#\s?%%(\s|$)")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,}|:{3,})(.*)$")
_CODE_CELL = re.compile(r"\{code-cell\}\s*(\S*)")
_CODE_INFO = {
    "myst": _CODE_CELL,
    "quarto": re.compile(r"\{python\b"),
    "markdown": re.compile(r"\s*(python3?|PYTHON3?)(?!.*\.noeval\b)(\s|$)"),
}


def is_text(path: Path) -> bool:
    """Whether a notebook of this name is a text notebook."""
    return path.suffix.lower() in _SCRIPTS | _MYST | _QUARTO | _MARKDOWN


def names_kernel(path: Path) -> bool:
    """Whether a file of such a name is meant as a notebook: its header names a kernel. Never raises."""
    try:
        with open_notebook(path) as file:
            head = file.read(MAX_HEADER).decode(errors="ignore")
        return bool(TextNotebook(path, head.removeprefix("\ufeff")).kernel)
    except (NotebookUnreadable, OSError):
        return False


def read_text(path: Path) -> NotebookText:
    """What the text notebook at ``path`` says, with the lock that lies beside it.

    Raises NotebookUnreadable, or InvalidRequest for what is said twice and unclosed PEP 723 blocks.
    """
    notebook = load(path)
    blocks = tuple(toml_in(notebook.lines[start:end]) for start, end in notebook.blocks)
    return with_lock(NotebookText(notebook.torch_env, blocks), path)


def with_lock(text: NotebookText, path: Path) -> NotebookText:
    """What the notebook at ``path`` says, with the lock that lies beside it; raises NotebookUnreadable."""
    said, lock = text.metadata, lock_beside(path)
    if lock is None or not isinstance(said, dict | None):
        return text
    said = {**(said or {}), "lock": lock}
    check_block(said)
    return dataclasses.replace(text, metadata=said)


def load(path: Path) -> TextNotebook:
    """The text notebook at ``path``; raises NotebookUnreadable."""
    return parse(path, read_bytes(path, MAX_SIZE)[0])


def parse(path: Path, data: bytes) -> TextNotebook:
    """The text notebook with this content, as UTF-8 with or without BOM; raises NotebookUnreadable."""
    try:
        return TextNotebook(path, data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        refuse(path, f"it is not UTF-8 text (byte {error.start:,})", error, fix="save it as UTF-8")


@dataclasses.dataclass(frozen=True)
class TextNotebook:
    """The text of a notebook, and where in it there is what this package reads."""

    path: Path
    text: str

    @functools.cached_property
    def lines(self) -> list[str]:
        """The lines, some with a carriage return at their end."""
        return self.text.split("\n")

    @functools.cached_property
    def header(self) -> Header:
        """The YAML header."""
        return find_header(self.lines, script=self.path.suffix.lower() in _SCRIPTS)

    @functools.cached_property
    def form(self) -> str:
        """How cells are told apart: ``percent``, ``light``, ``myst``, ``quarto`` or ``markdown``."""
        suffix = self.path.suffix.lower()
        if suffix in _SCRIPTS:
            return "percent" if any(map(_PERCENT.match, self.lines)) else "light"
        if suffix in _QUARTO:
            return "quarto"
        myst = suffix in _MYST or re.search(
            r"^\s*format_name:\s*['\"]?myst\b", self.header.text, re.MULTILINE
        )
        return "myst" if myst or any(_CODE_CELL.match(info) for info, _, _ in self._fences()) else "markdown"

    @property
    def first_cell(self) -> int:
        """The number of the line before which a new cell goes: behind the title, and before other cells."""
        lines = self.lines
        filled = [at for at in range(self.header.after, len(lines)) if lines[at].strip()]
        if self.form == "percent":  # what stands before the first marker is a cell that has none
            filled = [at for at in filled if _PERCENT.match(lines[at])]
        elif self.form != "light" and filled and lines[filled[0]].startswith("# "):
            filled = filled[1:] or [filled[0] + 1]
        return filled[0] if filled else self.header.after

    @property
    def lexer(self) -> str:
        """What MyST code cells here name as their language."""
        named = (_CODE_CELL.match(info) for info, _, _ in self._fences())
        return next((match[1] for match in named if match and match[1]), "ipython3")

    @functools.cached_property
    def torch_env(self) -> object:
        """The value of ``torch_env``; raises NotebookUnreadable, and InvalidRequest where it stands twice."""
        if KEY not in self.header.text:
            return None
        found = [value for value in self.said((KEY,), ("jupyter", KEY)) if value is not None]
        if len(found) > 1:
            raise InvalidRequest(
                f"{KEY} stands in the notebook's YAML header twice",
                field=KEY,
                why="once at the top, and once under jupyter; it is unclear which of the two counts",
                fix="keep the one under jupyter",
            )
        block = found[0] if found else None
        check_block(block)
        return block

    @property
    def kernel(self) -> str:
        """The name of the kernel that the header names; empty where it names none."""
        named = self.said(("kernelspec", "name"), ("jupyter", "kernelspec", "name"), ("jupyter",))
        return next((name for name in named if isinstance(name, str)), "")

    def said(self, *wanted: tuple[str, ...]) -> list[object]:
        """The values in the header at these paths, None for what is not there; raises NotebookUnreadable."""
        if not self.header.text:
            return [None] * len(wanted)
        try:
            found = values(self.header, wanted)
        except MalformedHeader as error:
            fix = 'correct it; versions need quotes there, as in torch: ">=2.6"'
            refuse(self.path, str(error), error, fix=fix)
        return [found.get(path) for path in wanted]

    @functools.cached_property
    def blocks(self) -> list[tuple[int, int]]:
        """Where PEP 723 blocks stand in code; see ``spans``, also for what is raised.

        In a script that is anywhere, as PEP 723 has it; in Markdown, in code cells.
        """
        if OPENING not in self.text:
            return []
        if self.form in ("percent", "light"):
            return spans(self.lines)
        code = _CODE_INFO[self.form]
        return [
            (start + first, start + after)
            for info, start, end in self._fences()
            if code.match(info)
            for first, after in spans(self.lines[start:end])
        ]

    def _fences(self) -> Iterator[tuple[str, int, int]]:
        """The fenced blocks behind the header: info string, first line inside, and the one after the last."""
        return _fences(self.lines, self.header.after)


def _fences(lines: Sequence[str], begin: int) -> Iterator[tuple[str, int, int]]:
    """Source: https://spec.commonmark.org/0.31.2/#fenced-code-blocks, and MyST's with colons."""
    fence, info, start = "", "", 0
    for number in range(begin, len(lines)):
        match = _FENCE.match(lines[number])
        if not match:
            continue
        marks, rest = match.groups()
        if not fence:
            if marks[0] == "`" and "`" in rest:  # code within a line
                continue
            if marks[0] == ":" and not _CODE_CELL.match(rest.strip()):  # holds Markdown, not code
                continue
            fence, info, start = marks, rest.strip(), number + 1
        elif marks[0] == fence[0] and len(marks) >= len(fence) and not rest.strip():
            yield info, start, number
            fence = ""
    if fence:
        yield info, start, len(lines)
