"""What ``import torch`` looks for and uses where it is there: optional modules, and plugins.

A fork server looks in vain for what a notebook's overlay brings, and so its torch is another than that
of a normal kernel. For most such modules, and for plugins, the kernel has to start normally. Two that
very many packages bring, and that torch hardly uses, can be given to it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, EntryPoints, distributions, entry_points
from importlib.util import find_spec
from typing import Any


@dataclasses.dataclass
class Lookups:
    """The top-level modules that imports did not find, and the groups of plugins that they read."""

    missed: set[str] = dataclasses.field(default_factory=set)
    groups: dict[str, frozenset[tuple[str, str]]] = dataclasses.field(default_factory=dict)

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """As the last finder of all, be asked for what no other has found; find nothing."""
        if path is None:
            self.missed.add(name)


@contextlib.contextmanager
def watched() -> Iterator[Lookups]:
    """Note what is looked for meanwhile."""
    seen = Lookups()
    select: Callable[..., EntryPoints] = EntryPoints.select

    def noted(self: EntryPoints, **wanted: Any) -> EntryPoints:
        found = select(self, **wanted)
        if "group" in wanted:
            seen.groups[wanted["group"]] = _values(found)
        return found

    finders: list[Any] = sys.meta_path
    finders.append(seen)
    EntryPoints.select = noted  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        EntryPoints.select = select  # type: ignore[method-assign]
        finders.remove(seen)


def found_now(seen: Lookups, places: list[str]) -> list[str]:
    """The modules that would be found here, on ``sys.path`` or in ``places``."""
    names = sorted(seen.missed - sys.modules.keys())
    return [name for name in names if find_spec(name) or PathFinder.find_spec(name, places)]


def plugins_now(seen: Lookups, places: list[str]) -> list[str]:
    """The plugins that would be found here and were not then, on ``sys.path`` or in ``places``."""
    added = []
    for group, before in seen.groups.items():
        staged = [point for one in distributions(path=places) for point in one.entry_points]
        there = _values(entry_points(group=group)) | _values(one for one in staged if one.group == group)
        added += [name for name, _ in sorted(there - before)]
    return added


def _values(found: Iterable[EntryPoint]) -> frozenset[tuple[str, str]]:
    return frozenset((point.name, point.value) for point in found)


def _give_tqdm() -> None:
    """Progress bars of downloads: https://github.com/pytorch/pytorch/blob/main/torch/hub.py."""
    vars(sys.modules["torch.hub"])["tqdm"] = importlib.import_module("tqdm").tqdm


def _give_dill() -> None:
    """Pickling of data pipes: https://github.com/pytorch/pytorch/blob/main/torch/utils/_import_utils.py."""
    modules: dict[str, Any] = dict(sys.modules)
    utils, pipes = modules["torch.utils._import_utils"], modules["torch.utils.data.datapipes.datapipe"]
    for answer in (utils.dill_available, utils.import_dill):
        answer.cache_clear()
    pipes.dill = utils.import_dill()
    pipes.HAS_DILL = modules["torch.utils.data.datapipes.utils.common"].DILL_AVAILABLE = (
        pipes.dill is not None
    )


GIVEN: Mapping[str, Callable[[], None]] = {"dill": _give_dill, "tqdm": _give_tqdm}
"""What lets torch have a module after all; each imports the module, as ``import torch`` would."""
