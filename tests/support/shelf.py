"""A shelf of overlays for the collector, on which no builder has to run."""

from __future__ import annotations

import os
from pathlib import Path

from kernel_provisioner.collector import Collected, Policy, collect
from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.overlay import store
from kernel_provisioner.overlay.store import Generation, State

from .notebooks import write_notebook

NOW = 2_000_000_000.0
"""When a shelf is swept, and when its overlays were last used where a test says nothing else."""

EVERYTHING = Policy(everything=True)


class Shelf:
    """Overlays as launches and builders leave them, made with the store's own functions."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.store = store.Store(home / "overlays")
        self.store.prepare()
        self.root = self.store.root
        self.base = home / "bases/cpu-torch2.6.0-py311-00000000"
        self.base.mkdir(parents=True)
        (self.base / "base.json").write_text("{}")

    def overlay(
        self, notebook: str, state: State = State.READY, *, base: Path | None = None, used: float = NOW
    ) -> Generation:
        """One more generation of a notebook, which is written where it is not there yet."""
        path = self.home / notebook
        if not path.exists():
            write_notebook(path)
        directory = self.store.notebook_dir(path)
        generation = self.fill(self.store.begin(directory), state, base=base, used=used)
        store.claim(directory, path)
        return generation

    def fill(
        self, generation: Generation, state: State, *, base: Path | None = None, used: float = NOW
    ) -> Generation:
        """What a generation in this state holds."""
        site = generation.path / "lib/python3.11/site-packages"
        site.mkdir(parents=True)
        (site / "zzz_torch_base.pth").write_text("/base\n")
        self.install(generation, "torch", "2.6.0+cpu", installer="torch-overlay")
        base = base or self.base
        spec = {
            "order": {"base": base.name},
            "base_directory": str(base),
        }
        generation.write(layout.SPEC, spec)
        (generation.path / layout.USE_LOCK).touch()
        os.utime(generation.path / layout.USE_LOCK, (used, used))
        if state is State.READY:
            self.install(generation, "einops", "0.8.1")
            declared = [{"name": "einops", "version": "0.8.1"}]
            generation.write(layout.OVERLAY, {"base": base.name, "installed": declared, "replaced": {}})
            (generation.path / layout.ENTERED).touch()
        elif state is State.FAILED:
            generation.write(layout.FAILED, {"failure": {"what": "no"}})
        return generation

    def install(self, generation: Generation, name: str, version: str, *, installer: str = "uv") -> None:
        """Put a distribution into an overlay, as uv or pip would."""
        (dist_info := generation.path / f"lib/python3.11/site-packages/{name}-{version}.dist-info").mkdir()
        (dist_info / "INSTALLER").write_text(installer)

    def collect(self, policy: Policy = Policy(), *, dry_run: bool = False) -> Collected:  # noqa: B008 - frozen
        """Collect, at a fixed time."""
        return collect(self.root, policy, now=NOW, dry_run=dry_run)


def names(collected: Collected) -> set[str]:
    """What was removed, by directory and generation."""
    return {f"{removed.path.parent.name.split('-')[0]}/{removed.path.name}" for removed in collected.removed}
