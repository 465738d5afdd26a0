"""What this package reads of a notebook, whatever form the notebook has."""

from __future__ import annotations

import dataclasses

KEY = "torch_env"
"""The key in the notebook's metadata."""

JUV_KEY = "uv.lock"
"""The key in the notebook's metadata under which juv keeps the text of uv.lock (juv's _lock.py)."""


@dataclasses.dataclass(frozen=True)
class NotebookText:
    """The parts of a notebook that this package reads.

    ``metadata`` is the value of ``torch_env`` as JSON gave it, or YAML, None where there is none.
    ``script_blocks`` are the TOML texts of PEP 723 blocks, and ``script_cells`` the number of the
    cell that each stands in, counting all cells from 1, where cells are told apart. ``uv_lock`` is
    the lock that juv keeps.
    """

    metadata: object = None
    script_blocks: tuple[str, ...] = ()
    script_cells: tuple[int, ...] = ()
    uv_lock: str = ""
