"""Lists of requirements, as a notebook declares them: with some added, or without some."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name


def with_added(extras: Sequence[str], requirements: Iterable[str]) -> list[str]:
    """``extras`` with ``requirements`` at the end, or in place of those of the same name."""
    result = list(extras)
    for new in (requirement.strip() for requirement in requirements):
        same = [at for at, old in enumerate(result) if name_of(old) == name_of(new)]
        result = [new if at in same else old for at, old in enumerate(result) if at not in same[1:]]
        if not same:
            result.append(new)
    return result


def without(extras: Sequence[str], name: str) -> list[str]:
    """``extras`` without the package called ``name``, or the entry that is exactly this text."""
    return [extra for extra in extras if extra != name and name_of(extra) != name_of(name)]


def name_of(requirement: str) -> str:
    """The canonical name of the package; of what is no requirement, the text as a name."""
    try:
        return canonicalize_name(Requirement(requirement).name)
    except InvalidRequirement:
        return canonicalize_name(requirement.strip())
