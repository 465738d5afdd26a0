"""Find words that docs/words.txt avoids, in the pages and in what the program says.

    python docs/prose.py

Prints each with its place and what to write instead; exit status 1 where there is one.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
WORDS = Path(__file__).with_name("words.txt")


def rules() -> list[tuple[re.Pattern[str], str]]:
    """Each pattern to avoid, and what to write instead."""
    lines = (line for line in WORDS.read_text(encoding="utf-8").splitlines() if line and line[0] != "#")
    return [
        (re.compile(pattern, re.IGNORECASE), better)
        for pattern, _, better in (line.partition(" -> ") for line in lines)
    ]


def prose() -> Iterator[tuple[Path, int, str]]:
    """Every line of the pages, and every text in the program that is long enough to be a sentence."""
    for page in (*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")):
        if page.name == "reliability.md":  # made of the names of tests
            continue
        yield from ((page, at, line) for at, line in enumerate(page.read_text("utf-8").splitlines(), 1))
    for module in (REPOSITORY / "kernel_provisioner").rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                yield module, node.lineno, node.value


def main() -> int:
    """Print what is found; 1 where something is."""
    found = [
        f"{place.relative_to(REPOSITORY)}:{line}: {match.group()!r}: {better}"
        for place, line, text in prose()
        for pattern, better in rules()
        if (match := pattern.search(text))
    ]
    print("\n".join(found))
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
