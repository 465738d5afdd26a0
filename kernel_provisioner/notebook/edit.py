"""Write extras and the lock into a notebook file, as Jupyter itself would save it.

No value changes but the one that is meant; key order, indentation, line ends and escapes stay.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from ..errors import InvalidRequest
from ..model.request import Request, parse_request
from .contents import KEY, NotebookText
from .edit_text import TextDocument
from .extras import name_of, with_added, without
from .file import read_bytes, refuse, replace
from .json_object import parse_json
from .lock_file import write_lock_beside
from .read import read_notebook, torch_env_of
from .text import is_text

MAX_SIZE = 100 << 20
"""The most bytes in a notebook that is changed: for that it is held in memory, several times."""


@dataclasses.dataclass(frozen=True)
class Edit:
    """What a notebook would declare, which is not written yet: ``extras`` in place of ``before``."""

    before: list[str]
    extras: list[str]
    document: Document
    allow_urls: bool

    @property
    def request(self) -> Request:
        """What the notebook would ask for then; raises InvalidRequest where a launch would refuse it."""
        return self.document.check(self.extras, allow_urls=self.allow_urls)

    @property
    def now(self) -> Request:
        """What the notebook asks for as it is; raises InvalidRequest where a launch refuses it."""
        return self.document.check(self.before, allow_urls=self.allow_urls)

    def write(self) -> list[str]:
        """Write it; the list. Raises NotebookUnreadable, also where the file changed meanwhile."""
        return self.document.write(self.extras)


def adding(path: Path, requirements: Sequence[str], *, allow_urls: bool = False) -> Edit:
    """The notebook with ``requirements`` among its extras, in place of those of the same name.

    In a text notebook they are the dependencies of its PEP 723 block, which is made where there is
    none. Raises InvalidRequest where the result would be refused at launch, and NotebookUnreadable where the
    file cannot be read.
    """
    # First, so that the index told is the caller's own.
    parse_request({"extras": list(requirements)}, allow_urls=allow_urls)
    document = _read(path)
    extras = with_added(document.extras, requirements)
    document.check(extras, allow_urls=allow_urls)
    return Edit(document.extras, extras, document, allow_urls)


def removing(
    path: Path, names: Sequence[str], *, allow_urls: bool = False, beside: Collection[str] = ()
) -> Edit:
    """The notebook without the packages called ``names`` among its extras; some may be ``beside`` these.

    Raises InvalidRequest for a name that is not among them, and NotebookUnreadable like ``adding``. An extra
    that would be refused at launch can be removed, by its exact text.
    """
    document = _read(path)
    extras = document.extras
    for name in names:
        left = without(extras, name)
        if len(left) == len(extras) and name_of(name) not in beside:
            raise document.absent(name, extras)
        extras = left
    return Edit(document.extras, extras, document, allow_urls)


def add_extras(path: Path, requirements: Sequence[str], *, allow_urls: bool = False) -> list[str]:
    """``adding``, written; the new list. Nothing is written where an error is raised."""
    return adding(path, requirements, allow_urls=allow_urls).write()


def remove_extras(path: Path, names: Sequence[str]) -> list[str]:
    """``removing``, written; the new list."""
    return removing(path, names).write()


def write_lock(path: Path, lock: Mapping[str, object]) -> bool:
    """Write ``lock`` into the notebook's metadata, or beside a text notebook; whether that changed it.

    Raises InvalidRequest where the notebook's other metadata would be refused, and
    NotebookUnreadable like ``add_extras``.
    """
    if is_text(path):
        text = read_notebook(path)
        said = text.metadata if isinstance(text.metadata, dict) else {}
        if said.get("lock") == lock:
            return False
        parse_request({**said, "lock": lock}, text.script_blocks)
        write_lock_beside(path, lock)
        return True
    document = _Document.read(path)
    if document.said.get("lock") == lock:
        return False
    parse_request({**document.said, "lock": lock}, document.text.script_blocks)
    replace(document.path, _with(document.source, {"lock": lock}), document.status, like=document.status)
    return True


def write_choice(path: Path, said: Mapping[str, object], kernelspec: Mapping[str, str] | None) -> None:
    """Write ``said`` into the notebook's ``torch_env``, and ``kernelspec`` into its metadata; nothing else.

    Raises InvalidRequest where the result would be refused, and NotebookUnreadable like ``adding``.
    """
    document = _Document.read(path)
    parse_request({**document.said, **said}, document.text.script_blocks)
    kernel = {} if kernelspec is None else {"kernelspec": kernelspec}
    if said or kernel:
        data = _with(document.source, said, kernel)
        replace(document.path, data, document.status, like=document.status)


class Document(Protocol):
    """A notebook file as it was read."""

    @property
    def extras(self) -> list[str]:
        """What it declares, as far as that is changed here; raises InvalidRequest where it is no list."""

    def check(self, extras: list[str], *, allow_urls: bool) -> Request:
        """What it asks for with these extras; raises InvalidRequest where a launch would refuse that."""

    def write(self, extras: list[str]) -> list[str]:
        """Write the file with ``extras``, if they are others, and return them."""

    def absent(self, name: str, extras: list[str]) -> InvalidRequest:
        """Why ``name`` cannot be removed from ``extras``, which are left."""


def _read(path: Path) -> Document:
    return TextDocument.read(path) if is_text(path) else _Document.read(path)


@dataclasses.dataclass(frozen=True)
class _Document:
    """A notebook file as it was read: its text, what it says, and the file's status then."""

    path: Path
    source: str
    text: NotebookText
    status: os.stat_result

    @classmethod
    def read(cls, path: Path) -> _Document:
        path = Path(os.path.realpath(path))  # a link stays a link
        data, status = read_bytes(path, MAX_SIZE, fix="clear its outputs and save it")
        document = parse_json(path, data)
        if not isinstance(document.get("metadata", {}), dict):
            refuse(path, "its metadata is not a JSON object")
        return cls(path, data.decode(), torch_env_of(document), status)

    @property
    def said(self) -> dict[str, object]:
        """The value of ``torch_env``; raises InvalidRequest where it is no object."""
        if not isinstance(self.text.metadata, dict):
            parse_request(self.text.metadata)
            return {}
        return self.text.metadata

    @property
    def extras(self) -> list[str]:
        extras = self.said.get("extras")
        if not isinstance(extras, list) or not all(isinstance(extra, str) for extra in extras):
            parse_request({"extras": extras})
            return []
        return extras

    def check(self, extras: list[str], *, allow_urls: bool) -> Request:
        said, text = {**self.said, "extras": extras}, self.text
        return parse_request(said, text.script_blocks, uv_lock=text.uv_lock, allow_urls=allow_urls)

    def write(self, extras: list[str]) -> list[str]:
        if extras != self.extras:
            replace(self.path, _with(self.source, {"extras": extras}), self.status, like=self.status)
        return extras

    def absent(self, name: str, extras: list[str]) -> InvalidRequest:
        for cell, block in zip(self.text.script_cells, self.text.script_blocks, strict=True):
            declared = parse_request(None, [block])
            names = {name_of(extra) for extra in declared.extras} | ({"torch"} if declared.torch else set())
            if name_of(name) in names:
                return InvalidRequest(
                    f"{name} is not among the extras in the notebook's metadata",
                    field=f"{KEY}.extras",
                    why=f"it is a dependency in the # /// script block of cell {cell}",
                    fix=f"remove {name} from # dependencies in cell {cell}",
                )
        return InvalidRequest(
            f"{name} is not among the extras",
            field=f"{KEY}.extras",
            why=f"they are {', '.join(extras)}" if extras else "the notebook's metadata names none",
            fix="name one of them" if extras else "nothing needs to be removed",
        )


