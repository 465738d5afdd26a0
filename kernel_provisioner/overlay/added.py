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
from ..inkernel.shared.packages import named_in
from ..system import locks
from ..system.files import replace_text

if TYPE_CHECKING:
    from ..model.request import Request

_WAIT = 10.0  # seconds for a launch of the same notebook


class Addition(NamedTuple):
    """A requirement that was added, and what the notebook declared of that package then."""

    requirement: str
    declared: tuple[str, ...] = ()


def undeclared(directory: Path, declared: Sequence[str]) -> tuple[str, ...]:
    """What was added to the overlays in ``directory`` and still counts beside these declared extras."""
    return tuple(addition.requirement for addition in _counting(directory, declared))


def added_names(directory: Path) -> list[str]:
    """The packages of all that was written down, whether it counts or not."""
    return [named_in(addition.requirement) for addition in _read(directory)]


def remember(directory: Path, declared: Sequence[str], new: Iterable[str]) -> None:
    """Let ``new`` requirements be in the overlays to come. Raises OSError, LockTimeout."""
    with locks.exclusive(directory / layout.LAUNCH_LOCK, timeout=_WAIT):
        fresh = {named_in(text): Addition(text, _of_name(declared, named_in(text))) for text in new}
        before = {named_in(addition.requirement): addition for addition in _counting(directory, declared)}
        _write(directory, {**before, **fresh}.values())


def forget(directory: Path, names: Iterable[str]) -> list[str]:
    """Drop what was added under these names, and return those that were; raises OSError, LockTimeout."""
    gone = set(map(named_in, names)) & set(added_names(directory))
    if gone:
        with locks.exclusive(directory / layout.LAUNCH_LOCK, timeout=_WAIT):
            _write(directory, [each for each in _read(directory) if named_in(each.requirement) not in gone])
    return sorted(gone)


def drop_decided(directory: Path, declared: Sequence[str]) -> None:
    """Drop what does not count any more; the launch lock is held. Raises OSError."""
    counting = _counting(directory, declared)
    if counting != _read(directory):
        _write(directory, counting)


def merged(declared: Iterable[str], added: Sequence[str]) -> tuple[str, ...]:
    """What is to be installed: an addition takes the place of what is declared of the same package."""
    names = set(map(named_in, added))
    return (*(extra for extra in declared if named_in(extra) not in names), *added)


def with_added(request: Request, added: Sequence[str]) -> Request:
    """``request`` with these in it. Its lock holds the versions that it names, and no longer says all."""
    if not added:
        return request
    import dataclasses  # a builder, which has no Request, starts faster without

    extras = merged(request.extras, added)
    return dataclasses.replace(request, extras=extras, stale=request.stale or request.lock is not None)


def _counting(directory: Path, declared: Sequence[str]) -> list[Addition]:
    return [
        addition
        for addition in _read(directory)
        if _of_name(declared, named_in(addition.requirement)) == addition.declared
    ]


def _of_name(declared: Iterable[str], name: str) -> tuple[str, ...]:
    return tuple(extra for extra in declared if named_in(extra) == name)


def _read(directory: Path) -> list[Addition]:
    """All that was written down; nothing where it cannot be read, as before anything was added."""
    try:
        rows = json.loads((directory / layout.ADDED).read_bytes())["added"]
        return [Addition(str(row["requirement"]), tuple(map(str, row["declared"]))) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def _write(directory: Path, additions: Iterable[Addition]) -> None:
    rows = [addition._asdict() for addition in additions]
    replace_text(directory / layout.ADDED, json.dumps({"added": rows}, indent=1), mode=0o600)
