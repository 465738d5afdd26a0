"""What a notebook's environment holds and why: what was declared, what that needs, and what the base has."""

from __future__ import annotations

import dataclasses
import difflib
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ..builder.build import everything
from ..builder.consistency import Distribution, applying
from ..errors import OverlayError
from ..inkernel.shared import layout
from ..overlay import store
from .installed import content_of
from .kernels import Prospect

DECLARED, BY_HAND, BASE = "declared", "by hand", "base"


@dataclasses.dataclass(frozen=True)
class Node:
    """A package in the tree of a notebook's environment.

    ``requirement`` is how it is asked for, ``version`` empty where it is not there. ``origin`` is DECLARED,
    BY_HAND, BASE, or empty for what came along. What it needs is under ``needs``, but where it is the base's,
    or ``repeated``: told further up.
    """

    name: str
    version: str
    requirement: str
    origin: str = ""
    repeated: bool = False
    needs: tuple[Node, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The node as JSON values."""
        return {**vars(self), "needs": [node.as_dict() for node in self.needs]}


class Tree:
    """The packages of a notebook's overlay and of its base, and what each of them needs."""

    def __init__(self, ahead: Prospect) -> None:
        """Raises OverlayError where the notebook has no overlay yet."""
        generation = ahead.outlook.generation
        if generation is None or generation.state() is not store.State.READY:
            raise OverlayError(
                f"the packages of {ahead.path.name} are not installed yet",
                why="they are installed while its kernel starts",
                fix=f"jupyter overlay prebuild {ahead.path}  installs them now",
            )
        self.outdated = ahead.outlook.state == "outdated"
        self._here = everything(generation)
        content = content_of(generation)
        self._own = content.versions
        self._base = ahead.outlook.base.manifest
        declared = applying(generation.read(layout.SPEC)["order"]["extras"], self._base.python)
        by_hand = [Requirement(name) for name in sorted(content.by_hand)]
        self._roots = [(found, DECLARED) for found in declared] + [(found, BY_HAND) for found in by_hand]

    def nodes(self) -> list[Node]:
        """What was declared or installed by hand, each with what it needs below it."""
        seen: set[tuple[str, frozenset[str]]] = set()
        return [self._node(requirement, origin, seen) for requirement, origin in self._roots]

    def why(self, name: str) -> list[list[Node]]:
        """The ways from what was declared, or installed by hand, to a package: the shortest of each.

        None for a package that only the base needs. Raises OverlayError where it is not there.
        """
        wanted = canonicalize_name(name)
        if wanted not in self._here:
            known = difflib.get_close_matches(wanted, self._here, 1)
            raise OverlayError(
                f"{name} is not in this notebook's environment"
                + (f"; did you mean {known[0]}?" if known else ""),
                fix="jupyter overlay tree NOTEBOOK  shows what is",
            )
        ways = (self._way(requirement, origin, wanted) for requirement, origin in self._roots)
        return [way for way in ways if way]

    def found(self, name: str) -> Node:
        """One package that is there, without what it needs."""
        name = canonicalize_name(name)
        return Node(name, self._here[name].version, name, self._origin(name))

    def asked_by(self, name: str) -> list[str]:
        """The packages that need one directly."""
        wanted = canonicalize_name(name)
        return sorted(
            asker
            for asker, distribution in self._here.items()
            if any(canonicalize_name(need.name) == wanted for need in self._needs(distribution, ("",)))
        )

    def _node(self, requirement: Requirement, origin: str, seen: set[tuple[str, frozenset[str]]]) -> Node:
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        there = self._here.get(name)
        origin = origin or self._origin(name)
        node = Node(name, there.version if there else "", _told(requirement), origin)
        if there is None or name not in self._own:
            return node
        if (name, extras) in seen:
            return dataclasses.replace(node, repeated=bool(there.requires))
        seen.add((name, extras))
        needs = tuple(self._node(need, "", seen) for need in self._needs(there, ("", *sorted(extras))))
        return dataclasses.replace(node, needs=needs)

    def _way(self, root: Requirement, origin: str, wanted: str) -> list[Node]:
        """The shortest chain of needs from ``root`` to a package; nothing where there is none."""
        pending: deque[tuple[Requirement, tuple[Node, ...]]] = deque([(root, (self._flat(root, origin),))])
        seen: set[str] = set()
        while pending:
            requirement, way = pending.popleft()
            name = way[-1].name
            if name == wanted:
                return list(way)
            there = self._here.get(name)
            key = f"{name}[{','.join(sorted(requirement.extras))}]"
            if there is None or key in seen:
                continue
            seen.add(key)
            needs = self._needs(there, ("", *requirement.extras))
            pending += [(need, (*way, self._flat(need, ""))) for need in needs]
        return []

    def _flat(self, requirement: Requirement, origin: str) -> Node:
        name = canonicalize_name(requirement.name)
        there = self._here.get(name)
        version = there.version if there else ""
        return Node(name, version, _told(requirement), origin or self._origin(name))

    def _origin(self, name: str) -> str:
        return BASE if name in self._here and name not in self._own else ""

    def _needs(self, distribution: Distribution, extras: tuple[str, ...]) -> Iterator[Requirement]:
        """What a distribution needs, each once, for itself and for its extras."""
        told: set[str] = set()
        for extra in extras:
            for need in applying(distribution.requires, self._base.python, extra):
                if (text := _told(need)) not in told:
                    told.add(text)
                    yield need


def tree_data(ahead: Prospect, tree: Tree) -> dict[str, Any]:
    """As ``jupyter overlay tree --json`` has it."""
    return {
        "notebook": str(ahead.path),
        "base": ahead.outlook.base.manifest.id,
        "outdated": tree.outdated,
        "packages": [node.as_dict() for node in tree.nodes()],
    }


def tree_lines(ahead: Prospect, tree: Tree) -> list[str]:
    """The tree for people: a line for each package, drawn as ``uv tree`` draws."""
    lines = [f"{ahead.path.name} on {ahead.outlook.base.manifest.id}"]
    lines += _drawn(tree.nodes(), "")
    return [*lines, *_caution(tree)]


def why_data(ahead: Prospect, tree: Tree, name: str) -> Mapping[str, Any]:
    """As ``jupyter overlay why --json`` has it."""
    return {
        "notebook": str(ahead.path),
        **{
            key: value
            for key, value in vars(tree.found(name)).items()
            if key in ("name", "version", "origin")
        },
        "ways": [[node.as_dict() for node in way] for way in tree.why(name)],
        "needed_by": tree.asked_by(name),
    }


def why_lines(ahead: Prospect, tree: Tree, name: str) -> list[str]:
    """Why a package is there, for people: one line for each way that leads to it."""
    ways = tree.why(name)
    found, base = tree.found(name), ahead.outlook.base.manifest.id
    here = f"{found.name} {found.version} is " + (
        f"in the base {base}" if found.origin == BASE else "installed"
    )
    if ways:
        lines = [f"{here}, because of", *(f"  {_arrows(way)}" for way in ways)]
    else:
        askers = ", ".join(tree.asked_by(name))
        lines = [f"{here}; nothing that the notebook declares needs it"]
        lines += [f"  needed by {askers}"] if askers else []
    return [*lines, *_caution(tree)]


def _arrows(way: list[Node]) -> str:
    first, *others = way
    told = [f"{first.requirement} ({first.origin})", *(node.requirement for node in others)]
    return " → ".join(told)


def _caution(tree: Tree) -> list[str]:
    return ["the notebook declares something else now: the next start installs it"] if tree.outdated else []


def _drawn(nodes: list[Node] | tuple[Node, ...], indent: str) -> Iterator[str]:
    for number, node in enumerate(nodes, 1):
        last = number == len(nodes)
        notes = [node.origin] if node.origin in (BASE, BY_HAND) else []
        notes += ["not there"] if not node.version else []
        notes += ["see above"] if node.repeated else []
        said = f" ({', '.join(notes)})" if notes else ""
        asked = "" if node.requirement == node.name else f"  as {node.requirement}"
        yield f"{indent}{'└── ' if last else '├── '}{node.name} {node.version}".rstrip() + said + asked
        yield from _drawn(node.needs, indent + ("    " if last else "│   "))


def _told(requirement: Requirement) -> str:
    """A requirement without its marker, which counts or it would not be here."""
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{canonicalize_name(requirement.name)}{extras}{requirement.specifier}"
