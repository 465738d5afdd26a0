"""What an environment on a base must never fetch or hold: the files of torch's stack."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

from .bases import Workshop

HEAVY = ("torch-2", "torch-9", "torchvision", "triton", "pytorch_triton", "nvidia", "cuda_")
"""How the names of files begin that only a base may hold."""


class Watch:
    """The oracle: of the heavy wheels only metadata is fetched, and no file is made that is one of theirs.

    It looks at every request to the indexes, and at every file under the home directory and the project, uv's
    cache and temporary environments among them: at what it holds, whatever it is called. Left out are bases.
    """

    def __init__(self, shop: Workshop, project: Path) -> None:
        self.shop, self.project = shop, project
        self.before = set(self._files())
        shop.index.asked.clear()

    def check(self) -> None:
        """Raise AssertionError for the first heavy byte."""
        asked = [one.path.rpartition("/")[2] for one in self.shop.index.asked]
        fetched = [name for name in asked if name.startswith(HEAVY) and not name.endswith(".metadata")]
        assert not fetched, fetched
        heavy = _contents(self.shop.wheels)
        made = {path: heavy.get(_hash(Path(path).read_bytes())) for path in set(self._files()) - self.before}
        found = {path: name for path, name in made.items() if name}
        assert not found, found

    def _files(self) -> Iterator[str]:
        for place in (self.project, self.shop.home):
            for folder, names, files in os.walk(place):
                names[:] = [name for name in names if f"{folder}/{name}" != str(self.shop.wheels)]
                if "torch-bases" in names:
                    names.remove("torch-bases")
                yield from (path for file in files if os.path.isfile(path := f"{folder}/{file}"))  # noqa: PTH113


def _contents(wheels: Path) -> dict[str, str]:
    """The hash of each heavy wheel, and of each file in it: which it is."""
    found = {}
    for wheel in wheels.rglob("*.whl"):
        if wheel.name.startswith(HEAVY):
            found[_hash(wheel.read_bytes())] = wheel.name
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    if ".dist-info/" not in name and (content := archive.read(name)):
                        found[_hash(content)] = f"{name} of {wheel.name}"
    return found


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
