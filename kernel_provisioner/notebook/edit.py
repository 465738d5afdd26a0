"""Write extras and the lock into a notebook file without touching anything else in it.

The bytes around the changed value stay as they are, whoever wrote them and however: indentation,
key order, escapes, line ends. The new text follows the file's own manner.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from kernel_provisioner.errors import InvalidRequest, NotebookUnreadable
from kernel_provisioner.request import parse_request

from .read import KEY, NotebookText, open_notebook, parse_json, refuse, torch_env_of

MAX_SIZE = 100 << 20
"""The most bytes in a notebook that is changed: for that it is held in memory, several times."""


def add_extras(path: Path, requirements: Sequence[str], *, allow_urls: bool = False) -> list[str]:
    """Add ``requirements`` to the notebook's extras, in place of those of the same name; the new list.

    Raises InvalidRequest and writes nothing where the result would be refused at launch, and
    NotebookUnreadable where the file cannot be read or written, or changes meanwhile.
    """
    # First, so that the index told is the caller's own.
    parse_request({"extras": list(requirements)}, allow_urls=allow_urls)
    document = _Document.read(path)
    extras = document.extras
    for new in (requirement.strip() for requirement in requirements):
        same = [at for at, old in enumerate(extras) if _name(old) == _name(new)]
        extras = [new if at in same else old for at, old in enumerate(extras) if at not in same[1:]]
        if not same:
            extras.append(new)
    parse_request({**document.said, "extras": extras}, document.text.script_blocks, allow_urls=allow_urls)
    return document.write(extras)


def remove_extras(path: Path, names: Sequence[str]) -> list[str]:
    """Remove the packages called ``names`` from the notebook's extras; the new list.

    Raises InvalidRequest for a name that is not among them, and NotebookUnreadable like
    ``add_extras``. An extra that would be refused at launch can be removed, by its exact text.
    """
    document = _Document.read(path)
    extras = document.extras
    for name in names:
        left = [extra for extra in extras if extra != name and _name(extra) != _name(name)]
        if len(left) == len(extras):
            raise _absent(name, extras, document.text)
        extras = left
    return document.write(extras)


def write_lock(path: Path, lock: Mapping[str, object]) -> bool:
    """Write ``lock`` into the notebook's metadata; whether that changed it.

    Raises InvalidRequest where the notebook's other metadata would be refused, and
    NotebookUnreadable like ``add_extras``.
    """
    document = _Document.read(path)
    if document.said.get("lock") == lock:
        return False
    parse_request({**document.said, "lock": lock}, document.text.script_blocks)
    _replace(document.path, _with(document.source, "lock", lock).encode(), document.status)
    return True


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
        with open_notebook(path) as file:
            status = os.fstat(file.fileno())
            if status.st_size > MAX_SIZE:
                refuse(
                    path, f"it is larger than {MAX_SIZE / 1e6:,.0f} MB", fix="clear its outputs and save it"
                )
            data = file.read()
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

    def write(self, extras: list[str]) -> list[str]:
        if extras != self.extras:
            _replace(self.path, _with(self.source, "extras", extras).encode(), self.status)
        return extras


def _with(source: str, key: str, content: object) -> str:
    """The text of the notebook with ``content`` under this key of the block and no other change."""
    start, end = _skip(source, 1 if source.startswith("\ufeff") else 0), len(source)
    style = _Style.of(source, start)
    keys = ["metadata", KEY, key]
    while keys and source[start] == "{":
        name = keys.pop(0)
        members = dict(_members(source, start))
        if name not in members:
            value = functools.reduce(lambda inner, outer: {outer: inner}, reversed(keys), content)
            return _with_member(source, start, members, f"{json.dumps(name)}{style.colon}", value, style)
        start, end = members[name]
    value = functools.reduce(lambda inner, outer: {outer: inner}, reversed(keys), content)
    old = source[start:end]
    one_line = style.unit is None or ("\n" not in old and old.startswith("[") and old != "[]")
    text = style.line(value) if one_line else style.lines(value, _indentation(source, start))
    return source[:start] + text + source[end:]


def _with_member(
    source: str,
    start: int,
    members: dict[str, tuple[int, int]],
    key: str,
    value: object,
    style: _Style,
) -> str:
    """``source`` with one more member at the end of the object at ``start``."""
    lead = source[start + 1 : _skip(source, start + 1)]
    if members:
        end = max(end for _, end in members.values())
        if "\n" not in lead:
            return source[:end] + style.comma + key + style.line(value) + source[end:]
        return source[:end] + "," + lead + key + style.lines(value, lead.rpartition("\n")[2]) + source[end:]
    rest = source[start + 1 + len(lead) :]
    if style.unit is None:
        return source[: start + 1] + key + style.line(value) + rest
    outer = _indentation(source, start)
    inner = outer + style.unit
    return (
        source[: start + 1]
        + style.newline
        + inner
        + key
        + style.lines(value, inner)
        + style.newline
        + outer
        + rest
    )


@dataclasses.dataclass(frozen=True)
class _Style:
    """How the file is laid out. ``unit`` is one level of indentation, None where all is on one line."""

    unit: str | None
    newline: str
    colon: str

    @classmethod
    def of(cls, source: str, start: int) -> _Style:
        """The style of the object at ``start``."""
        lead = source[start + 1 : _skip(source, start + 1)]
        _, key_end = (
            _value(source, start + 1 + len(lead)) if source[start + 1 + len(lead)] == '"' else ("", start)
        )
        value_at = _skip(source, _skip(source, key_end) + 1)
        colon = source[key_end:value_at] if key_end > start else ": "
        return cls(
            unit=lead.rpartition("\n")[2] if "\n" in lead else None,
            newline="\r\n" if "\r\n" in lead else "\n",
            colon=colon if "\n" not in colon else ": ",
        )

    @property
    def comma(self) -> str:
        """What stands between two values on one line."""
        return "," if self.colon == ":" else ", "

    def line(self, value: object) -> str:
        """``value`` on one line."""
        return json.dumps(value, separators=(self.comma, self.colon))

    def lines(self, value: object, indentation: str) -> str:
        """``value`` over several lines, in a line that starts with ``indentation``."""
        text = json.dumps(value, indent=self.unit, separators=(",", self.colon))
        return text.replace("\n", self.newline + indentation)


_SPACE = re.compile(r"[ \t\r\n]*")


def _skip(source: str, at: int) -> int:
    space = _SPACE.match(source, at)
    return space.end() if space else at


def _indentation(source: str, at: int) -> str:
    """The white space that starts the line of ``at``."""
    line = source.rfind("\n", 0, at) + 1
    return source[line : _skip(source, line)]


def _value(source: str, at: int) -> tuple[object, int]:
    """The JSON value at ``at`` and where it ends; the text is known to be JSON."""
    return json.JSONDecoder().raw_decode(source, at)


def _members(source: str, start: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """The keys of the object at ``start``, each with where its value stands."""
    at = _skip(source, start + 1)
    while source[at] != "}":
        key, at = _value(source, at)
        at = _skip(source, _skip(source, at) + 1)  # the colon
        end = _value(source, at)[1]
        yield str(key), (at, end)
        at = _skip(source, end)
        if source[at] == ",":
            at = _skip(source, at + 1)


def _replace(path: Path, data: bytes, before: os.stat_result) -> None:
    """Put ``data`` in place of the file that ``before`` describes, whole or not at all."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:60]}.", suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                own = os.fstat(handle)
                if (own.st_uid, own.st_gid) != (before.st_uid, before.st_gid):
                    os.fchown(handle, before.st_uid, before.st_gid)
                os.fchmod(handle, before.st_mode & 0o7777)
                file.write(data)
                file.flush()
                os.fsync(handle)
            now = path.stat()
            if (now.st_ino, now.st_size, now.st_mtime_ns) != (
                before.st_ino,
                before.st_size,
                before.st_mtime_ns,
            ):
                raise NotebookUnreadable(
                    f"the notebook {path} changed while it was edited; nothing was written",
                    why="another program wrote it meanwhile, as JupyterLab does when it saves",
                    fix="run the command again",
                )
            Path(name).replace(path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()
    except OSError as error:
        raise NotebookUnreadable(
            f"the notebook {path} cannot be written; it is unchanged",
            why=error.strerror or str(error),
            fix=f"as the owner of the notebook, make {path.parent} writable and run the command again",
        ) from error


def _name(requirement: str) -> str:
    try:
        return canonicalize_name(Requirement(requirement).name)
    except InvalidRequirement:
        return canonicalize_name(requirement.strip())


def _absent(name: str, extras: list[str], text: NotebookText) -> InvalidRequest:
    for cell, block in zip(text.script_cells, text.script_blocks, strict=True):
        declared = parse_request(None, [block])
        names = {_name(extra) for extra in declared.extras} | ({"torch"} if declared.torch else set())
        if _name(name) in names:
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
