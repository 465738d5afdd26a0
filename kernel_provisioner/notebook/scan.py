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
MAX_WORK = 128 << 20
"""The most work, counted in bytes that a regular expression looks at: about a second. A bracket or a
string passed over by itself counts as 128 of them, a long string for little, without escapes for nothing."""


class MalformedJson(ValueError):
    """The text is not JSON as far as was looked."""


class TooMuchWork(MalformedJson):
    """The text is too intricate to look on."""


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
        self._gone = 0  # bytes before the text
        self._work = 0
        self._kept: list[bytes] = []
        self._mark = -1  # where in the text the value to keep goes on; -1 while none is kept
        self._room = 0

    def peek(self) -> bytes:
        """The first byte of what comes next, ``b""`` at the end of the text."""
        while True:
            self._pass(_SPACE)
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
            self._spend(_TURN)
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
            self._spend(_TURN)
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
            self._pass(_FLAT)
            if self._at == len(self._text):
                self._need_more()
                continue
            char = self._text[self._at]
            if char == _QUOTE:  # a long string, or one that goes on in the next piece
                before = self._gone + self._at
                self._string()
                self._spend(min(self._gone + self._at - before, _TRIED))
            elif char in b"[{":
                depth += 1
                self._at += 1
            elif char in b"]}":
                depth -= 1
                self._at += 1
            self._spend(_STEP)

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
        size = _WINDOWS[0]
        while True:  # with escapes: blot these out, a window at a time, and look again
            window = self._text[self._at : self._at + size]
            blotted = window.replace(b"\\\\", b"--").replace(b'\\"', b"--")
            quote = blotted.find(b'"')
            done = quote + 1 if quote >= 0 else len(window) - blotted.endswith(b"\\")  # half an escape
            self._at += done
            self._spend(_STEP + done // 4 + window.count(b"\\", 0, done))
            if quote >= 0:
                return
            if len(self._text) - self._at < 2:
                self._need_more()
            size = min(2 * size, _WINDOWS[1])

    def _scalar(self) -> None:
        start = self._at
        while True:
            self._pass(_WORD)
            if self._at < len(self._text):
                break
            start = -1  # there was something, in the piece before
            if not self._more():
                break
        if self._at == start:
            raise MalformedJson(_expected(b"a value", self.peek()))

    def _pass(self, pattern: re.Pattern[bytes]) -> None:
        """Go on to the end of what ``pattern`` matches here."""
        match = pattern.match(self._text, self._at)
        if match:
            self._at = match.end()
            self._spend(match.end() - match.start())

    def _spend(self, work: int) -> None:
        self._work += work
        if self._work > MAX_WORK:
            raise TooMuchWork(f"it holds more than {MAX_WORK / 1e6:,.0f} MB of text and tables")

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
        self._gone += self._at
        self._text = self._text[self._at :] + piece
        self._at = 0
        return bool(piece)


_QUOTE = ord('"')
_STEP = 128  # see MAX_WORK
_TURN = 512  # for the caller, who looks at what comes
_TRIED = 16_640  # bytes of a string at which _FLAT gives up
_WINDOWS = (512, 1 << 16)  # bytes; the first and the largest
_SPACE = re.compile(rb"[ \t\r\n]*")
_WORD = re.compile(rb"[-+.\w]*")
# It repeats a bounded number of times, because re keeps something for each repetition. It cannot
# match in two ways, so that a failed try costs no more than the bounds allow.
_FLAT = re.compile(
    rb"""(?: [^"\[\]{}]+
         | "[^"\\]{0,256}(?:\\.[^"\\]{0,256}){0,64}"
         | [\[{] [^"\[\]{}]{0,64} (?: "[^"\\]{0,64}" [^"\[\]{}]{0,64} ){0,40} [\]}]  # the innermost of many
         ){0,1000}""",
    re.DOTALL | re.VERBOSE,
)


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
