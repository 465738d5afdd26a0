"""``%overlay``: the commands, for a kernel that shows their steps and errors in a cell."""

from __future__ import annotations

from .app import main as command
from .cell import Cell


def main() -> None:
    """What the executable does, with steps and errors said as ``cell.tell`` says them."""
    Cell.listens = True
    command()
