"""Requirements that are written down somewhere already: in requirements files, projects, other notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InvalidRequest
from ..inkernel.shared.packages import canonical, named_in
from ..model.request import Request, parse_request
from ..notebook.read import read_notebook
from ..project.wanted import listed

_FILE_FIX = (
    "leave that line out: a notebook names packages and versions, the machine says where they come from"
)


class Sources(NamedTuple):
    """Where requirements come from: the command line, requirements files, projects or notebooks."""

    packages: Sequence[str] = ()
    files: Sequence[Path] = ()
    others: Sequence[Path] = ()


def gathered(sources: Sources, *, allow_urls: bool) -> tuple[list[str], list[str]]:
    """The requirements, as a notebook declares them, and notices on what was left out.

    Raises InvalidRequest, naming the place, for what a notebook cannot declare, and NotebookUnreadable.
    """
    found, notices = list(sources.packages), []
    for file in sources.files:
        found += listed(file, allow_urls=allow_urls, fix=_FILE_FIX)
    for other in sources.others:
        more, told = _of_project(other) if other.suffix == ".toml" else _of_notebook(other, allow_urls)
        found += more
        notices += told
    return found, notices


def _of_project(file: Path) -> tuple[list[str], list[str]]:
    """The dependencies of a ``pyproject.toml``."""
    data = _toml(file)
    project = data.get("project")
    found = project.get("dependencies", []) if isinstance(project, dict) else None
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise InvalidRequest(
            f"{file} names no dependencies",
            why="they are read from the list dependencies under [project]",
            fix="name a pyproject.toml with such a list, or a notebook, after --from",
        )
    sources = data.get("tool", {}).get("uv", {}).get("sources", {})
    own = {canonical(str(name)) for name in sources} if isinstance(sources, dict) else set()
    named = [text for text in found if named_in(text) in own]
    told = (
        f"{file} takes {', '.join(map(named_in, named))} from places of its own ([tool.uv.sources]);"
        " a notebook takes them from this machine's indexes"
    )
    return found, [told] if named else []


def _of_notebook(file: Path, allow_urls: bool) -> tuple[list[str], list[str]]:  # noqa: FBT001 - handed through
    """What another notebook, or a script with a PEP 723 block, declares."""
    text = read_notebook(file)
    request = parse_request(text.metadata, text.script_blocks, allow_urls=allow_urls)
    return declared(request), [*request.warnings]


def declared(request: Request) -> list[str]:
    """What a request declares, with what it asks of torch."""
    return [*([f"torch{request.torch}"] if request.torch else []), *request.extras]


def _toml(file: Path) -> dict[str, Any]:
    import tomli

    try:
        return dict(tomli.loads(file.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError) as error:
        raise InvalidRequest(
            f"{file} cannot be read", why=str(error), fix="name a pyproject.toml or a notebook after --from"
        ) from error
