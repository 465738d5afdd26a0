"""Change what a notebook declares, or see what the change would do; and begin a new notebook."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ..builder.source import make_source
from ..errors import InvalidRequest, NotebookUnreadable
from ..inkernel.shared.packages import named_in
from ..model.request import parse_request
from ..notebook.edit import Edit
from ..notebook.read import named_kernel
from ..overlay.added import remember, undeclared
from ..overlay.sources import Source
from ..overlay.store import Store
from ..settings import Settings
from .changes import changes_of
from .kernels import kernel_for, prospect
from .subject import Subject

_SUFFIX = ".ipynb"


def would_change(
    path: Path, edit: Edit, settings: Settings, *, kernel: str = "", forget: Iterable[str] = ()
) -> dict[str, Any]:
    """What the notebook's next start would install and remove after ``edit``, as ``changes_of`` has it."""
    ours, notice = kernel_for(named_kernel(path), kernel)
    found = changes_of(Subject(path, ours), settings, request=edit.request, forget=forget)
    return {**found, "notices": [*([notice] if notice else []), *found["notices"]]}


def keeping(overlays: Path, edit: Edit, requirements: Sequence[str]) -> Callable[[], None] | None:
    """What lets the notebook have ``requirements`` without declaring them; None where nothing can.

    Nor where it has them so already: whoever asks again, after saving the notebook, wants them declared.
    ``overlays`` is where the overlays of the notebook lie, if it has ever been started.
    """
    if not overlays.is_dir() or any(named_in(text) == "torch" for text in requirements):
        return None
    try:
        declared = edit.now.extras
    except InvalidRequest:  # which this edit mends
        return None
    if set(requirements) <= set(undeclared(overlays, declared)):
        return None
    return lambda: remember(overlays, declared, requirements)


def source_for(path: Path, origin: str, settings: Settings) -> Source:
    """The source ``origin``, built for the base that the notebook runs on; raises OverlayError."""
    outlook = prospect(path, "", settings).outlook
    return make_source(origin, outlook.directory, outlook.base, Store(Path(settings.overlay_root)), settings)


def new_notebook(name: str, requirements: Sequence[str], *, kernel: str = "", allow_urls: bool) -> Path:
    """Write a new notebook with this declaration and one empty cell; its path.

    ``kernel`` is one of ours, by name; the one that chooses where empty. Raises InvalidRequest,
    BaseNotFound for a kernel that is not here, and NotebookUnreadable where there is such a file already.
    """
    path = Path(name if name.endswith(_SUFFIX) or Path(name).suffix else name + _SUFFIX).absolute()
    if path.suffix != _SUFFIX:
        raise NotebookUnreadable(
            f"{path.name} is no name for a new notebook",
            why="notebooks are made as .ipynb files; jupytext turns one into text",
            fix=f"jupyter overlay init {path.stem}{_SUFFIX}",
        )
    parse_request({"extras": list(requirements)}, allow_urls=allow_urls)
    ours, _ = kernel_for("", kernel)
    spec = json.loads((ours.directory / "kernel.json").read_bytes())
    content = {
        "cells": [
            {
                "cell_type": "code",
                "execution_count": None,
                "id": "first",
                "metadata": {},
                "outputs": [],
                "source": [],
            }
        ],
        "metadata": {
            "kernelspec": {
                "display_name": spec.get("display_name", ours.name),
                "language": "python",
                "name": ours.name,
            },
            "torch_env": {"extras": list(requirements)},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    except FileExistsError as error:
        raise NotebookUnreadable(
            f"{path} is there already", fix=f"choose another name, or jupyter overlay add {name} PACKAGE"
        ) from error
    except OSError as error:
        raise NotebookUnreadable(
            f"{path} cannot be written",
            why=error.strerror or str(error),
            fix="choose a directory that you can write",
        ) from error
    return path
