"""What overlays are linked to: the entries of the wheel store."""

from __future__ import annotations

import json
from pathlib import Path

from kernel_provisioner.inkernel.shared import layout, links
from kernel_provisioner.overlay import store
from kernel_provisioner.store import entry as entries

from .bases import Bench, Built
from .tree import tree_hash
from .waiting import wait_for


def two(bench: Bench, *extras: str) -> tuple[Built, Built]:
    """Two notebooks with the same extras, both entered."""
    both = tuple(bench.overlay(bench.base(), *extras, notebook=f"{extras[0]}-{name}.ipynb") for name in "ab")
    for built in both:
        assert built.ready, built.told
        bench.enter(built)
    return both[0], both[1]


def site(built: Built) -> Path:
    """The overlay's own site-packages."""
    return next(built.path.glob(f"lib/python*/site-packages/{layout.BASE_PATHS}.pth")).parent


def entry(built: Built, name: str) -> Path:
    """The entry that a distribution of an overlay is linked to."""
    (info,) = site(built).glob(f"{name.replace('-', '_')}-*.dist-info")
    return Path(links.entry_of(info))


def wait_until_compiled(built: Built) -> None:
    """Until no process of this overlay's build writes into the store any more."""
    used = [Path(path) for path in built.content[layout.ENTRIES]]
    wait_for(lambda: all((path / entries.COMPILED).exists() for path in used), "bytecode is compiled")


def compiled(bench: Bench, built: Built) -> str:
    """The hash of the whole store, once all that an overlay is linked to has its bytecode."""
    wait_until_compiled(built)
    return tree_hash(bench.overlays.root / store.WHEELS)


def add(bench: Bench, built: Built, *words: str) -> dict[str, object]:
    """``%overlay add`` of these words: what the builder says has changed."""
    done = bench.build(built.generation, "--add", *words).done
    return dict(json.loads(done.stdout.splitlines()[-1]))
