"""What must hold after every fault, whatever it was: nothing is harmed, and the error helps.

A test makes an ``Oracle`` before it injects its fault, and asks ``unharmed`` afterwards; what the
user is told goes through ``explains``, and ``next_try`` launches again once the fault is gone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kernel_provisioner.base.registry import MANIFEST
from kernel_provisioner.errors import CorruptState
from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.overlay import store
from kernel_provisioner.system import records

from .launches import launches
from .tree import tree_hash

_CONTENT_UP_TO = 1_000_000  # bytes; of a larger notebook, or a FIFO, only size and times are compared


class Oracle:
    """Remembers the bases and notebooks as they are when it is made.

    ``bases`` is the directory that registers them (``…/torch-bases``), ``overlays`` the overlay
    root, ``notebooks`` the folder whose ``*.ipynb``, at any depth, must not change.
    """

    def __init__(self, *, bases: Path, overlays: Path, notebooks: Path) -> None:
        self.bases, self.overlays, self.notebooks = bases, overlays, notebooks
        self._bases = _bases(bases)
        self._notebooks = _notebooks(notebooks)

    def unharmed(self) -> None:
        """Every base and notebook is what it was, and every overlay that says it is ready is whole."""
        assert _bases(self.bases) == self._bases, "a base was changed"
        assert _notebooks(self.notebooks) == self._notebooks, "a notebook was changed"
        for generation in ready(self.overlays):
            assert not faults(generation), f"{generation.path} says it is ready"

    def next_try(self, notebook: Path, env: Mapping[str, str]) -> dict[str, Any]:
        """Launch ``notebook`` again, now that the fault is gone: it ends with a whole, ready overlay.

        What its kernel was told, as ``support.launches`` gives it.
        """
        (told,) = launches([notebook], env, again=True)
        assert not told["failure"], told["failure"]
        assert told["state"] == store.State.READY.value, told["build"]
        self.unharmed()
        return told


def explains(told: Mapping[str, str], *, cause: str, step: str, path: Path | str = "") -> None:
    """Assert that an error (``what``, ``why``, ``fix``) names its cause, the path and the next step.

    ``cause`` and ``step`` are regular expressions, case ignored; ``path`` is looked for as it is.
    """
    told_of = f"{told.get('what', '')}\n{told.get('why', '')}"
    said = f"{told_of}\n  fix: {told.get('fix', '')}"
    assert re.search(cause, told_of, re.IGNORECASE), said
    assert str(path) in said, said
    assert re.search(step, told.get("fix", ""), re.IGNORECASE), said
    assert "Traceback" not in said, said


def ready(overlays: Path) -> list[store.Generation]:
    """The generations under an overlay root that say they are ready, in a record that can be read."""
    found = []
    for record in sorted(overlays.glob(f"*/[0-9]*/{layout.OVERLAY}")):
        generation = store.Generation(record.parent)
        try:
            generation.read(layout.OVERLAY)
        except CorruptState:
            continue  # no launch takes it for ready either
        found.append(generation)
    return found


def faults(generation: store.Generation) -> list[str]:
    """What is wrong with an overlay's files: each against RECORD, and what it says is installed is there.

    Of a provisional one names and sizes alone are sure.
    """
    sites = "lib*/python*/site-packages"
    staged = sorted((generation.path / layout.STAGING).glob(sites))
    found: list[str] = []
    names = set()
    check = records.cut_short if generation.is_provisional else records.check
    for site in [*staged, *sorted(generation.path.glob(sites))]:
        for dist_info in records.dist_infos(site):
            found += map(str, check(dist_info))
            names.add(_escaped(dist_info.name.removesuffix(".dist-info")))
    for entry in generation.read(layout.OVERLAY)["installed"]:
        if _escaped(f"{entry['name']}-{entry['version']}") not in names:
            found.append(f"{entry['name']} {entry['version']} is missing")
    return found


def _bases(directory: Path) -> dict[str, str]:
    return {path.parent.name: tree_hash(path.parent) for path in directory.glob(f"*/{MANIFEST}")}


def _notebooks(folder: Path) -> dict[Path, tuple[object, ...]]:
    found: dict[Path, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*.ipynb")):
        info = path.lstat()
        readable = path.is_file() and info.st_size <= _CONTENT_UP_TO and os.access(path, os.R_OK)
        content = path.read_bytes() if readable else b""
        found[path] = (info.st_mode, info.st_size, info.st_mtime_ns, content)
    return found


def _escaped(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()
