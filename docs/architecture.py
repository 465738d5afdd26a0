"""Write docs/architecture.md's diagram and table from the code's own imports and docstrings.

    python docs/generate.py

tests/test_docs.py fails where the page is not what this writes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

PAGE = Path(__file__).with_name("architecture.md")
PACKAGE = Path(__file__).parents[1] / "kernel_provisioner"
_FROM, _TO = "<!-- Made by docs/generate.py from the imports -->\n", "<!-- End of what was made -->\n"
_SHARED = "inkernel/shared"


def page() -> str:
    """The page, with what the code says now between its marks."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(_FROM)
    _, _, after = rest.partition(_TO)
    return f"{before}{_FROM}\n{_diagram(imports())}\n{_table()}\n{_TO}{after}"


def imports() -> dict[str, set[str]]:
    """Each part, and the parts that it imports; those without arrows too."""
    found: dict[str, set[str]] = {}
    for module in sorted(PACKAGE.rglob("*.py")):
        room = _room(module.relative_to(PACKAGE).parts)
        if room:
            found.setdefault(room, set()).update(set(_imported(module)) - {room})
    return found


def _room(parts: Sequence[str]) -> str:
    """The part that a file belongs to, by its path; empty for the package's own ``__init__``."""
    if parts[:2] == ("inkernel", "shared"):
        return _SHARED
    return parts[0].removesuffix(".py").removeprefix("__init__")


def _imported(module: Path) -> Iterator[str]:
    package = module.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = package[: len(package) - node.level + 1]
            names = (node.module or "").split(".") if node.module else []
            for alias in node.names:
                parts = (*above, *names, alias.name)
                if (PACKAGE / parts[0]).exists() or (PACKAGE / f"{parts[0]}.py").exists():
                    yield _room(parts)


def _reduced(rooms: Mapping[str, set[str]]) -> Iterator[tuple[str, str]]:
    """The arrows that say something: without those that follow from others (transitive reduction)."""
    for room, targets in rooms.items():
        for target in sorted(targets):
            others = (other for other in targets if other != target)
            if not any(target in _reachable(rooms, other) for other in others):
                yield room, target


def _reachable(rooms: Mapping[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    pending = [start]
    while pending:
        for target in rooms.get(pending.pop(), set()) - seen:
            seen.add(target)
            pending.append(target)
    return seen


def _diagram(rooms: Mapping[str, set[str]]) -> str:
    lines = [f"  {_node(room)} --> {_node(target)}" for room, target in _reduced(rooms)]
    return "\n".join(["```mermaid", "flowchart TD", *lines, "```", ""])


def _node(room: str) -> str:
    return 'shared["inkernel/shared"]' if room == _SHARED else room


def _table() -> str:
    rows = ["| part | what it is for |", "| --- | --- |"]
    for path in sorted(PACKAGE.iterdir()):
        file = path / "__init__.py" if path.is_dir() else path
        if file.suffix != ".py" or not file.exists() or path.name == "__init__.py":
            continue
        doc = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        rows.append(f"| `{path.name}{'/' if path.is_dir() else ''}` | {doc.partition(chr(10))[0]} |")
    return "\n".join([*rows, ""])
