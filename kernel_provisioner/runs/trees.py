"""The notebooks under some paths, as a person means them: not checkpoints, not what an environment ships.

A script or Markdown file in a directory is taken for a notebook where its header names a kernel.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import NotebookUnreadable
from ..notebook.text import is_text, names_kernel


def notebooks_under(paths: Iterable[str]) -> list[Path]:
    """Absolute paths of the notebooks that ``paths`` name, or that lie in directories they name; sorted.

    A file is taken whatever its name. In directories, hidden ones, environments and links to
    directories are passed by. Raises NotebookUnreadable where a path is not there, or none is found.
    """
    named = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100 - keeps links, as launches do
    found: set[Path] = set()
    for path in named:
        if path.is_dir():
            found.update(_in_tree(path))
        elif path.exists():
            found.add(path)
        else:
            raise NotebookUnreadable(f"there is no {path}", fix="name a notebook, or a directory with some")
    if not found:
        raise NotebookUnreadable(
            f"there is no notebook in {', '.join(map(str, named))}",
            why="hidden directories, .ipynb_checkpoints and environments are skipped,"
            " nor scripts and Markdown files whose YAML header names no kernel",
            fix="name a notebook, or a directory with some",
        )
    return sorted(found)


def _in_tree(top: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(top):
        folders[:] = [name for name in folders if not _passed_by(Path(folder, name))]
        paths = (Path(folder, name) for name in files if name[0] != ".")
        yield from (
            path for path in paths if path.suffix == ".ipynb" or (is_text(path) and names_kernel(path))
        )


def _passed_by(folder: Path) -> bool:
    """Whether nobody means the notebooks in there."""
    return (
        folder.name.startswith(".")
        or folder.name in ("node_modules", "site-packages", "__pycache__")
        or (folder / "pyvenv.cfg").exists()
        or (folder / "conda-meta").exists()
    )
