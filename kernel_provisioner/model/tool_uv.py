"""``[tool.uv]`` of a PEP 723 block: where uv and juv would take its packages from, and up to which time.

A package that the block takes from a place of its own is never taken from an index instead: the index may
have another one of that name. The keys: https://docs.astral.sh/uv/guides/scripts/ and
https://docs.astral.sh/uv/concepts/projects/dependencies/#dependency-sources
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from packaging.markers import InvalidMarker, Marker, UndefinedEnvironmentName
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ..errors import InvalidRequest
from .accelerators import ECOSYSTEM
from .fields import Field, kind, show

_TABLE = "# /// script [tool.uv]"
_READ = ("sources", "exclude-newer")


class ToolUv(NamedTuple):
    """The block's requirements, from where it takes them; its ``exclude-newer``, if any; and notices."""

    requirements: Sequence[Requirement]
    exclude_newer: str = ""
    notices: Sequence[str] = ()


def read_tool_uv(
    tool: object,
    wanted: Sequence[Requirement],
    moment_of: Callable[[object, Field], str],
    *,
    allow_urls: bool,
) -> ToolUv:
    """What ``tool``, the block's table of that name, says of the block's requirements.

    ``moment_of`` reads a moment in a field. Raises InvalidRequest for a package from a place that cannot be
    used: a directory, or a repository or an address without ``allow_urls``.
    """
    uv = tool.get("uv") if isinstance(tool, Mapping) else None
    if not isinstance(uv, Mapping):
        return ToolUv(wanted)
    sources = uv.get("sources")
    named = {canonicalize_name(str(name)): source for name, source in _table(sources).items()}
    requirements, notices = [], []
    for requirement in wanted:
        name = canonicalize_name(requirement.name)
        source = {} if requirement.url else _source(name, named.get(name))
        if source and name in ECOSYSTEM:
            if "index" not in source:  # for PyTorch's own the base stands
                notices.append(f"{_TABLE}: the source of {name} is ignored; the base decides on it")
        elif "index" in source:
            what = f"the index of {name} is ignored; only the owner of this machine can name one"
            notices.append(f"{_TABLE}: {what}")
        elif source:
            requirement = _placed(requirement, source, allow_urls=allow_urls)  # noqa: PLW2901 - from there
        requirements.append(requirement)
    newer, told = "", _unread(uv)
    if said := uv.get("exclude-newer"):
        try:
            newer = moment_of(said, Field(f"{_TABLE} exclude-newer", ""))
        except InvalidRequest:  # uv takes "1 week", too, which says something else each day
            told = [f"exclude-newer = {show(said)}", *told]
    if told:
        notices.append(f"{_TABLE}: {', '.join(told[:5])} is not read here")
    return ToolUv(requirements, newer, tuple(notices))


def _source(name: str, said: object) -> Mapping[str, object]:
    """The source of a package; nothing where it has none here. Of several indexes any stands for all."""
    several = said if isinstance(said, list | tuple) else [said]
    places = [one for one in several if isinstance(one, Mapping)]
    here = [one for one in places if _is_meant(one.get("marker"))]
    if said is None or (len(places) == len(several) and not here):
        return {}
    if len(places) == len(several) and (len(here) == 1 or all("index" in one for one in here)):
        return here[0]
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


def _is_meant(marker: object) -> bool:
    """Whether a source is for this system; one whose marker nobody understands is."""
    try:
        return not isinstance(marker, str) or Marker(marker).evaluate()
    except (InvalidMarker, UndefinedEnvironmentName, RecursionError):
        return True


def _unread(uv: Mapping[object, object]) -> list[str]:
    """The keys that say something to uv, and nothing here."""
    listed = uv.get("index")
    every = [one for one in listed if isinstance(one, Mapping)] if isinstance(listed, list | tuple) else []
    named = all(one.get("explicit") is True for one in every)  # by sources alone
    return sorted(str(key)[:40] for key in uv if key not in _READ and not (key == "index" and named))


def _table(value: object) -> Mapping[object, object]:
    return value if isinstance(value, Mapping) else {}
