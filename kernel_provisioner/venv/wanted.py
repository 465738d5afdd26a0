"""What the user asks for on the command line and in requirements files, as a request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import InvalidRequest
from ..request import Request, parse_request

_FIX = "leave it out, and when the environment is made: . DIR/bin/activate; uv pip install …"
_DEEPEST = 10  # requirements files within requirements files


def wanted(packages: Sequence[str], files: Sequence[Path], *, allow_urls: bool = False) -> Request:
    """The request for ``packages`` and what ``files`` list; a requirement named torch is a condition.

    Raises InvalidRequest, naming the file and the line: names with versions are taken, and
    ``-r`` for a further file; options, paths and URLs are not.
    """
    extras = []
    for text in packages:
        _check(text, repr(text), allow_urls=allow_urls)
        extras.append(text)
    for file in files:
        for line, text in _requirements(file, 0):
            _check(text, line, allow_urls=allow_urls)
            extras.append(text)
    return parse_request({"extras": extras}, allow_urls=allow_urls)


def _check(text: str, where: str, *, allow_urls: bool) -> None:
    try:
        parse_request({"extras": [text]}, allow_urls=allow_urls)
    except InvalidRequest as error:
        what = error.what.replace("torch_env.extras[0]", where, 1)
        raise InvalidRequest(what, field=where, fix=_FIX) from error


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
        elif re.search(r"\s--hash", said):
            raise InvalidRequest(
                f"{file}:{number} has hashes, which are not taken here",
                why="they are of files for one platform, and torch's is the base's own",
                fix="give a file without hashes (uv pip compile without --generate-hashes)",
            )
        elif said:
            yield f"{file}:{number}", said
