"""The YAML header of a text notebook: where it stands, and the few values that are read of it.

PyYAML splits the text into events, and a value is put together from these here, so that nothing in
it can do anything: no alias is followed, no tag makes an object, nothing is nested deeply. It costs
nothing but where a header has something to read.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from .json_object import noting_duplicates

MAX_HEADER = 64 << 10
"""The most characters of a header that is read."""

_MAX_DEPTH = 20
_RULE = re.compile(r"---\s*$")
_ENCODING = re.compile(r"[ \t\f]*#.*?coding[:=]")  # PEP 263
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,18}|[0-9]{1,18}(\.[0-9]{0,18})?)([eE][-+]?[0-9]{1,3})?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF|nan|NaN|NAN)")

Path = tuple[str, ...]
"""The keys that lead to a value."""


class MalformedHeader(ValueError):
    """The header is not YAML, or YAML that is not read here."""


@dataclasses.dataclass(frozen=True)
class Header:
    """The YAML text of a header, empty where there is none; ``after`` is the number of the line behind it."""

    text: str = ""
    after: int = 0


def find_header(lines: Sequence[str], *, script: bool) -> Header:
    """The header at the beginning of a notebook's lines, as jupytext finds it (its header.py).

    In a script its lines are comments, and ``#!`` and an encoding may stand before them; in Markdown
    it may stand in an HTML comment.
    """
    found: list[str] = []
    started = hidden = False
    begin = 0
    for number, line in enumerate(lines):
        if script and not started and number == begin < 2 and _stands_before(line, number):
            begin = number + 1
            continue
        if not script and number == 0 and line.strip() == "<!--":
            hidden = True
            continue
        if script and not line.startswith("#"):
            break
        text = line.removeprefix("#").removeprefix(" ") if script else line
        if started and _RULE.match(text):
            after = number + 1
            if hidden:
                after = next((at for at in range(after, len(lines)) if "-->" in lines[at]), number) + 1
            return Header("\n".join(found), after)
        if started:
            found.append(text.rstrip("\r"))
        elif _RULE.match(text):
            started = True
        elif text.strip() or not (script or hidden):
            break
    return Header(after=begin)


def _stands_before(line: str, number: int) -> bool:
    return (number == 0 and line.startswith("#!")) or bool(_ENCODING.match(line))


def values(header: Header, wanted: Collection[Path]) -> dict[Path, object]:
    """The values in the header at these paths, those of them that are there; raises MalformedHeader.

    What is not wanted is passed over unread. Plain values are numbers, booleans and null as in JSON, and
    text otherwise: a date, or ``no``, stays what was written. A mapping that has a key twice is as
    ``noting_duplicates`` makes it.
    """
    if len(header.text) > MAX_HEADER:
        raise MalformedHeader(f"its YAML header has more than {MAX_HEADER:,} characters")
    import yaml  # some 10 ms

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Reader(yaml.parse(header.text, Loader=loader), wanted).found()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1} of " if mark else ""
        raise MalformedHeader(f"{line}its YAML header: {getattr(error, 'problem', None) or error}") from error


class _Reader:
    """Goes through the events of the first document, which each are one thing, or the start or end of one."""

    def __init__(self, events: Iterator[Any], wanted: Collection[Path]) -> None:
        self._events = events
        self._wanted = wanted
        self._found: dict[Path, object] = {}

    def found(self) -> dict[Path, object]:
        """The wanted values."""
        for event in self._events:
            if _is(event, "MappingStart"):
                self._look(())
            if not _is(event, "StreamStart", "DocumentStart"):
                break
        return self._found

    def _look(self, path: Path) -> None:
        """Look into the mapping at ``path``, whose start has passed."""
        while not _is(key := next(self._events), "MappingEnd"):
            here = (*path, key.value) if _is(key, "Scalar") else ()
            self._skip(key)
            value = next(self._events)
            if _is(value, "MappingStart") and any(
                len(at) > len(here) and at[: len(here)] == here for at in self._wanted if here
            ):
                self._look(here)
            elif here in self._wanted:
                again = here in self._found
                self._found[here] = self._value(value, 0)
                if again:
                    raise MalformedHeader(f"its YAML header has the key {'.'.join(here)} twice")
            else:
                self._skip(value)

    def _skip(self, event: Any) -> None:
        """Pass over what ``event`` is, or starts."""
        depth = 0
        while True:
            self._check(depth)
            depth += _is(event, "MappingStart", "SequenceStart") - _is(event, "MappingEnd", "SequenceEnd")
            if not depth:
                return
            event = next(self._events)

    def _value(self, event: Any, depth: int) -> object:
        self._check(depth)
        if _is(event, "Alias"):
            raise MalformedHeader(f"its YAML header has an alias, *{event.anchor}, which is not followed")
        if event.tag is not None:
            raise MalformedHeader(f"its YAML header has a tag, {event.tag}, which is not read")
        if _is(event, "Scalar"):
            return _plain(event.value) if event.style in (None, "") else event.value
        if _is(event, "SequenceStart"):
            items = []
            while not _is(item := next(self._events), "SequenceEnd"):
                items.append(self._value(item, depth + 1))
            return items
        pairs: list[tuple[object, object]] = []
        while not _is(key := next(self._events), "MappingEnd"):
            if not _is(key, "Scalar") or (key.value == "<<" and key.implicit[0]):
                raise MalformedHeader("its YAML header has a merge key, or a key that is no text")
            pairs.append((key.value, self._value(next(self._events), depth + 1)))
        return noting_duplicates(pairs)

    @staticmethod
    def _check(depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise MalformedHeader("its YAML header is nested too deeply")


def _is(event: Any, *names: str) -> bool:
    return type(event).__name__.removesuffix("Event") in names


def _plain(text: str) -> object:
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return float(text.replace(".", "", 1)) if _NOT_FINITE.fullmatch(text) else text
