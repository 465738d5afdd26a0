"""The lock that a notebook carries as ``torch_env.lock``, and juv's: untrusted text to values.

Ours has the shape of a PEP 751 lock, as JSON. It says which packages in which versions, and the
name and SHA-256 of every file of those releases, for any platform. It never says where files
come from: that is set on each machine. PyTorch's own packages are locked by public version
alone, because each accelerator has its own build of them.

The format: https://packaging.python.org/en/latest/specifications/pylock-toml/
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from .accelerators import ECOSYSTEM
from .fields import Field, kind, show

FIX = "jupyter overlay lock NOTEBOOK  writes the lock again"
TOOL = "torch-overlay"

MAX_PACKAGES = 512
MAX_FILES = 8_000
MAX_JUV = 1 << 20
"""The most characters of juv's lock. One of 200 packages has 0.4 million."""


@dataclasses.dataclass(frozen=True)
class LockedPackage:
    """One package: its canonical name, its version, and file name → SHA-256 (hex) as sorted pairs.

    Packages of PyTorch's index have no files here.
    """

    name: str
    version: str
    files: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Lock:
    """What a notebook's extras came to when it was locked.

    ``packages`` are all that the extras need, but for what no overlay may replace, sorted by name.
    ``torch`` is the public version of the base's torch. ``extras`` are the normalised extras that it
    was made for. ``base_provided`` names what the base held at that time.
    """

    packages: tuple[LockedPackage, ...] = ()
    torch: str = ""
    requires_python: str = ""
    extras: tuple[str, ...] = ()
    exclude_newer: str = ""
    base_provided: tuple[str, ...] = ()

    @property
    def pins(self) -> dict[str, str]:
        """Name → version."""
        return {package.name: package.version for package in self.packages}

    def digest(self) -> str:
        """SHA-256 (hex) of all that it says."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """The lock as it is in the notebook."""
        return {
            "lock-version": "1.0",
            "created-by": "kernel-provisioner",
            "requires-python": self.requires_python,
            "packages": [_written(package) for package in self.packages],
            "tool": {
                TOOL: {
                    "extras": list(self.extras),
                    "exclude-newer": self.exclude_newer,
                    "torch": self.torch,
                    "base-provided": list(self.base_provided),
                }
            },
        }


def parse_lock(value: object) -> Lock:
    """The value of ``torch_env.lock`` as a Lock; raises InvalidRequest, naming the field within it.

    The work is bounded: counts are looked at before what they count. ``extras`` and
    ``exclude_newer`` are only compared with the notebook's own, so they may be any short text.
    """
    said = _object(value, _LOCK, ("lock-version", "created-by", "requires-python", "packages", "tool"))
    version = _Field("torch_env.lock.lock-version")
    if not re.fullmatch(r"1\.\d{1,3}", version.line(said.get("lock-version"))):
        raise version.refuse(f"is {show(said.get('lock-version'))}, and only 1.0 is read")
    tools = _object(said.get("tool", {}), _TOOL, None)
    tool = _object(tools.get(TOOL), _OWN, ("extras", "exclude-newer", "torch", "base-provided"))
    return Lock(
        packages=_packages(said.get("packages")),
        torch=_version(tool.get("torch"), _Field(f"{_OWN.name}.torch")),
        requires_python=str(
            _Field("torch_env.lock.requires-python").specifier(said.get("requires-python") or None)
        ),
        extras=tuple(
            at.line(extra) for at, extra in _list(tool.get("extras"), _Field(f"{_OWN.name}.extras"))
        ),
        exclude_newer=_Field(f"{_OWN.name}.exclude-newer").line(tool["exclude-newer"])
        if tool.get("exclude-newer")
        else "",
        base_provided=tuple(
            _name(name, at)
            for at, name in _list(tool.get("base-provided"), _Field(f"{_OWN.name}.base-provided"))
        ),
    )


def juv_pins(text: str) -> tuple[str, ...]:
    """``name==version`` for the packages of a ``uv.lock`` that come from an index; pure and quick.

    juv keeps the text of that file in the notebook's metadata. It is not parsed as TOML, which
    would take seconds of a launch: uv writes these three lines always in this order. A package that
    stands there in two versions, one for each platform, says nothing certain and is left out.
    """
    found: dict[str, set[str]] = {}
    for name, version in _JUV_PACKAGE.findall(text[:MAX_JUV]):
        found.setdefault(canonicalize_name(name), set()).add(version)
    pins = {name: versions.pop() for name, versions in found.items() if len(versions) == 1}
    return tuple(
        f"{name}=={public}"
        for name, version in sorted(pins.items())[:MAX_PACKAGES]
        if name != "torch" and (public := _public(version))
    )


class _Field(Field):
    """A place in the lock; whatever is wrong there, the lock is written by a command."""

    def __init__(self, name: str, fix: str = FIX) -> None:
        super().__init__(name, fix)

    def __getitem__(self, index: int) -> _Field:
        return _Field(f"{self.name}[{index}]")


_LOCK, _TOOL = _Field("torch_env.lock"), _Field("torch_env.lock.tool")
_OWN = _Field(f"torch_env.lock.tool.{TOOL}")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,198}[a-z0-9])?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,400}\.(?:whl|tar\.gz|tar\.bz2|zip)")
_JUV_PACKAGE = re.compile(
    r'^\[\[package\]\]\nname = "([A-Za-z0-9._-]{1,200})"\nversion = "([^"\n]{1,100})"\n'
    r'source = \{ registry = "[^"\n]{0,1000}" \}\n',
    re.MULTILINE,
)


def _written(package: LockedPackage) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": package.name, "version": package.version}
    files = [{"name": name, "hashes": {"sha256": digest}} for name, digest in package.files]
    wheels = [file for file in files if file["name"].endswith(".whl")]  # type: ignore[attr-defined]
    sources = [file for file in files if file not in wheels]
    if sources:
        entry["sdist"] = sources[0]
    if wheels:
        entry["wheels"] = wheels
    return entry


def _object(value: object, field: Field, known: Sequence[str] | None) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise field.refuse(f"is {kind(value)}, not an object: {show(value)}")
    for key in value if known is not None else ():
        if key not in (known or ()):
            raise field.refuse(
                f"holds {show(key)}, which does not belong in a notebook's lock",
                "a lock says what is installed, and each machine's owner where it comes from",
            )
    return value


def _list(value: object, field: Field, limit: int = MAX_PACKAGES) -> list[tuple[Field, object]]:
    if not isinstance(value, list | tuple):
        raise field.refuse(f"is {kind(value)}, not a list: {show(value)}")
    if len(value) > limit:
        raise field.refuse(f"has {len(value):,} entries; the limit is {limit:,}")
    return [(field[index], item) for index, item in enumerate(value)]


def _packages(value: object) -> tuple[LockedPackage, ...]:
    packages: dict[str, LockedPackage] = {}
    room = MAX_FILES
    for field, item in _list(value, _Field("torch_env.lock.packages")):
        said = _object(item, field, ("name", "version", "wheels", "sdist"))
        name = _name(said.get("name"), _Field(f"{field.name}.name"))
        if name in packages:
            raise field.refuse(f"names {name} a second time")
        version = _version(said.get("version"), _Field(f"{field.name}.version"))
        entries = _list(said.get("wheels", []), _Field(f"{field.name}.wheels"), room)
        if "sdist" in said:
            entries.append((_Field(f"{field.name}.sdist"), said["sdist"]))
        room -= len(entries)
        files = dict(_file(entry, at, name) for at, entry in entries)
        if name in ECOSYSTEM:
            files = {}  # each accelerator's build has its own
        elif len(files) != len(entries) or not files:
            raise field.refuse(f"names no file of {name}, or one of them twice")
        packages[name] = LockedPackage(name, version, tuple(sorted(files.items())))
    return tuple(packages[name] for name in sorted(packages))


def _file(value: object, field: Field, package: str) -> tuple[str, str]:
    said = _object(value, field, ("name", "hashes"))
    name = said.get("name")
    if not isinstance(name, str) or not _FILE.fullmatch(name):
        raise field.refuse(f"is not the file name of a package: {show(name)}")
    stem = name.removesuffix(".tar.gz").removesuffix(".tar.bz2").removesuffix(".zip")
    own = name.split("-")[0] if name.endswith(".whl") else stem.rpartition("-")[0]
    if canonicalize_name(own) != package:
        raise field.refuse(f"is a file of another package than {package}: {show(name)}")
    hashes = _object(said.get("hashes"), _Field(f"{field.name}.hashes"), ("sha256",))
    digest = hashes.get("sha256")
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise _Field(f"{field.name}.hashes.sha256").refuse(
            f"is not a SHA-256 in hexadecimal digits: {show(digest)}"
        )
    return name, digest


def _name(value: object, field: Field) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value) or canonicalize_name(value) != value:
        raise field.refuse(f"is not a normalized package name: {show(value)}")
    return value


def _version(value: object, field: Field) -> str:
    text = field.line(value)
    if not (public := _public(text)) or public != text:
        raise field.refuse(f"is not a normalized public version: {show(text)}")
    return text


def _public(text: str) -> str:
    """The public part of a version, normalised; empty where it is none."""
    try:
        return Version(text).public
    except InvalidVersion:
        return ""
