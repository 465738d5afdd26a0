"""``[tool.uv]`` of a PEP 723 block: where uv and juv would take its packages from, and up to which time.

A package that the block takes from a place of its own is never taken from an index instead: the index may
have another one of that name. The keys: https://docs.astral.sh/uv/guides/scripts/ and
https://docs.astral.sh/uv/concepts/projects/dependencies/#dependency-sources
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .accelerators import ECOSYSTEM
from .fields import Field, kind, show

_TABLE = "# /// script [tool.uv]"
_READ = ("sources", "exclude-newer", "index")


class ToolUv(NamedTuple):
    """The block's requirements, from where it takes them; its ``exclude-newer``, unchecked, and notices."""

    requirements: Sequence[Requirement]
    exclude_newer: object = None
    notices: Sequence[str] = ()


def read_tool_uv(tool: object, wanted: Sequence[Requirement], *, allow_urls: bool) -> ToolUv:
    """What ``tool``, the block's table of that name, says of the block's requirements.

    Raises InvalidRequest for a package from a place that cannot be used: a directory, or a repository or an
    address without ``allow_urls``.
    """
    uv = tool.get("uv") if isinstance(tool, Mapping) else None
    if not isinstance(uv, Mapping):
        return ToolUv(wanted)
    sources = uv.get("sources")
    named = {canonicalize_name(str(name)): source for name, source in _table(sources).items()}
    requirements, indexes = [], []
    for requirement in wanted:
        name = canonicalize_name(requirement.name)
        source = _source(name, named.get(name))
        if "index" in source and name not in ECOSYSTEM:  # the base has those of PyTorch's own indexes
            indexes.append(name)
        placed = source and "index" not in source and not requirement.url
        requirements.append(_placed(requirement, source, allow_urls=allow_urls) if placed else requirement)
    return ToolUv(requirements, uv.get("exclude-newer"), tuple(_notices(uv, indexes)))


def _source(name: str, said: object) -> Mapping[str, object]:
    """The source of a package; nothing where there is none. Of several indexes any stands for all."""
    several = said if isinstance(said, list | tuple) else [said]
    places = [one for one in several if isinstance(one, Mapping)]
    if said is None:
        return {}
    if len(places) == len(several) and (len(places) == 1 or all("index" in one for one in places)):
        return places[0] if places else {}
    fix = f'name one place, as in {name} = {{ git = "https://github.com/me/{name}" }}'
    raise Field(f"{_TABLE} sources.{name}", fix).refuse(f"is {kind(said)}, not one table: {show(said)}")


def _placed(requirement: Requirement, source: Mapping[str, object], *, allow_urls: bool) -> Requirement:
    """A requirement with the address that its source is; raises InvalidRequest."""
    name = requirement.name
    if "path" in source or "workspace" in source:
        place = str(source.get("path") or ".")[:200]
        raise Field(
            f"{_TABLE} sources.{name}", f"remove that line, and run this in a cell: %overlay add -e {place}"
        ).refuse(
            "names a directory of one machine",
            "an index may have another package of that name, so it is not taken from there",
        )
    address = f"git+{source['git']}" if "git" in source else str(source.get("url", ""))
    revision = next((source[key] for key in ("rev", "tag", "branch") if key in source), "")
    inside = f"#subdirectory={source['subdirectory']}" if "subdirectory" in source else ""
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    marker = f" ; {requirement.marker}" if requirement.marker else ""
    where = f"{address}{'@' if revision else ''}{revision}{inside}"
    field = Field(
        f"{_TABLE} sources.{name}",
        "remove that line, and an index's package of that name is taken; or ask the owner of this machine\n"
        "to allow addresses (allow_urls)",
    )
    return field.requirement(f"{name}{extras} @ {where}{marker}", allow_urls=allow_urls)


def _notices(uv: Mapping[str, object], indexes: Iterable[str]) -> Iterable[str]:
    """One sentence for each thing that uv would do, and nobody does here."""
    if names := ", ".join(indexes):
        yield f"{_TABLE}: the index of {names} is ignored; only the owner of this machine can name one"
    listed = uv.get("index")
    every = [one for one in listed if isinstance(one, Mapping)] if isinstance(listed, list | tuple) else []
    unread = [str(key)[:40] for key in uv if key not in _READ]
    unread += ["index"] if any(one.get("explicit") is not True for one in every) else []
    if unread:
        yield f"{_TABLE}: {', '.join(sorted(unread)[:5])} is not read here"


def _table(value: object) -> Mapping[object, object]:
    return value if isinstance(value, Mapping) else {}
