"""What the user asks for on the command line and in requirements files, as a request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import InvalidRequest, without_credentials
from ..inkernel.shared.packages import named_in
from ..model.accelerators import family_of
from ..model.request import Request, parse_request

_FIX = "leave it out, and when the environment is made: . DIR/bin/activate; uv pip install …"
_DEEPEST = 10  # requirements files within requirements files
# What uv alone reads: constraints, paths of the user's own projects and wheels, hashes.
_FOR_UV = re.compile(r"(?:-e|--editable|-c|--constraint)[\s=]|\.{0,2}/|\.$|.*(?:\s--hash|@\s*file:)")
_INDEX = re.compile(
    r"(?:--(?:extra-)?index-url|-i|--find-links|-f|--no-index|--trusted-host)(?:[\s=]+(\S+)|$)"
)


class Wish(NamedTuple):
    """What is asked for: a request, and the files that uv itself installs afterwards."""

    request: Request
    files: tuple[Path, ...] = ()


def wanted(
    packages: Sequence[str], files: Sequence[Path], *, allow_urls: bool = False, local: bool = False
) -> Wish:
    """The request for ``packages`` and what ``files`` list; a requirement named torch is a condition.

    ``local``: where a file has constraints, hashes, or paths, uv itself reads the files. Raises
    InvalidRequest, naming the file and the line, for what else is no name with a version, or ``-r``.
    """
    extras = []
    lines = [line for file in files for line in _requirements(file, 0)]
    for where, text in lines:
        _refuse_index(where, text)
    if local and any(_FOR_UV.match(text) for _, text in lines):
        conditions = [re.split(r"\s+--hash", text)[0] for _, text in lines if named_in(text) == "torch"]
        return Wish(parse_request({"extras": [*packages, *conditions]}, allow_urls=allow_urls), tuple(files))
    for text in packages:
        _check(text, repr(text), allow_urls=allow_urls, fix=_FIX)
        extras.append(text)
    for file in files:
        extras += listed(file, allow_urls=allow_urls, fix=_FIX)
    return Wish(parse_request({"extras": extras}, allow_urls=allow_urls))


def listed(file: Path, *, allow_urls: bool, fix: str) -> list[str]:
    """The requirements that a file lists, as ``wanted`` takes them; ``fix`` is for one that it refuses."""
    found = []
    for line, text in _requirements(file, 0):
        if re.search(r"\s--hash", text):
            raise InvalidRequest(
                f"{line} has hashes, which are not supported here",
                why="they are of files for one platform, and torch's is the base's own",
                fix="give a file without hashes (uv pip compile without --generate-hashes)",
            )
        _check(text, line, allow_urls=allow_urls, fix=fix)
        found.append(text)
    return found


def _refuse_index(where: str, text: str) -> None:
    """Raise InvalidRequest for a line that says where packages come from, with the setting that does."""
    if not (match := _INDEX.match(text)):
        return
    address = without_credentials(match[1] or "")
    tag = address.rstrip("/").rpartition("/")[2]
    fix = (
        "leave the line out, and set it for uv and pip on this machine: in ~/.config/uv/uv.toml and pip.conf"
    )
    if family_of(tag):
        fix = f"leave the line out: --base {tag} takes torch, and what belongs to it, from there"
    elif "index" in text.split(maxsplit=1)[0] or text.startswith("-i"):
        fix = f"leave the line out, and set the variable  UV_INDEX={address}"
    raise InvalidRequest(
        f"{where} says where packages come from, which a requirements file cannot here",
        why=f"{without_credentials(text)}: the base and this machine's settings say that",
        fix=fix,
    )


def _check(text: str, where: str, *, allow_urls: bool, fix: str) -> None:
    try:
        parse_request({"extras": [text]}, allow_urls=allow_urls)
    except InvalidRequest as error:
        what = error.what.replace("torch_env.extras[0]", where, 1)
        raise InvalidRequest(what, field=where, fix=fix) from error


def _requirements(file: Path, depth: int) -> Iterator[tuple[str, str]]:
    """Each requirement of a file, with where it stands."""
    if depth > _DEEPEST:
        raise InvalidRequest(f"{file} includes itself, or too many others", fix="leave that -r line out")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"{file} cannot be read", why=str(error), fix="name a requirements file"
        ) from error
    text = text.replace("\\\n", "  ")
    for number, line in enumerate(text.splitlines(), start=1):
        said = re.sub(r"(^|\s)#.*$", "", line).strip()
        if match := re.match(r"(?:-r|--requirement)[\s=]*(\S.*)$", said):
            yield from _requirements(file.parent / match[1], depth + 1)
        elif said:
            yield f"{file}:{number}", said
