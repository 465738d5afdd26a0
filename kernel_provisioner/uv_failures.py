"""What uv says when it fails, as an error with a cause and a fix."""

from __future__ import annotations

import re

from . import room
from .errors import InstallFailed, ResolutionFailed

_CREDENTIALS = "mend the credentials of that index: in its URL, in ~/.netrc, or UV_INDEX_<NAME>_PASSWORD"
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
        fix = f"unset {variable[1]}, or set it to what uv takes, where Jupyter is started; then start it anew"
        return InstallFailed(what, why=why, fix=fix)
    if re.search(r"acquire lock.*os error (37|38|95|524)\b", stderr, re.DOTALL):
        fix = "set UV_CACHE_DIR to a local disk: the disk of uv's cache keeps no locks"
        return InstallFailed(what, why=why, fix=fix)
    if "No solution found" in stderr or "unsatisfiable" in stderr:
        if re.search(r"network was disabled|offline", stderr, re.IGNORECASE):
            return InstallFailed(what, why=why, fix="go online once, so that the packages are in uv's cache")
        return ResolutionFailed(what, why=why)
    if lack := room.lack_in(why):
        return InstallFailed(f"{what}: {lack.what}", why=lack.why, fix=lack.fix)
    if re.search(_UNREACHABLE, stderr):
        return InstallFailed(what, why=why, fix="check the network and the index settings, then try again")
    return InstallFailed(
        what, why=why, fix="try again; where it comes again, the index or the package is at fault"
    )


def may_pass(error: InstallFailed) -> bool:
    """Whether the network or this machine is at fault, and not what was to be fetched."""
    gone = re.search(r"\b(404 Not Found|410 Gone)\b", error.why)
    return room.lack_in(error.why) is not None or (bool(re.search(_UNREACHABLE, error.why)) and not gone)


def said_by_uv(stderr: str) -> str:
    """uv's own words on an error, without its progress lines."""
    lines = stderr.strip().splitlines()
    start = next((i for i, line in enumerate(lines) if line.lstrip().startswith(("error:", "\u00d7"))), 0)
    text = "\n".join(line.strip() for line in lines[start:])
    return text.replace("error: ", "", 1).replace("cause: ", "")
