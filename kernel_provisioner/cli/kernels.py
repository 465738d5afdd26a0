"""The kernels of ours that Jupyter knows here, and which of them a notebook is for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import BaseNotFound, NotebookUnreadable
from ..notebook.find import FoundNotebook
from ..notebook.read import open_notebook, parse_json, read_notebook
from ..prepare import Outlook, look
from ..settings import Settings

PROVISIONER = "torch-overlay"
"""The entry point that our kernel specs name."""

_CHOOSES = "torch"


@dataclasses.dataclass(frozen=True)
class OurKernel:
    """A kernel spec of ours. ``tag`` is what it pins, empty for the one that chooses."""

    name: str
    tag: str
    directory: Path
    argv: tuple[str, ...] = ()


def our_kernels() -> dict[str, OurKernel]:
    """The kernels on Jupyter's path that our provisioner starts, by name."""
    from jupyter_client.kernelspec import KernelSpecManager

    found = {}
    for name, entry in sorted(KernelSpecManager().get_all_specs().items()):
        spec: dict[str, Any] = entry["spec"]
        stanza = (spec.get("metadata") or {}).get("kernel_provisioner") or {}
        if stanza.get("provisioner_name") == PROVISIONER:
            tag = str((stanza.get("config") or {}).get("accelerator") or "")
            found[name] = OurKernel(name, tag, Path(entry["resource_dir"]), tuple(spec.get("argv") or ()))
    return found


def kernel_for(metadata: Mapping[str, Any], wanted: str = "") -> tuple[OurKernel, str]:
    """The kernel to run a notebook with, and a line to tell where that is not the notebook's own.

    ``wanted`` by name; else the one that the notebook's metadata names, if it is one of ours and
    here; else ``torch``, which chooses. Raises BaseNotFound where there is no such kernel of ours.
    """
    kernels = our_kernels()
    named = _named(metadata)
    name = wanted or (named if named in kernels else _CHOOSES)
    if name not in kernels:
        raise BaseNotFound(
            f"there is no shared torch kernel {name!r}",
            why=f"those that Jupyter finds here: {', '.join(kernels) or 'none'}",
            fix="jupyter overlay base create TAG  makes the kernel torch-TAG"
            if name != _CHOOSES
            else "install kernel-provisioner into the environment that runs Jupyter: it brings this kernel",
        )
    elsewhere = not wanted and named.startswith(f"{_CHOOSES}-") and named != name
    return kernels[
        name
    ], f"the notebook's kernel {named} is not on this machine: using {name}" if elsewhere else ""


@dataclasses.dataclass(frozen=True)
class Prospect:
    """What a notebook would run on if it were started now; ``named`` is the kernel that it names."""

    path: Path
    named: str
    kernel: OurKernel
    outlook: Outlook
    notices: tuple[str, ...]


def prospect(notebook: str | Path, wanted: str, settings: Settings) -> Prospect:
    """The prospect of a notebook file with a kernel, or with its own; raises OverlayError."""
    path = Path(notebook).absolute()
    read_notebook(path)  # refuses what a launch would only tell of
    with open_notebook(path) as file:
        metadata = parse_json(path, file.read()).get("metadata")
    if not isinstance(metadata, Mapping):
        raise NotebookUnreadable(f"the notebook {path} cannot be read", why="it has no metadata")
    kernel, notice = kernel_for(metadata, wanted)
    found = FoundNotebook(path, how="command line")
    outlook = look(found, pinned=kernel.tag, settings=settings)
    notices = (*([notice] if notice else []), *outlook.request.warnings, *outlook.chosen.notices)
    return Prospect(path, _named(metadata), kernel, outlook, notices)


def _named(metadata: Mapping[str, Any]) -> str:
    """The kernel that a notebook's metadata names; empty where they name none."""
    spec = metadata.get("kernelspec")
    return str(spec.get("name", "")) if isinstance(spec, Mapping) else ""
