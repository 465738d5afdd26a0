"""What a base says of itself: the record in ``base.json``, as a value.

Everything that a launch must know of a base stands here, so that choosing one and laying
an overlay on it needs no look into the base itself. Written by ``base.snapshot``, read by
every other room.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..errors import CorruptState

SCHEMA = 1
# What ipykernel needs. The records of earlier versions name it among what is fixed.
_ONCE_FIXED = frozenset({
    "appnope", "asttokens", "backcall", "comm", "debugpy", "decorator", "exceptiongroup", "executing",
    "ipykernel", "ipython", "ipython-pygments-lexers", "jedi", "jupyter-client", "jupyter-core",
    "matplotlib-inline", "nest-asyncio", "nest-asyncio2", "packaging", "parso", "pexpect", "pickleshare",
    "platformdirs", "prompt-toolkit", "psutil", "ptyprocess", "pure-eval", "pygments", "python-dateutil",
    "pyzmq", "setuptools", "six", "stack-data", "tornado", "traitlets", "typing-extensions", "tzdata",
    "wcwidth",
})  # fmt: skip


class BaseManifest(NamedTuple):
    """One base: a shared environment holding torch, ipykernel and what they need.

    All paths are absolute. ``architectures`` are torch's own words (``sm_90``,
    ``compute_90``, ``gfx942``), empty for a cpu build. ``fixed`` names torch's stack: the
    distributions that nothing on this base may replace. ``modules`` are the top-level names that
    can be imported, each with the distribution that defines it; ``namespaces`` those without an
    ``__init__``: a package that put one there would hide the base's part. ``bytes`` and ``files``
    are what the site directories take on disk.
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
    def identity(self) -> dict[str, str]:
        """What every ``--json`` that names a base says of it."""
        return {
            "id": self.id,
            "tag": self.tag,
            "torch": self.torch,
            "python": self.python,
            "path": self.prefix,
        }

    @property
    def python_xy(self) -> str:
        """The interpreter's minor version, as in ``3.11``."""
        return ".".join(self.python.split(".")[:2])

    @property
    def from_pytorch(self) -> bool:
        """Whether what belongs to torch comes from PyTorch's index, as torch itself does.

        A torch without a label that uv did not take from there is PyPI's, and what fits it is on PyPI.
        """
        return self.installer == "uv" or "+" in self.torch

    def fixed_in(self, *, kernel: bool) -> frozenset[str]:
        """What nothing replaces in an overlay: ipykernel too, of which ours is made, where a kernel runs."""
        return self.fixed | {"ipykernel"} if kernel and self.runs_kernels else self.fixed

    @property
    def runs_kernels(self) -> bool:
        """Whether notebooks can run on it; an adopted one may serve projects alone."""
        return "ipykernel" in self.distributions

    @property
    def constraints(self) -> list[str]:
        """The base freeze, see ``pins``."""
        return self.pins(self.distributions)

    def pins(self, names: Iterable[str]) -> list[str]:
        """``name==version`` with local tags, one line a distribution, sorted."""
        return [f"{name}=={self.distributions[name]}" for name in sorted(names)]

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
        fix = "jupyter overlay base create TAG, or base adopt PATH, creates the base again"
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
            if "ipykernel" in values["fixed"]:
                values["fixed"] -= _ONCE_FIXED
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptState(f"{where} is incomplete", why=str(error), fix=fix) from error
