"""What ``%overlay add`` has installed for a notebook that does not declare it: each of its overlays has it.

Written down beside the overlays. An addition counts for as long as the notebook says of that package what
it said when it was added. Who declares it, or takes the declaration back, has decided.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..inkernel.shared import layout
from ..inkernel.shared.packages import canonical, named_in
from ..system import locks
from ..system.files import read_bytes, replace_text

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from ..model.request import Request

_WAIT = 10.0  # seconds for a launch of the same notebook


class Addition(NamedTuple):
    """A requirement that was added, and what the notebook declared of that package then."""

    requirement: str
    declared: tuple[str, ...] = ()


def undeclared(directory: Path, declared: Sequence[str]) -> tuple[str, ...]:
    """What was added to the overlays in ``directory`` and still counts beside these declared extras."""
    return tuple(addition.requirement for addition in _counting(_read(directory), declared))


def added_names(directory: Path) -> list[str]:
    """The packages of all that was written down, whether it counts or not."""
    return [named_in(addition.requirement) for addition in _read(directory)]


def remember(directory: Path, declared: Sequence[str], new: Iterable[str]) -> None:
    """Let ``new`` requirements be in the overlays to come. Raises OSError, LockTimeout."""
    with locks.exclusive(directory / layout.LAUNCH_LOCK, timeout=_WAIT):
        before = [addition.requirement for addition in _counting(_read(directory), declared)]
        whole = merged(before, [*new])
        _write(directory, [Addition(text, _of_name(declared, named_in(text))) for text in whole])


def forget(directory: Path, names: Iterable[str]) -> list[str]:
    """Drop what was added under these names, and return those that were; raises OSError, LockTimeout."""
    gone = set(map(named_in, names)) & set(added_names(directory))
    if gone:
        with locks.exclusive(directory / layout.LAUNCH_LOCK, timeout=_WAIT):
            _write(directory, [each for each in _read(directory) if named_in(each.requirement) not in gone])
    return sorted(gone)


def drop_decided(directory: Path, declared: Sequence[str]) -> None:
    """Drop what does not count any more; the launch lock is held. Raises OSError."""
    known = _read(directory)
    counting = _counting(known, declared)
    if counting != known:
        _write(directory, counting)


def merged(declared: Iterable[str], added: Sequence[str]) -> tuple[str, ...]:
    """What is to be installed: an addition takes the place of what is declared of the same package.

    Of that the extras stay (``pkg[a]``). What is declared for other environments (markers) than the addition
    keeps its marker, and is bound to no version where the addition is for all. Pure: to merge one after the
    other comes to the same as to merge both.
    """
    found = list(declared)
    for new in added:
        found = _with(found, new)
    return tuple(found)


def with_added(request: Request, added: Sequence[str]) -> Request:
    """``request`` with these in it. Its lock holds the versions that it names, and no longer says all."""
    if not added:
        return request
    import dataclasses  # a builder, which has no Request, starts faster without

    extras = merged(request.extras, added)
    return dataclasses.replace(request, extras=extras, stale=request.stale or request.lock is not None)


def _with(extras: Sequence[str], new: str) -> list[str]:
    """``extras`` with ``new`` at the end; see ``merged``."""
    name = named_in(new)
    if all(named_in(extra) != name for extra in extras):
        return [*extras, new]
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        asked = Requirement(new)
        same = {extra: Requirement(extra) for extra in extras if named_in(extra) == name}
    except InvalidRequirement:  # in a file that somebody has changed
        return [*(extra for extra in extras if named_in(extra) != name), new]
    marker = str(asked.marker or "")
    alike = [one for one in same.values() if str(one.marker or "") == marker]
    parts = _parts(asked).union(*map(_parts, alike))
    found = []
    for extra in extras:
        one = same.get(extra)
        if one is None or (marker and one not in alike):
            found.append(extra)
        elif one not in alike and (more := _parts(one) - parts):
            found.append(f"{name}{_bracketed(more)}; {one.marker}")
    if parts == _parts(asked):
        return [*found, new]
    source = f" @ {asked.url} " if asked.url else str(asked.specifier)
    return [*found, f"{name}{_bracketed(parts)}{source}{f'; {marker}' if marker else ''}".strip()]


def _parts(requirement: Requirement) -> set[str]:
    """The names in the brackets of ``pkg[a,b]``."""
    return set(map(canonical, requirement.extras))


def _bracketed(parts: Iterable[str]) -> str:
    return f"[{','.join(sorted(parts))}]"


def _counting(known: Iterable[Addition], declared: Sequence[str]) -> list[Addition]:
    return [each for each in known if _of_name(declared, named_in(each.requirement)) == each.declared]


def _of_name(declared: Iterable[str], name: str) -> tuple[str, ...]:
    return tuple(extra for extra in declared if named_in(extra) == name)


def _read(directory: Path) -> list[Addition]:
    """All that was written down; nothing where it cannot be read, as before anything was added."""
    try:
        rows = json.loads(read_bytes(f"{directory}/{layout.ADDED}"))["added"]
        return [Addition(str(row["requirement"]), tuple(map(str, row["declared"]))) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def _write(directory: Path, additions: Iterable[Addition]) -> None:
    rows = [addition._asdict() for addition in additions]
    replace_text(directory / layout.ADDED, json.dumps({"added": rows}, indent=1), mode=0o600)
