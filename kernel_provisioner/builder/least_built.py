"""Resolve with few builds from source, where only some packages may be built."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from ..errors import ResolutionFailed
from ..uv.messages import wants_source
from .spec import BuildSpec

_Found = TypeVar("_Found")


def with_least_built(
    spec: BuildSpec, find: Callable[[list[str]], _Found], built: frozenset[str] = frozenset()
) -> _Found:
    """What ``find``, given uv's options, finds when few of the packages that may be built are built.

    Where all others must be wheels, uv takes no wheel of a package that it may build. So one may be
    ``built`` only once a failure names it, and all of them where a failure names none.
    """
    while True:
        try:
            return find(spec.build_options(built, builds=True))
        except ResolutionFailed as error:  # noqa: PERF203 - as often as there are packages to build
            more = frozenset(spec.policy.buildable or ()) - built
            if not more or not wants_source(error):
                raise
            built |= named_among(more, error.why) or more


def named_among(names: Iterable[str], text: str) -> frozenset[str]:
    """Those of these packages that a text names."""
    return frozenset(name for name in names if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text))
