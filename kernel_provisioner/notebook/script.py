"""PEP 723 blocks in the source of a cell: the text between ``# /// script`` and ``# ///``."""

from __future__ import annotations

from kernel_provisioner.errors import InvalidRequest

OPENING = "# /// script"
_CLOSING = "# ///"


def find_blocks(source: str) -> list[str]:
    """The TOML text of each block in ``source``; raises InvalidRequest for one that is not closed.

    Source: PEP 723. The last closing line counts among the comment lines that follow the opening
    one. The PEP lets a tool pass over an unclosed block; here its dependencies would silently be
    missing, so it is refused.
    """
    if OPENING not in source:
        return []
    lines = [line.rstrip() for line in source.split("\n")]
    blocks = []
    start = 0
    while start < len(lines):
        if lines[start] != OPENING:
            start += 1
            continue
        end = start + 1
        while end < len(lines) and (lines[end] == "#" or lines[end].startswith("# ")):
            end += 1
        closing = next((at for at in range(end - 1, start, -1) if lines[at] == _CLOSING), None)
        if closing is None:
            raise InvalidRequest(
                f"{OPENING} has no closing line",
                field=OPENING,
                why=f"PEP 723 ends a block with a line that says {_CLOSING}, after comment lines only",
                fix=f"add the line {_CLOSING} after the last line of the block",
            )
        blocks.append("\n".join(line[2:] for line in lines[start + 1 : closing]))
        start = end
    return blocks
