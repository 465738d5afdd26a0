"""A desk with bases of fake torch and notebooks to lock, and the locks that are written there."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.overlay import store

from .bases import Workshop
from .index import LocalIndex
from .launches import launches
from .notebooks import set_torch_env, write_notebook


class Desk(Workshop):
    """A workshop with bases for cpu and cu124, and notebooks to lock."""

    def __init__(self, home: Path, index: LocalIndex) -> None:
        super().__init__(home, index, TORCH_OVERLAY_ROOT=str(home / "overlays"))
        self.env["TORCH_OVERLAY_INDEX"] = index.template
        self.stock("cpu", "cu124")
        self.cpu, self.cu124 = self.create("cpu").base, self.create("cu124").base

    def write(self, name: str, *extras: str, **torch_env: Any) -> Path:
        """A notebook with these extras."""
        return write_notebook(
            self.home / f"{name}.ipynb", "1", torch_env={"extras": list(extras), **torch_env}
        )

    def lock(self, notebook: Path, *words: str) -> dict[str, Any]:
        """Lock it; what the command says as JSON."""
        return dict(json.loads(self.command("lock", str(notebook), "--json", *words).stdout))

    def launch(self, notebook: Path, pinned: str = "cpu") -> dict[str, Any]:
        """What a launch with the kernel of ``pinned`` comes to, and later ones. ``got``: name → version."""
        (told,) = launches([notebook], self.env, pinned, again=True)
        state = store.Generation(Path(told["overlay"])) if told["overlay"] else None
        got: dict[str, str] = {}
        if state is not None and told["state"] == "ready":
            content = state.read(layout.OVERLAY)
            got = {entry["name"]: entry["version"] for entry in content["installed"]}
        return {**told, "got": got}

    def forget(self) -> None:
        """As on another machine: empty uv's cache, the wheel store, what earlier resolutions came to."""
        self.forget_wheels()
        for known in (self.overlays.root / "locks").glob("*"):
            known.unlink()

    @contextlib.contextmanager
    def visit(self) -> Iterator[Desk]:
        """This desk for one test, with nobody asked yet; environment and index are put back after it."""
        env = dict(self.env)
        self.index.asked.clear()
        try:
            yield self
        finally:
            self.env = env
            self.index.behave()


def lock_of(notebook: Path) -> dict[str, Any]:
    """The lock in a notebook."""
    return dict(json.loads(notebook.read_text())["metadata"]["torch_env"]["lock"])


def package_of(notebook: Path, name: str) -> dict[str, Any]:
    """One package of the lock in a notebook."""
    return dict(next(entry for entry in lock_of(notebook)["packages"] if entry["name"] == name))


def set_lock(notebook: Path, lock: object) -> None:
    """Write another lock into a notebook, as an editor would."""
    said = json.loads(notebook.read_text())["metadata"]["torch_env"]
    set_torch_env(notebook, {**said, "lock": lock})
