"""What uv says, understood: its failures as errors with a cause and a fix, its progress as steps.

uv promises no wording, so nothing else reads its sentences. What is not known here is shown as uv says it.
tests/test_uv_messages.py has the oldest uv that is taken and the newest say each of these.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from ..errors import InstallFailed, OverlayError, ResolutionFailed
from ..system import os_errors

_CREDENTIALS = "correct the credentials of that index: in its URL, in ~/.netrc, or UV_INDEX_<NAME>_PASSWORD"
_UNREACHABLE = (
    r"(?i:error sending request|dns error|Connect|timed out|Request failed after|network was disabled"
    r"|Network connectivity is disabled|HTTP status (?:client|server) error|Failed to fetch)"
)


def failure(what: str, stderr: str) -> ResolutionFailed | InstallFailed:
    """uv's failure as ours: ResolutionFailed for "no solution", InstallFailed for the rest."""
    why = said_by_uv(stderr)
    if re.search(r"401 Unauthorized|403 Forbidden", stderr):
        return InstallFailed(what, why=why, fix=_CREDENTIALS)
    if variable := re.search(r"Failed to parse environment variable `(\w+)`", stderr):
        fix = (
            f"unset {variable[1]}, or set it to a value that uv accepts, where Jupyter"
            " is started; then restart Jupyter"
        )
        return InstallFailed(what, why=why, fix=fix)
    if re.search(r"acquire lock.*os error (37|38|95|524)\b", stderr, re.DOTALL):
        fix = "set UV_CACHE_DIR to a local disk: the disk of uv's cache keeps no locks"
        return InstallFailed(what, why=why, fix=fix)
    if "No solution found" in stderr or "unsatisfiable" in stderr:
        if re.search(r"network was disabled|offline", stderr, re.IGNORECASE):
            return InstallFailed(
                what, why=why, fix="go online once, so that the packages get into uv's cache"
            )
        return ResolutionFailed(what, why=why)
    if lack := os_errors.lack_in(why, system_errors(why)):
        return InstallFailed(f"{what}: {lack.what}", why=lack.why, fix=lack.fix)
    if re.search(_UNREACHABLE, stderr):
        return InstallFailed(what, why=why, fix="check the network and the index settings, then try again")
    return InstallFailed(
        what, why=why, fix="try again; if it happens again, the index or the package is at fault"
    )


def fix_for(why: str, otherwise: str) -> str:
    """The fix where a page of an index could not be had: its credentials, if it wants others."""
    return _CREDENTIALS if re.search(r"answered 40[13]\b", why) else otherwise


def wants_source(error: OverlayError) -> bool:
    """Whether a resolution failed only because building from source was not allowed."""
    words = ("no usable wheels", "no wheels", "building source distributions", "Building source")
    return any(one in _unwrapped(error.why) for one in words)


def wants_newer(error: OverlayError) -> bool:
    """Whether a resolution may have failed because files are too new for ``--exclude-newer``."""
    return bool(re.search(r"exclude-newer|no versions of|only the following", _unwrapped(error.why)))


def not_found(why: str) -> str:
    """The package that no index has, as uv spells it, where that is the reason; else nothing."""
    pattern = r"\b([A-Za-z0-9][\w.-]*) was not found in the (?:package registry|provided package)"
    found = re.search(pattern, _unwrapped(why))
    return found[1] if found else ""


def _unwrapped(text: str) -> str:
    """A text of uv's with its words in one line: it breaks long ones as the terminal is wide."""
    return " ".join(text.split())


def system_errors(said: str) -> frozenset[int]:
    """The system's errors that a text tells of, by number; a full disk also where a package's build does."""
    numbers = frozenset(int(number) for number in re.findall(r"\(os error (\d+)\)", said))
    return numbers | {errno.ENOSPC} if os.strerror(errno.ENOSPC) in said else numbers


SEARCH_LOG = "uv_resolver::resolver=debug"
"""The value of RUST_LOG with which uv tells how it searches: what ``search_of`` reads."""


_SPECIFIER = r"((^|, )(>=|<=|==|!=|>|<)[0-9][\w.!]*)+"


class Search(NamedTuple):
    """How uv came to a resolution.

    ``passed_over`` are the packages of which it could not take the newest version in range: name → that
    range, as a specifier, empty for any. ``backtracked``: it gave up a version because of another package,
    so that it might have found something else in another order.
    """

    passed_over: Mapping[str, str] = {}
    backtracked: bool = False

    def joined(self, other: Search) -> Search:
        """Both searches as one."""
        passed = {**other.passed_over, **self.passed_over}
        return Search(passed, self.backtracked or other.backtracked)


def search_of(stderr: str) -> Search:
    """The search that uv's log tells of; nothing special where its words are not known."""
    passed: dict[str, str] = {}
    sought, within = "", ""
    for line in stderr.splitlines():
        if match := re.match(
            r"DEBUG Searching for a compatible version of ([\w.-]+)[^(]*(?:\((.*)\))?$", line
        ):
            if sought:
                passed.setdefault(sought, within)
            # uv also tells of unions, which no specifier can say: they come of what it has excluded already
            within = match[2] if match[2] and re.fullmatch(_SPECIFIER, match[2]) else ""
            sought = match[1]
        elif line.startswith("DEBUG Selecting: "):
            sought = ""
    if sought:
        passed.setdefault(sought, within)
    backtracked = re.search(r"^DEBUG Recording [a-z ]*conflict of (?!Python\b)", stderr, re.MULTILINE)
    return Search(passed, bool(backtracked))


def without_log(stderr: str) -> str:
    """What uv says besides its log."""
    return "\n".join(line for line in stderr.splitlines() if not line.startswith("DEBUG "))


_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


class Step(NamedTuple):
    """A line of progress: ``Downloading``, ``Downloaded``, ``Building``, ``Built`` or ``Prepared``; what."""

    verb: str
    what: str

    @property
    def name(self) -> str:
        """The package, without how large it is."""
        return self.what.split(" (")[0]

    @property
    def bytes(self) -> int:
        """The size of what is downloaded, as uv rounds it; 0 where it does not say."""
        match = re.search(r" \((\d+(?:\.\d+)?)([KMGT]?i?B)\)", self.what)
        return round(float(match[1]) * _UNITS.get(match[2], 0)) if match else 0

    @property
    def begins(self) -> bool:
        """Whether another line will tell of its end."""
        return self.verb in ("Downloading", "Building")

    @property
    def ends(self) -> bool:
        """Whether a download or a build is done with it."""
        return self.verb in ("Downloaded", "Built")


def step_of(line: str) -> Step | None:
    """The step that a line tells of; None for any other line."""
    if match := re.match(r"\s*(Downloading|Building|Built|Downloaded) (.+)", line):
        return Step(match[1], match[2].rstrip())
    if match := re.match(r"\s*(Prepared) (\d+ packages?)", line):
        return Step(match[1], match[2])
    return None


def said_by_uv(stderr: str) -> str:
    """uv's own words on an error, without its progress lines."""
    lines = stderr.strip().splitlines()
    start = next((i for i, line in enumerate(lines) if line.lstrip().startswith(("error:", "\u00d7"))), 0)
    text = "\n".join(line.strip() for line in lines[start:])
    return text.replace("error: ", "", 1).replace("cause: ", "")
