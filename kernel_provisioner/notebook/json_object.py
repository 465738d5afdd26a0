"""Objects in the way of JSON that somebody else wrote: read, with what no reader may let through."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from ..errors import InvalidRequest
from .contents import KEY
from .file import refuse


def parse_json(path: Path, data: bytes) -> dict[object, object]:
    """The JSON object that ``data`` is, in UTF-8 with or without BOM; raises NotebookUnreadable.

    An object that has a key twice comes with the extra key DUPLICATE, under which the key stands.
    """
    if data[:2] == b"\x1f\x8b":
        refuse(path, "it is compressed with gzip", fix="unpack it with gunzip")
    try:
        document = json.loads(data.decode("utf-8-sig"), object_pairs_hook=noting_duplicates)
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
"""See ``noting_duplicates``."""


def noting_duplicates(pairs: list[tuple[object, object]]) -> dict[object, object]:
    """The object with these members; under DUPLICATE a key that it has twice, ``torch_env`` before others."""
    values = dict(pairs)
    if len(values) < len(pairs):
        keys: set[object] = set()
        for key, _ in pairs:
            if key in keys and values.get(DUPLICATE) != KEY:
                values[DUPLICATE] = key
            keys.add(key)
    return values


def check_block(block: object) -> None:
    """Refuse what a reader lets through, a key twice and NaN; raises InvalidRequest."""
    pending = [block]
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            if DUPLICATE in value:
                raise twice(f"{KEY}: {str(value[DUPLICATE])[:40]}")
            pending += value.values()
        elif isinstance(value, list):
            pending += value
        elif isinstance(value, float) and not math.isfinite(value):
            raise InvalidRequest(f"{KEY} holds {value}", field=KEY, why="that is not JSON", fix="remove it")


def twice(key: str) -> InvalidRequest:
    """The refusal of a key that stands there twice."""
    return InvalidRequest(
        f"the key {key} stands in the notebook's metadata twice",
        field=KEY,
        why="it is unclear which of the two counts",
        fix="keep one of them",
    )
