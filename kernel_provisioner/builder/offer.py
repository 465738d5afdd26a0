"""How a notebook can declare what was added to its overlay: a cell to keep, or a command that changes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..inkernel.shared.packages import named_in
from ..notebook.edit_text import dependencies_of, with_dependencies
from ..notebook.extras import with_added
from ..notebook.script import block_of


class Offer(NamedTuple):
    """``cell`` is a code cell with a ``# /// script`` block, empty where it would hold nothing new.

    ``earlier``: it holds what an earlier block of the notebook, or an earlier offer, holds, too. ``changes``
    are requirements that no cell can declare: ``jupyter overlay add`` can.
    """

    cell: str = ""
    earlier: bool = False
    changes: tuple[str, ...] = ()


def offer_of(
    script: str, declared: Sequence[str], added: Sequence[str], new: Sequence[str], *, text: bool = False
) -> Offer:
    """What to offer to a notebook with this block, where ``new`` is what was ``added`` just now; pure.

    The cell holds all that its block and all that was added before say: one of two blocks counts only where
    it holds all of the other. So it cannot hold a change of what the notebook declares. A ``text`` notebook
    is offered no cell: its file may hold one block only, for us and for all tools that read PEP 723.
    """
    names = set(map(named_in, declared))
    changes = tuple(each for each in new if named_in(each) in names)
    missing = [each for each in added if named_in(each) not in names]
    if text:
        return Offer(changes=(*missing, *changes))
    if len(changes) == len(new):
        return Offer(changes=changes)
    listed = with_added(dependencies_of(script), missing)
    cell = "\n".join(block_of(with_dependencies(script, listed)))
    return Offer(cell, len(listed) > len(new) - len(changes), changes)
