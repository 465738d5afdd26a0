"""A walk through JSON text of any size that keeps only what it is asked to keep.

A notebook's outputs can be a hundred megabytes of pictures around a hundred bytes of metadata.
The json module would decode them all; this walk passes over them at memory speed, in pieces, so
that neither the outputs nor a file that shrinks meanwhile (which would kill a process that has it
memory-mapped) can hurt. It trusts the text only as far as brackets and quotes go.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

PIECE = 1 << 20
MAX_STEPS = 1_000_000
"""The most brackets and awkward strings passed over one by one, about 0.4 s of them."""


class MalformedJson(ValueError):
    """The text is not JSON as far as was looked, or too intricate to look on."""


class Scanner:
    """Walks the one JSON value that ``read(size)`` returns piece by piece, ``b""`` at the end.

    ``members`` and ``elements`` go into an object or an array. Between two of their steps the
    caller takes the value at hand, with ``value``, ``members`` or ``elements``. All raise
    MalformedJson.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._text = b""
        self._at = 0
        self._steps = 0
        self._kept: list[bytes] = []
        self._mark = -1  # where in the text the value to keep goes on; -1 while none is kept
        self._room = 0

    def peek(self) -> bytes:
        """The first byte of what comes next, ``b""`` at the end of the text."""
        while True:
            self._at = _match_end(_SPACE, self._text, self._at)
            if self._at < len(self._text):
                return self._text[self._at : self._at + 1]
            if not self._more():
                return b""

    def members(self) -> Iterator[str]:
        """The keys of the object that comes next; a key of over a thousand bytes reads as empty."""
        self._take(b"{")
        if self.peek() == b"}":
            self._at += 1
            return
        while True:
            if self.peek() != b'"':
                raise MalformedJson("a key is missing its quotes")
            key = self.value(keep=1000)
            self._take(b":")
            yield "" if key is None else _decoded(key)
            if not self._another(b"}"):
                return

    def elements(self) -> Iterator[None]:
        """One step for each element of the array that comes next."""
        self._take(b"[")
        if self.peek() == b"]":
            self._at += 1
            return
        while True:
            yield
            if not self._another(b"]"):
                return

    def value(self, keep: int = 0) -> bytes | None:
        """Pass over the value that comes next; its text if that has at most ``keep`` bytes."""
        first = self.peek()
        if not first:
            raise MalformedJson("it ends in the middle")
        self._kept, self._mark, self._room = [], self._at if keep else -1, keep
        if first == b'"':
            self._string()
        elif first in (b"{", b"["):
            self._container()
        else:
            self._scalar()
        if self._mark < 0:
            return None
        self._kept.append(self._text[self._mark : self._at])
        self._mark = -1
        text = b"".join(self._kept)
        return text if len(text) <= keep else None

    def _take(self, wanted: bytes) -> None:
        found = self.peek()
        if found != wanted:
            raise MalformedJson(_expected(wanted, found))
        self._at += 1

    def _another(self, closing: bytes) -> bool:
        found = self.peek()
        if found not in (b",", closing) or not found:
            raise MalformedJson(_expected(closing, found))
        self._at += 1
        return found == b","

    def _container(self) -> None:
        self._at += 1
        depth = 1
        while depth:
            self._at = _match_end(_FLAT, self._text, self._at)
            if self._at == len(self._text):
                self._need_more()
                continue
            char = self._text[self._at]
            if char == _QUOTE:  # a long string, or one that goes on in the next piece
                self._string()
            elif char in b"[{":
                depth += 1
                self._at += 1
            elif char in b"]}":
                depth -= 1
                self._at += 1
            self._step()

    def _string(self) -> None:
        self._at += 1
        while True:  # the usual long string is base64: no escapes, and found by memchr
            quote = self._text.find(b'"', self._at)
            end = quote if quote >= 0 else len(self._text)
            escape = self._text.find(b"\\", self._at, end)
            if escape >= 0:
                break
            if quote >= 0:
                self._at = quote + 1
                return
            self._at = end
            self._need_more()
        self._at = escape
        while True:
            self._at = _match_end(_CHARACTERS, self._text, self._at)
            rest = self._text[self._at : self._at + 2]
            if rest[:1] == b'"':
                self._at += 1
                return
            if rest in (b"", b"\\"):
                self._need_more()
            self._step()

    def _scalar(self) -> None:
        start = self._at
        while True:
            self._at = _match_end(_WORD, self._text, self._at)
            if self._at < len(self._text):
                break
            start = -1  # there was something, in the piece before
            if not self._more():
                break
        if self._at == start:
            raise MalformedJson(_expected(b"a value", self.peek()))

    def _step(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise MalformedJson(f"it holds more than {MAX_STEPS:,} nested values")

    def _need_more(self) -> None:
        if not self._more():
            raise MalformedJson("it ends in the middle")

    def _more(self) -> bool:
        piece = self._read(PIECE)
        if self._mark >= 0:
            self._kept.append(self._text[self._mark : self._at])
            self._mark = 0
            self._room -= len(self._kept[-1])
            if self._room < 0:
                self._mark = -1
        self._text = self._text[self._at :] + piece
        self._at = 0
        return bool(piece)


_QUOTE = ord('"')
_SPACE = re.compile(rb"[ \t\r\n]*")
_WORD = re.compile(rb"[-+.\w]*")
# These repeat a bounded number of times, because re keeps something for each repetition. None can
# match in two ways, so that a failed try costs no more than the bounds allow.
_CHARACTERS = re.compile(rb'(?:[^"\\]+|\\.){0,1000}', re.DOTALL)
_FLAT = re.compile(
    rb"""(?: [^"\[\]{}]+
         | "[^"\\]{0,256}(?:\\.[^"\\]{0,256}){0,64}"
         | [\[{] [^"\[\]{}]{0,64} (?: "[^"\\]{0,64}" [^"\[\]{}]{0,64} ){0,40} [\]}]  # the innermost of many
         ){0,1000}""",
    re.DOTALL | re.VERBOSE,
)


def _match_end(pattern: re.Pattern[bytes], text: bytes, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _decoded(key: bytes) -> str:
    try:
        text = json.loads(key.decode())
    except ValueError as error:
        raise MalformedJson(f"a key cannot be read: {error}") from error
    return str(text)


def _expected(wanted: bytes, found: bytes) -> str:
    if not found:
        return "it ends in the middle"
    return f"{wanted.decode()} was expected where {found.decode('latin-1')!r} stands"
