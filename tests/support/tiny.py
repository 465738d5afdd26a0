"""What real kernels can be given in seconds: a base in which all that is heavy is tiny, and tiny extras."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from .environ import default_index
from .index import LocalIndex, serve_index
from .torch_wheels import build_torch
from .wheels import build_wheel

HEAVY = {"debugpy": "1.8", "jedi": "0.19", "numpy": "2.1", "pip": "26.0"}
"""Thousands of files that no kernel needs to run a cell; ipykernel and IPython do without them."""


def offer_tiny_torch(index: LocalIndex, folder: Path, *tags: str) -> None:
    """Offer a fake torch for each tag. The index passes on to a real one what a base needs besides."""
    for tag in tags:
        index.publish_torch(tag, build_torch(folder / tag, tag))
    for name, version in HEAVY.items():
        files = {f"{name}/__init__.py": f"__version__ = {version!r}\n"}
        index.publish(build_wheel(folder, name, version, files=files))


@contextlib.contextmanager
def serve_extras(folder: Path, *names: str) -> Iterator[LocalIndex]:
    """An index in front of this machine's registry that also has a tiny package of each name."""
    with serve_index(upstream=default_index()) as index:
        for name in names:
            index.publish(build_wheel(folder, name))
        yield index