def _with(
    source: str, said: Mapping[str, object], more: Mapping[str, object] = MappingProxyType({})
) -> bytes:
    """The notebook with what is ``said`` in the block, and ``more`` beside it, as Jupyter would save it."""
    document = json.loads(source.removeprefix("\ufeff"))
    metadata = document.setdefault("metadata", {})
    block = metadata.get(KEY)
    if said:
        metadata[KEY] = {**(block if isinstance(block, dict) else {}), **said}
    metadata.update(more)
    return _rendered(document, source).encode()


# A BOM, the line end and indentation before the first key, and its colon with what follows.
_START = re.compile(r'(\ufeff?)\s*\{[ \t]*(\r?\n)?([ \t]*)(?:"(?:[^"\\]|\\.)*"(\s*:[ ]?))?')


def _rendered(document: object, source: str) -> str:
    """``document`` laid out as ``source`` is: its indentation, line ends, escapes and BOM."""
    start = _START.match(source)
    assert start is not None  # it was parsed as an object
    bom, newline, indent, colon = start.groups()
    compact = colon == ":"
    text = json.dumps(
        document,
        indent=indent if newline else None,
        separators=("," if newline or compact else ", ", ":" if compact else ": "),
        ensure_ascii=(source.isascii() and "\\u" in source) or _has_surrogates(document),
    )
    # No string holds a line end that is not escaped.
    return bom + text.replace("\n", newline or "\n") + source[len(source.rstrip()) :]


def _has_surrogates(document: object) -> bool:
    """Whether a string holds half a character, which JSON can escape and UTF-8 cannot write."""
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False
