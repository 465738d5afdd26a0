"""One field of what a notebook says: where it stands, what is right there, and how to refuse it.

Every value that comes out of a notebook is looked at through a Field first, so that sizes and
characters are checked in one place and every refusal names the place and a line that works.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
import reprlib
import unicodedata
from collections.abc import Mapping

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from ..errors import InvalidRequest

MAX_LENGTH = 512
"""The most characters in any one value. Checked before parsing."""


@dataclasses.dataclass(frozen=True)
class Field:
    """Where a value stands (``torch_env.extras[3]``), and the edit that makes it right."""

    name: str
    fix: str

    def __getitem__(self, index: int) -> Field:
        return Field(f"{self.name}[{index}]", self.fix)

    def refuse(self, what: str, why: str = "") -> InvalidRequest:
        """The error to raise; ``what`` continues a sentence that starts with the field's name."""
        return InvalidRequest(f"{self.name} {what}", field=self.name, why=why, fix=self.fix)

    def line(self, value: object) -> str:
        """``value`` as one line of printable ASCII, stripped; raises InvalidRequest."""
        if not isinstance(value, str):
            raise self.refuse(f"is {kind(value)}, not a string: {show(value)}")
        if len(value) > MAX_LENGTH:
            raise self.refuse(f"is {len(value):,} characters long; the limit is {MAX_LENGTH}: {show(value)}")
        text = value.strip(" \t")
        if not text:
            raise self.refuse("is empty")
        self.check(text)
        if not text.isascii():
            raise self.refuse(
                f"holds characters that no package name has: {show(text)}",
                "look-alike and invisible characters would name another package: " + _code_points(text),
            )
        if not text.isprintable():
            raise self.refuse(f"holds a line break or control character: {show(text)}")
        return text

    def check(self, text: str) -> None:
        """Raise InvalidRequest for what no text of a notebook may hold, whoever reads it."""
        if _SURROGATE.search(text):
            raise self.refuse(f"holds half a character: {show(text)}", "a lone surrogate is not a character")
        if "${" in text:
            raise self.refuse(
                f"refers to an environment variable: {show(text)}",
                "a notebook could read this machine's secrets that way",
            )

    def specifier(self, value: object) -> SpecifierSet:
        """``value`` as a PEP 440 specifier, None as one that anything fits; raises InvalidRequest."""
        if value is None:
            return SpecifierSet()
        text = self.line(value)
        try:
            specifier = SpecifierSet(text)
        except InvalidSpecifier as error:
            raise self.refuse(f"is not a version specifier: {show(text)}", str(error)[:200]) from error
        self._check_arbitrary(specifier, text)
        return specifier

    def requirement(self, value: object, *, allow_urls: bool) -> Requirement:
        """``value`` as a PEP 508 requirement that names a package, no option, path or URL."""
        text = self.line(value)
        package = text.partition(";")[0]
        if text.startswith("-"):
            raise self.refuse(
                f"is an option, not a package: {show(text)}",
                "a notebook cannot set options of the installer",
            )
        if "://" in package:
            if not allow_urls:
                raise self._url(text)
        elif re.search(r"[/\\]", package) or text[0] in ".~" or _ARCHIVE.search(text):
            raise self.refuse(
                f"is a path, not a package: {show(text)}", "a notebook cannot install files of this machine"
            )
        try:
            requirement = Requirement(text)
        except (InvalidRequirement, RecursionError) as error:
            reason = str(error).partition("\n")[0][:200]  # the lines after it repeat the whole text
            raise self.refuse(f"is not a requirement: {show(text)}", reason) from error
        is_torch = canonicalize_name(requirement.name) == "torch"
        if requirement.url and (not allow_urls or is_torch or requirement.url.startswith("file:")):
            raise self._url(text)
        self._check_arbitrary(requirement.specifier, text)
        return requirement

    def _url(self, text: str) -> InvalidRequest:
        return self.refuse(
            f"is a URL, not a package: {show(text)}",
            "where packages come from is set by the owner of this machine",
        )

    def _check_arbitrary(self, specifiers: SpecifierSet, text: str) -> None:
        """``===`` takes any text at all, also ``../../x``: let it name versions only."""
        for specifier in specifiers:
            if specifier.operator == "===":
                try:
                    Version(specifier.version)
                except InvalidVersion as error:
                    raise self.refuse(
                        f"compares with something that is not a version: {show(text)}"
                    ) from error


def show(value: object) -> str:
    """``value`` as it looks in the notebook, cut to what fits in a message."""
    if isinstance(value, str):
        return repr(value) if len(value) <= 80 else repr(value[:80]) + "…"
    try:
        text = _SHORT.repr(value)
    except ValueError:  # TOML's hexadecimal integers can have more decimal digits than Python writes
        return "an integer of thousands of digits"
    return text if len(text) <= 80 else text[:80] + "…"


def kind(value: object) -> str:
    """What ``value`` is in JSON's or TOML's words, with its article."""
    if isinstance(value, bool):
        return "a boolean"
    kinds: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (str, "a string"),
        ((int, float), "a number"),
        (Mapping, "an object"),
        ((list, tuple), "a list"),
        ((datetime.date, datetime.time), "a date"),  # TOML has them
    )
    return next((name for cls, name in kinds if isinstance(value, cls)), "null")


_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2

# uv takes a bare name that ends like an archive for a file.
_ARCHIVE = re.compile(r"\.(whl|zip|egg|tar|tgz|tbz|txz|tar\.(gz|bz2|xz|zst))\s*(\[|;|$)", re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")


def _code_points(text: str) -> str:
    odd = dict.fromkeys(char for char in text if not char.isascii())
    names = [f"U+{ord(char):04X} {unicodedata.name(char, 'unnamed')}" for char in odd]
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
