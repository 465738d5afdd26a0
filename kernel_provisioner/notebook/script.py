"""PEP 723 blocks in Python source: the text between ``# /// script`` and ``# ///``."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InvalidRequest

OPENING = "# /// script"
CLOSING = "# ///"


def find_blocks(source: str) -> list[str]:
    """The TOML text of each block in ``source``; raises InvalidRequest for one that is not closed."""
    if OPENING not in source:
        return []
    lines = source.split("\n")
    return [toml_in(lines[start:end]) for start, end in spans(lines)]


def spans(lines: Sequence[str]) -> list[tuple[int, int]]:
    """Where each block stands: its opening line, and the one after its closing line.

    Source: PEP 723. The last closing line counts among the comment lines that follow the opening
    one. The PEP lets a tool pass over an unclosed block; here its dependencies would silently be
    missing, so it is refused: raises InvalidRequest.
    """
    found = []
    start = 0
    while start < len(lines):
        if lines[start].rstrip() != OPENING:
            start += 1
            continue
        end = start + 1
        while end < len(lines) and _is_comment(lines[end].rstrip()):
            end += 1
        closing = next((at for at in range(end - 1, start, -1) if lines[at].rstrip() == CLOSING), None)
        if closing is None:
            raise InvalidRequest(
                f"{OPENING} has no closing line",
                field=OPENING,
                why=f"PEP 723 ends a block with a line that says {CLOSING}, after comment lines only",
                fix=f"add the line {CLOSING} after the last line of the block",
            )
        found.append((start, closing + 1))
        start = end
    return found


def toml_in(block: Sequence[str]) -> str:
    """The TOML text in the lines of one block."""
    return "\n".join(line.rstrip()[2:] for line in block[1:-1])


def block_of(toml: str) -> list[str]:
    """The lines of a block with this TOML text."""
    return [OPENING, *(f"# {line}" if line else "#" for line in toml.rstrip("\n").split("\n")), CLOSING]


def _is_comment(line: str) -> bool:
    return line == "#" or line.startswith("# ")
