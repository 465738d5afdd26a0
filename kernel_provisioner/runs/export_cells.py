"""A notebook's cells as a Python script that compiles: what only IPython runs is a comment."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

from nbformat import NotebookNode

from ..notebook.script import OPENING, spans

_MARK = "# %%"
_IPYTHON = "get_ipython()"  # in what IPython makes of its own syntax
_FUTURE = "from __future__ import "


class Scripted(NamedTuple):
    """The lines of a script, and what to tell of cells that are not in it as they were."""

    lines: list[str]
    notices: list[str]


class _Fault(NamedTuple):
    """Why code does not compile, and in which line; lines count from one, 0 is unknown."""

    why: str
    line: int


class _Block(NamedTuple):
    """The lines of one cell in the script; ``number`` counts the code cells from one, and is 0 for text."""

    number: int
    lines: list[str]


def scripted(cells: Iterable[NotebookNode], *, newer: bool = False) -> Scripted:
    """The script of these cells, each below a ``# %%``.

    ``newer``: it is for a newer Python than this one, so code without IPython's syntax that does not compile
    here stays as it is.
    """
    blocks: list[_Block] = []
    notices: list[str] = []
    number = 0
    for cell in cells:
        number += cell.cell_type == "code"
        source = _readable(cell.source)
        if cell.cell_type != "code":
            if source.strip():
                blocks.append(_Block(0, [f"{_MARK} [markdown]", *_commented(source.split("\n")), ""]))
            continue
        lines = source.split("\n")
        for start, end in reversed(spans(lines)) if OPENING in source else ():
            del lines[start:end]
        if any(line.strip() for line in lines):
            code, told = _plain("\n".join(lines), newer=newer)
            blocks.append(_Block(number, [_MARK, *code.split("\n"), ""]))
            notices += (f"cell {number}{what}" for what in told)
    future = [] if newer else _settled(blocks, notices)
    return Scripted([*future, *itertools.chain(*(block.lines for block in blocks))], notices)


def _readable(source: str) -> str:
    """``source`` with newlines of one kind, and without characters that no Python file may hold."""
    source = source.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\\0")
    return source.encode("utf-8", "backslashreplace").decode()


def _plain(code: str, *, newer: bool) -> tuple[str, list[str]]:
    """The code of a cell as Python, and what to tell of it."""
    if not _fault(code):
        return code, []
    try:
        plain, lost = _translated(code)
    except SyntaxError:  # its indentation
        plain, lost = code, []
    fault = _fault(plain)
    if fault and not (newer and plain == code):
        return "\n".join(_commented(code.split("\n"))), [f" is a comment: {fault.why}"]
    return plain, [f": {line} is a comment, since only IPython can assign that" for line in lost]


def _translated(code: str) -> tuple[str, list[str]]:
    """``code`` without IPython's syntax, and the assignments that are comments now; raises SyntaxError.

    IPython translates one piece after the other. Where that makes a call of IPython, there is a comment.
    """
    # Slow to import, and most cells are Python.
    from IPython.core.inputtransformer2 import TransformerManager, cell_magic

    manager = TransformerManager()  # type: ignore[no-untyped-call]
    lines = f"{code}\n".splitlines(keepends=True)
    cleanups: list[Any] = manager.cleanup_transforms  # indentation of a whole cell, prompts
    for cleanup in cleanups:
        lines = cleanup(lines)
    if cell_magic(lines) != lines:  # type: ignore[no-untyped-call]
        return "\n".join(_commented(code.split("\n"))), []
    lost = []
    changed, after = manager.do_one_token_transform(lines)  # type: ignore[no-untyped-call]
    while changed:
        start = next(at for at, (old, new) in enumerate(zip(lines, after, strict=False)) if old != new)
        piece = [line.strip() for line in lines[start : start + 1 + len(lines) - len(after)]]
        call = after[start].lstrip()
        if _IPYTHON in call:
            indent = after[start].removesuffix(call)
            piece[0] = f"pass  # {piece[0]}" if indent else f"# {piece[0]}"
            after[start : start + 1] = [
                f"{indent}{line}\n" for line in (piece[0], *(f"# {more}" for more in piece[1:]))
            ]
            if not call.startswith(_IPYTHON):
                lost.append(lines[start].strip())
                after.insert(start, f"{indent}# only IPython can assign this:\n")
        lines = after
        changed, after = manager.do_one_token_transform(lines)  # type: ignore[no-untyped-call]
    return "".join(lines).removesuffix("\n"), lost


def _settled(blocks: list[_Block], notices: list[str]) -> list[str]:
    """Let the cells compile as one file; the imports from ``__future__`` that have to stand on its top.

    A cell that does not compile after the others (``global x`` after ``x = 1``) becomes a comment.
    """
    future: list[str] = []
    while fault := _fault("\n".join([*future, *itertools.chain(*(block.lines for block in blocks))])):
        at = fault.line - 1 - len(future)
        for block in blocks:
            if at < len(block.lines):
                break
            at -= len(block.lines)
        else:
            break
        if all(line.startswith("#") for line in block.lines[:-1]):
            break
        line = block.lines[at]
        if line.startswith(_FUTURE) and "(" not in line:
            future.append(line)
            block.lines[at] = f"# {line}"
        else:
            block.lines[1:-1] = _commented(block.lines[1:-1])
            notices.append(f"cell {block.number} is a comment: {fault.why}")
    return future


def _fault(code: str) -> _Fault | None:
    """What is wrong with code, as a file of its own; None where it compiles."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on the author's code
            compile(code, "<cell>", "exec", dont_inherit=True)
    except SyntaxError as error:
        return _Fault(error.msg, error.lineno or 0)
    except (ValueError, OverflowError, RecursionError, MemoryError) as error:
        return _Fault(str(error) or type(error).__name__, 0)
    return None


def _commented(lines: Iterable[str]) -> list[str]:
    return [f"# {line}".rstrip() for line in lines]
