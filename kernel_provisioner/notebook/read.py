"""What a notebook says about its environment, read with bounded work and memory.

The file is somebody else's: it may be gone, half-written, a gigabyte, a pipe, or no notebook at
all. Each of these is NotebookUnreadable, and the kernel then starts on the base alone. What is
said wrongly inside the ``torch_env`` block is an InvalidRequest.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from kernel_provisioner.errors import InvalidRequest, NotebookUnreadable

from .scan import MalformedJson, Scanner, TooMuchWork
from .script import OPENING, find_blocks

KEY = "torch_env"
"""The key in the notebook's metadata."""

JUV_KEY = "uv.lock"
"""The key in the notebook's metadata under which juv keeps the text of uv.lock (juv's _lock.py)."""

MAX_SIZE = 512 << 20
"""The most bytes in a notebook that is read: 0.03 s of work where pictures fill it, and a second where
HTML does. Of plain text and tables less is looked through, see scan.py."""

_SMALL = 1 << 20  # up to here the json module is the faster reader, and checks the whole text
_MAX_PART = 1 << 20  # of torch_env, and of one cell's source
_MAX_SOURCES = 4 << 20  # of all cells that could hold a PEP 723 block
_CLEAR = (
    "clear its outputs and save it, in Jupyter or with: jupyter nbconvert --clear-output --inplace NOTEBOOK"
)


@dataclasses.dataclass(frozen=True)
class NotebookText:
    """The parts of a notebook that this package reads.

    ``metadata`` is the value of ``metadata.torch_env`` as JSON gave it, None where there is none.
    ``script_blocks`` are the TOML texts of PEP 723 blocks, and ``script_cells`` the number of the
    cell that each stands in, counting all cells from 1. ``uv_lock`` is the lock that juv keeps.
    """

    metadata: object = None
    script_blocks: tuple[str, ...] = ()
    script_cells: tuple[int, ...] = ()
    uv_lock: str = ""


def read_notebook(path: Path) -> NotebookText:
    """What the notebook file at ``path`` says.

    Raises NotebookUnreadable, or InvalidRequest for duplicate keys, NaN and unclosed PEP 723
    blocks. Never blocks on pipes and devices. Takes some megabytes of memory, whatever the size, and a
    second at most (text made for it can take two).
    """
    with open_notebook(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_SIZE:
            refuse(
                path,
                f"it is {size / 1e6:,.0f} MB, and the limit is {MAX_SIZE / 1e6:,.0f} MB",
                fix=_CLEAR,
            )
        try:
            if size > _SMALL:
                return _scan(file)
            return _picked(parse_json(path, file.read(_SMALL)))
        except TooMuchWork as error:
            refuse(path, str(error), error, fix=_CLEAR)
        except MalformedJson as error:
            refuse(path, str(error), error)
        except OSError as error:
            refuse(path, error.strerror or str(error), error)


def torch_env_of(nb: Mapping[Any, object]) -> NotebookText:
    """What a notebook that is already in memory says, such as nbclient's; raises InvalidRequest."""
    return _picked(nb)


def open_notebook(path: Path) -> BinaryIO:
    """The notebook file, open for reading bytes; raises NotebookUnreadable unless it is a regular file."""
    try:
        _check_regular(path, path.stat())  # opening some devices already does something
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except NotebookUnreadable:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        fix = "look whether the name and the directory are right"
        refuse(path, error.strerror or str(error), error, fix=fix)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        refuse(path, getattr(error, "strerror", None) or str(error), error)
    file = os.fdopen(handle, "rb")
    try:
        _check_regular(path, os.fstat(handle))
    except NotebookUnreadable:
        file.close()
        raise
    return file


def parse_json(path: Path, data: bytes) -> dict[object, object]:
    """The JSON object that ``data`` is, in UTF-8 with or without BOM; raises NotebookUnreadable.

    An object that has a key twice comes with the extra key DUPLICATE, under which the key stands.
    """
    if data[:2] == b"\x1f\x8b":
        refuse(path, "it is compressed with gzip", fix="unpack it with gunzip")
    try:
        document = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_noting_duplicates)
    except UnicodeDecodeError as error:
        refuse(path, f"it is not UTF-8 text (byte {error.start:,})", error)
    except RecursionError as error:
        refuse(path, "its values are nested too deeply", error)
    except ValueError as error:  # not JSON, or a number of more digits than Python converts
        refuse(path, f"it is not JSON: {error}", error)
    if not isinstance(document, dict):
        refuse(path, "a notebook is a JSON object, and this is not")
    return document


DUPLICATE = object()


def refuse(path: Path, why: str, error: BaseException | None = None, *, fix: str = "") -> NoReturn:
    """Raise NotebookUnreadable for the file at ``path``."""
    raise NotebookUnreadable(
        f"the notebook {path} cannot be read",
        why=why,
        fix=fix or "open it in Jupyter and save it; if that fails, restore it from a checkpoint or a copy",
    ) from error


