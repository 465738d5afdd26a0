"""What goes on behind a kernel: filling the wheel store, and compiling bytecode."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from kernel_provisioner.collector.scan import scan
from kernel_provisioner.overlay import store
from kernel_provisioner.store.entry import uncompiled

_WITHIN = 120.0
"""Seconds for all of it: no start waits for it, but it takes a processor."""


async def store_filled(root: Path) -> None:
    """Wait until nothing is built among the overlays in ``root``, and all packages have their bytecode."""
    until = time.monotonic() + _WITHIN
    while _is_building(root) or uncompiled(map(str, filter(Path.is_dir, (root / store.WHEELS).iterdir()))):
        if time.monotonic() > until:
            raise RuntimeError(f"the wheel store was not filled within {_WITHIN:g} s")
        await asyncio.sleep(0.1)


def _is_building(root: Path) -> bool:
    return any(one.state is store.State.BUILDING for found in scan(root) for one in found.generations)
