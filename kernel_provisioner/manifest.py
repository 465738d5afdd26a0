"""What a base says of itself: the record in ``base.json``, as a value.

Everything that a launch must know of a base stands here, so that choosing one and laying
an overlay on it needs no look into the base itself. Written by ``base.photograph``, read by
every other room.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .errors import CorruptState

SCHEMA = 1


class BaseManifest(NamedTuple):
    """One base: a shared environment holding torch, ipykernel and what they need.

    All paths are absolute. ``architectures`` are torch's own words (``sm_90``,
    ``compute_90``, ``gfx942``), empty for a cpu build. ``fixed`` names the distributions that
    no overlay may replace: torch's stack and what ipykernel needs. ``modules`` are the top-level
    names that can be imported, each with the distribution that defines it; ``namespaces`` those
    without an ``__init__``: a package that put one there would hide the base's part. ``bytes``
    and ``files`` are what the site directories take on disk.
    """

    id: str
    tag: str
    torch: str
    python: str
    prefix: str
    interpreter: str
    site_dirs: tuple[str, ...]
    distributions: Mapping[str, str]
    fixed: frozenset[str]
    modules: Mapping[str, str]
    namespaces: frozenset[str] = frozenset()
    architectures: tuple[str, ...] = ()
    adopted: bool = False
    fingerprint: str = ""
    installer: str = ""
    created: str = ""
    bytes: int = 0
    files: int = 0

    @property
    def python_xy(self) -> str:
        """The interpreter's minor version, as in ``3.11``."""
        return ".".join(self.python.split(".")[:2])

    @property
    def constraints(self) -> list[str]:
        """The base freeze, ``name==version`` with local tags, one line a distribution, sorted."""
        return [f"{name}=={version}" for name, version in sorted(self.distributions.items())]

    def as_dict(self) -> dict[str, Any]:
        """The manifest as JSON values."""
        data = self._asdict()
        data["schema"] = SCHEMA
        for key in ("fixed", "namespaces"):
            data[key] = sorted(data[key])
        for key in ("distributions", "modules"):
            data[key] = dict(sorted(data[key].items()))
        return data

    @classmethod
    def from_dict(cls, data: object, *, where: str) -> BaseManifest:
        """The manifest that ``as_dict`` wrote; raises CorruptState, naming ``where``."""
        fix = "jupyter overlay base create TAG, or base adopt PATH, makes the base anew"
        if not isinstance(data, dict):
            raise CorruptState(f"{where} holds no base manifest", fix=fix)
        if data.get("schema") != SCHEMA:
            raise CorruptState(
                f"{where} has schema {data.get('schema')!r}, this version reads {SCHEMA}",
                why="the base was registered by another version of kernel-provisioner",
                fix=f"upgrade kernel-provisioner, or: {fix}",
            )
        values = {key: value for key, value in data.items() if key in cls._fields}
        try:
            for key in ("site_dirs", "architectures"):
                values[key] = tuple(values[key])
            for key in ("fixed", "namespaces"):
                values[key] = frozenset(values[key])
            for key in ("distributions", "modules"):
                values[key] = dict(values[key])
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptState(f"{where} is incomplete", why=str(error), fix=fix) from error