def _check_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(status.st_mode), "a device")
        refuse(path, f"it is {kind}", fix="choose a notebook file")


def _picked(nb: Mapping[Any, object]) -> NotebookText:
    metadata, cells = nb.get("metadata"), nb.get("cells")
    block = juv = None
    if isinstance(metadata, Mapping):
        if metadata.get(DUPLICATE) == KEY:
            raise _twice(KEY)
        block, juv = metadata.get(KEY), metadata.get(JUV_KEY)
    return _text(
        block,
        juv,
        [
            (number, _source(cell.get("source")))
            for number, cell in enumerate(cells if isinstance(cells, list) else [], 1)
            if isinstance(cell, Mapping) and cell.get("cell_type") == "code"
        ],
    )


def _scan(file: BinaryIO) -> NotebookText:
    """Pick the parts out of a long text; raises MalformedJson, InvalidRequest."""
    if file.read(3) != b"\xef\xbb\xbf":  # the BOM
        file.seek(0)
    scanner = Scanner(file.read)
    block: object = None
    juv: object = None
    sources: list[tuple[int, str]] = []
    for key in scanner.members():
        if key == "metadata":
            block, juv = _scan_metadata(scanner)
        elif key == "cells":
            sources = _scan_cells(scanner)
        else:
            scanner.value()
    if scanner.peek():
        raise MalformedJson("there is more text after the end of the notebook")
    return _text(block, juv, sources)


def _scan_metadata(scanner: Scanner) -> tuple[object, object]:
    """The values of ``torch_env`` and of juv's lock; the latter None where it is too long."""
    block: object = None
    juv: object = None
    seen = False
    if scanner.peek() != b"{":
        scanner.value()
        return block, juv
    for key in scanner.members():
        if key == JUV_KEY:
            kept = scanner.value(keep=_MAX_PART)
            juv = None if kept is None else _json_part(kept)
            continue
        if key != KEY:
            scanner.value()
            continue
        if seen:
            raise _twice(KEY)
        seen = True
        text = scanner.value(keep=_MAX_PART)
        if text is None:
            raise InvalidRequest(
                f"{KEY} is longer than {_MAX_PART:,} bytes",
                field=KEY,
                fix=f'write what the notebook needs, as in "{KEY}": {{"extras": ["transformers>=4.44"]}}',
            )
        block = _json_part(text)
    return block, juv


def _scan_cells(scanner: Scanner) -> list[tuple[int, str]]:
    sources: list[tuple[int, str]] = []
    room = _MAX_SOURCES
    if scanner.peek() != b"[":
        scanner.value()
        return sources
    for number, _ in enumerate(scanner.elements(), 1):
        if scanner.peek() != b"{":
            scanner.value()
            continue
        kind = source = None
        for key in scanner.members():
            if key == "cell_type":
                kind = scanner.value(keep=100)
            elif key == "source":
                source = scanner.value(keep=_MAX_PART)
            else:
                scanner.value()
        if kind == b'"code"' and source and OPENING.encode() in source:
            room -= len(source)
            if room < 0:
                raise MalformedJson(f"its cells hold too much text with {OPENING}")
            sources.append((number, _source(_json_part(source))))
    return sources


def _source(value: object) -> str:
    """The source of a cell, a list of lines or one string; empty where it is neither."""
    return "".join(line for line in value if isinstance(line, str)) if isinstance(value, list | str) else ""


def _json_part(text: bytes) -> object:
    try:
        return json.loads(text.decode(), object_pairs_hook=_noting_duplicates)
    except (ValueError, RecursionError) as error:
        raise MalformedJson(f"a part of it is not JSON: {error}") from error


def _noting_duplicates(pairs: list[tuple[object, object]]) -> dict[object, object]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys: set[object] = set()
        for key, _ in pairs:
            if key in keys and values.get(DUPLICATE) != KEY:
                values[DUPLICATE] = key
            keys.add(key)
    return values


def _text(block: object, juv: object, sources: list[tuple[int, str]]) -> NotebookText:
    _check_block(block)
    found = [(number, script) for number, source in sources for script in find_blocks(source)]
    return NotebookText(
        metadata=block,
        script_blocks=tuple(script for _, script in found),
        script_cells=tuple(number for number, _ in found),
        uv_lock=juv if isinstance(juv, str) else "",
    )


def _check_block(block: object) -> None:
    """Refuse what the json module lets through; raises InvalidRequest."""
    pending = [block]
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            if DUPLICATE in value:
                raise _twice(f"{KEY}: {str(value[DUPLICATE])[:40]}")
            pending += value.values()
        elif isinstance(value, list):
            pending += value
        elif isinstance(value, float) and not math.isfinite(value):
            raise InvalidRequest(f"{KEY} holds {value}", field=KEY, why="that is not JSON", fix="remove it")


def _twice(key: str) -> InvalidRequest:
    return InvalidRequest(
        f"the key {key} stands in the notebook's metadata twice",
        field=KEY,
        why="which of the two counts would be a guess",
        fix="keep one of them",
    )
