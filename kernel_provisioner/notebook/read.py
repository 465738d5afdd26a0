"""What a notebook says about its environment, read with bounded work and memory.

The file is somebody else's: it may be gone, half-written, a gigabyte, a pipe, or no notebook at
all. Each of these is NotebookUnreadable, and the kernel then starts on the base alone. What is
said wrongly inside the ``torch_env`` block is an InvalidRequest.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InvalidRequest
from .contents import JUV_KEY, KEY, NotebookText
from .file import read_bytes, refuse
from .json_object import DUPLICATE, check_block, noting_duplicates, parse_json, twice
from .script import OPENING, find_blocks
from .text import is_text, load, read_text

MAX_SIZE = 128 << 20
"""The most bytes in a notebook that is read: it is held in memory once, for a tenth of a second."""

_SMALL = 1 << 20  # up to here the json module is the faster reader, and checks the whole text
_MAX_DECODED = 16 << 20  # bytes of JSON that become Python values: 0.3 s
_MAX_VALUES = 2_000_000  # in the cells of a large notebook that holds a PEP 723 block
_MAX_PART = 1 << 20  # of torch_env, and of one cell's source
_MAX_SOURCES = 4 << 20  # of all cells that could hold a PEP 723 block
_CLEAR = (
    "clear its outputs and save it, in Jupyter or with: jupyter nbconvert --clear-output --inplace NOTEBOOK"
)


def read_notebook(path: Path) -> NotebookText:
    """What the notebook file at ``path`` says.

    Raises NotebookUnreadable, or InvalidRequest for duplicate keys, NaN and unclosed PEP 723
    blocks. Never blocks on pipes and devices. Takes a second at most, and a few times the text's size
    in memory.
    """
    if is_text(path):
        return read_text(path)
    data, _ = read_bytes(path, MAX_SIZE, fix=_CLEAR)
    return _picked(parse_json(path, data)) if len(data) <= _SMALL else _read_large(path, data)


def named_kernel(path: Path) -> str:
    """The kernel that the notebook file names, empty where it names none; raises NotebookUnreadable."""
    if is_text(path):
        return load(path).kernel
    return kernel_of(path, parse_json(path, read_bytes(path, MAX_SIZE, fix=_CLEAR)[0]))


def kernel_of(path: Path, nb: Mapping[Any, object]) -> str:
    """The kernel that a notebook in memory names; raises NotebookUnreadable, for ``path``, if it is none."""
    metadata = nb.get("metadata")
    if not isinstance(metadata, Mapping):
        refuse(path, "it has no metadata")
    spec = metadata.get("kernelspec")
    return str(spec.get("name", "")) if isinstance(spec, Mapping) else ""


def torch_env_of(nb: Mapping[Any, object]) -> NotebookText:
    """What a notebook that is already in memory says, such as nbclient's; raises InvalidRequest."""
    return _picked(nb)


def _picked(nb: Mapping[Any, object]) -> NotebookText:
    metadata, cells = nb.get("metadata"), nb.get("cells")
    block = juv = None
    if isinstance(metadata, Mapping):
        if metadata.get(DUPLICATE) == KEY:
            raise twice(KEY)
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


def _read_large(path: Path, data: bytes) -> NotebookText:
    """What a long text says; what is not asked for, outputs above all, is passed over undecoded.

    msgspec takes what JSON is. What only the json module takes besides (NaN in an output) is left to it,
    where the text is not too long.
    """
    import msgspec  # a launch pays for it only where a notebook is large

    try:
        wanted = ("metadata", "cells") if OPENING.encode() in data else ("metadata",)
        nb = _members(data.removeprefix(codecs.BOM_UTF8), *wanted)
        cells = _cells(path, nb.get("cells", b""))
        return _picked({"metadata": _metadata(path, nb["metadata"]), "cells": cells})
    except msgspec.DecodeError as error:
        if len(data) > _MAX_DECODED:
            refuse(path, f"it is not JSON: {error}", error, fix=_CLEAR)
    except RecursionError as error:
        refuse(path, "its values are nested too deeply", error)
    return _picked(parse_json(path, data))


def _metadata(path: Path, raw: bytes) -> object:
    """The metadata that are read, of what may hold megabytes of widgets besides."""
    if raw.count(f'"{KEY}"'.encode()) > 1:  # as a key twice, or somewhere else altogether
        return _decoded(path, raw)
    if not raw.startswith(b"{"):
        return None
    kept = _members(raw, KEY, JUV_KEY)
    if len(kept[KEY]) > _MAX_PART:
        raise InvalidRequest(
            f"{KEY} is longer than {_MAX_PART:,} bytes",
            field=KEY,
            fix=f'write what the notebook needs, as in "{KEY}": {{"extras": ["transformers>=4.44"]}}',
        )
    juv = kept[JUV_KEY] if len(kept[JUV_KEY]) <= _MAX_PART else b"null"
    return {KEY: _decoded(path, kept[KEY]), JUV_KEY: _decoded(path, juv)}


def _cells(path: Path, raw: bytes) -> list[object]:
    """The cells, of which those that hold no PEP 723 block are left empty."""
    import msgspec

    if not raw.startswith(b"["):
        return []
    if raw.count(b",") > _MAX_VALUES:
        refuse(path, f"its cells hold more than {_MAX_VALUES:,} values", fix=_CLEAR)
    cells: list[object] = []
    room = _MAX_SOURCES
    for cell in map(bytes, msgspec.json.decode(raw, type=list[msgspec.Raw])):
        parts = _members(cell, "cell_type", "source") if cell[:1] == b"{" and OPENING.encode() in cell else {}
        kept = {name: part for name, part in parts.items() if len(part) <= _MAX_PART}
        room -= sum(map(len, kept.values()))
        if room < 0:
            refuse(path, f"its cells hold too much text with {OPENING}")
        cells.append({name: _decoded(path, part) for name, part in kept.items()})
    return cells


def _members(raw: bytes, *names: str) -> dict[str, bytes]:
    """The JSON texts of these members of an object, ``null`` for what it has not.

    Raises msgspec.DecodeError where ``raw`` is no object, and RecursionError.
    """
    import msgspec

    null = msgspec.Raw(b"null")
    fields = [(f"field{at}", msgspec.Raw, null) for at, _ in enumerate(names)]
    rename = {f"field{at}": name for at, name in enumerate(names)}
    found = msgspec.json.decode(raw, type=msgspec.defstruct("Members", fields, rename=rename))
    return {name: bytes(getattr(found, field)) for field, name in rename.items()}


def _decoded(path: Path, part: bytes) -> object:
    """The value of a part of the text; raises NotebookUnreadable."""
    if len(part) > _MAX_DECODED:
        refuse(path, f"a part of it is longer than {_MAX_DECODED / 1e6:,.0f} MB", fix=_CLEAR)
    try:
        return json.loads(part.decode(), object_pairs_hook=noting_duplicates)
    except (ValueError, RecursionError) as error:
        refuse(path, f"a part of it is not JSON: {error}", error)


def _source(value: object) -> str:
    """The source of a cell, a list of lines or one string; empty where it is neither."""
    return "".join(line for line in value if isinstance(line, str)) if isinstance(value, list | str) else ""


def _text(block: object, juv: object, sources: list[tuple[int, str]]) -> NotebookText:
    check_block(block)
    found = [(number, script) for number, source in sources for script in find_blocks(source)]
    return NotebookText(
        metadata=block,
        script_blocks=tuple(script for _, script in found),
        script_cells=tuple(number for number, _ in found),
        uv_lock=juv if isinstance(juv, str) else "",
    )
