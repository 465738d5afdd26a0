"""Notebooks for tests: files as clients write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_notebook(
    path: Path, *cells: str, torch_env: object = None, kernel: str = "torch", **metadata: Any
) -> Path:
    """A notebook of code cells; ``torch_env`` is left out where it is None."""
    told: dict[str, Any] = {
        "kernelspec": {"name": kernel, "display_name": kernel, "language": "python"},
        **metadata,
    }
    if torch_env is not None:
        told["torch_env"] = torch_env
    nb = {
        "cells": [
            {
                "cell_type": "code",
                "id": f"cell-{number}",
                "execution_count": None,
                "metadata": {},
                "outputs": [],
                "source": source.splitlines(keepends=True),
            }
            for number, source in enumerate(cells)
        ],
        "metadata": told,
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(nb, indent=1) + "\n", encoding="utf-8")
    return path


def set_torch_env(path: Path, torch_env: object) -> None:
    """Change what a notebook asks for, as an editor would."""
    nb = json.loads(path.read_text(encoding="utf-8"))
    nb["metadata"]["torch_env"] = torch_env
    path.write_text(json.dumps(nb, indent=1) + "\n", encoding="utf-8")


def printed_in(path: Path) -> str:
    """What the cells of an executed notebook printed."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    return "".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream")
