"""Whether what is installed is whole: every requirement there, in a version that will do.

Reads metadata only; no code of a package runs, and uv, which would start the overlay's
interpreter, is not asked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from email.parser import HeaderParser
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from ..system import records


@dataclasses.dataclass(frozen=True)
class Distribution:
    """A package that is there: its version, and what it requires."""

    version: str
    requires: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Needs:
    """What some requirements come to: the names of all that they reach, and what is wrong, as clauses."""

    names: frozenset[str]
    faults: tuple[str, ...]


def distributions(site_dirs: Iterable[Path]) -> dict[str, Distribution]:
    """Name → distribution of site directories; the first that has a name wins."""
    found: dict[str, Distribution] = {}
    for directory in site_dirs:
        for dist_info in records.dist_infos(directory):
            text = (dist_info / "METADATA").read_text(encoding="utf-8", errors="replace")
            headers = HeaderParser().parsestr(text)
            requires = tuple(headers.get_all("Requires-Dist", []))
            name = canonicalize_name(str(headers["Name"]))
            found.setdefault(name, Distribution(str(headers["Version"]), requires))
    return found


def needs(roots: Iterable[str], here: Mapping[str, Distribution], python: str) -> Needs:
    """All that ``roots`` (PEP 508) reach among ``here``; pure but for what machine this is.

    ``python`` is the version that their markers are asked for.
    """
    environment = _environment(python)
    pending = [(root, "the notebook", "") for root in roots]
    seen: set[tuple[str, str]] = set()
    names: set[str] = set()
    faults: dict[str, None] = {}
    while pending:
        text, asker, extra = pending.pop()
        requirement = _applying(text, {**environment, "extra": extra})
        if requirement is None:
            continue
        name = canonicalize_name(requirement.name)
        names.add(name)
        if fault := _fault(requirement, asker, here):
            faults[fault] = None
        for wanted in ("", *requirement.extras) if name in here else ():
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                pending += [(more, name, wanted) for more in here[name].requires]
    return Needs(frozenset(names), tuple(faults))


def needed(
    roots: Iterable[str], new: Mapping[str, Distribution], base: Mapping[str, Distribution], python: str
) -> Needs:
    """All that ``roots`` reach among ``new`` packages on a base, and what must come along, as ``needs``.

    That is a new version of what is in the base, whose own does not go with the others.
    """
    pending = list(roots)
    while True:
        found = needs(pending, {**base, **new}, python)
        kept = {name: new[name] for name in found.names & new.keys()}
        others = sorted(base.keys() & (new.keys() - kept.keys()))
        along = [name for name in others if _is_upset(name, base[name], kept, python)]
        if not along:
            return found
        pending += along


def _is_upset(name: str, distribution: Distribution, kept: Mapping[str, Distribution], python: str) -> bool:
    wanted = applying(distribution.requires, python)
    return any(_fault(one, name, kept) for one in wanted if canonicalize_name(one.name) in kept)


def applying(texts: Iterable[str], python: str, extra: str = "") -> list[Requirement]:
    """Those of the requirements ``texts`` that count here for a Python, and for an extra of who has them."""
    environment = {**_environment(python), "extra": extra}
    found = (_applying(text, environment) for text in texts)
    return [requirement for requirement in found if requirement is not None]


def upset(changed: Iterable[str], here: Mapping[str, Distribution], python: str) -> list[str]:
    """Which distributions do not go with those that were ``changed``, as clauses."""
    environment = {**_environment(python), "extra": ""}
    names = frozenset(changed)
    faults = []
    for asker, distribution in sorted(here.items()):
        for text in distribution.requires:
            requirement = _applying(text, environment)
            if requirement is not None and canonicalize_name(requirement.name) in names:
                faults.append(_fault(requirement, asker, here))
    return [fault for fault in faults if fault]


def _environment(python: str) -> dict[str, str]:
    environment = {str(key): str(value) for key, value in default_environment().items()}
    return environment | {
        "python_full_version": python,
        "python_version": ".".join(python.split(".")[:2]),
    }


def _applying(text: str, environment: Mapping[str, str]) -> Requirement | None:
    """A requirement that counts here; None also for what no tool reads, which uv passes over, too."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return None
    applies = requirement.marker is None or requirement.marker.evaluate(dict(environment))
    return requirement if applies else None


def _fault(requirement: Requirement, asker: str, here: Mapping[str, Distribution]) -> str:
    name = canonicalize_name(requirement.name)
    wanted = f"{asker} needs {name}{requirement.specifier}"
    if name not in here:
        return f"{wanted}, which is not there"
    if not requirement.specifier.contains(here[name].version, prereleases=True):
        return f"{wanted}, and {here[name].version} is there"
    return ""
