"""Tiny real wheels and source distributions, built with ``zipfile`` and ``tarfile``.

The same arguments give the same bytes, so that a hash means something. A wheel is right
unless asked to be wrong: ``record`` writes a RECORD that lies, ``cut_short`` and
``flip_a_bit`` damage the file itself.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

Record = Literal["right", "wrong-hash", "names-a-missing-file", "omits-a-file"]
Files = Mapping[str, str | bytes]

_EPOCH = (2020, 1, 1, 0, 0, 0)


def build_wheel(
    directory: Path,
    name: str,
    version: str = "1.0",
    *,
    files: Files | None = None,
    requires: Sequence[str] = (),
    extras: Mapping[str, Sequence[str]] | None = None,
    entry_points: Mapping[str, Mapping[str, str]] | None = None,
    requires_python: str = "",
    tag: str = "py3-none-any",
    record: Record = "right",
) -> Path:
    """Write a wheel into ``directory`` and return its path.

    ``files`` maps paths inside the wheel to contents, ``.pth`` files and ``NAME-VERSION.data``
    folders included; without it the wheel holds one module that knows its version. ``extras``
    maps an extra's name to its requirements. ``entry_points`` maps a group to ``name: target``.
    """
    contents = {
        path: content.encode() if isinstance(content, str) else content
        for path, content in (module(name, version) if files is None else files).items()
    }
    dist_info = f"{escaped(name)}-{version}.dist-info"
    contents[f"{dist_info}/METADATA"] = _metadata(name, version, requires, extras or {}, requires_python)
    contents[f"{dist_info}/WHEEL"] = _wheel_file(tag)
    if entry_points:
        contents[f"{dist_info}/entry_points.txt"] = _entry_points(entry_points)
    contents[f"{dist_info}/RECORD"] = _record(contents, dist_info, record)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{escaped(name)}-{version}-{tag}.whl"
    path.write_bytes(_zip(contents))
    return path


def build_sdist(
    directory: Path,
    name: str,
    version: str = "1.0",
    *,
    mark: Path,
    requires: Sequence[str] = (),
    build_requires: Sequence[str] = (),
    static_metadata: bool = False,
) -> Path:
    """Write a source distribution whose code leaves a line in ``mark`` whenever it is run.

    It brings its own build back end, so building it needs nothing but ``build_requires``. With
    ``static_metadata`` its requirements can be read without a build (Metadata 2.2), otherwise
    an installer has to run the back end even to resolve.
    """
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_wheel(Path(folder), name, version, requires=requires)
        facts = {"mark": str(mark), "wheel": wheel.name, "data": base64.b64encode(wheel.read_bytes())}
    project: dict[str, object] = {"name": name, "dynamic": ["version", "dependencies"]}
    if static_metadata:
        project = {"name": name, "version": version, "dependencies": list(requires)}
    build_system = {"build-backend": "backend", "backend-path": ["."], "requires": list(build_requires)}
    files = {
        "PKG-INFO": _metadata(name, version, requires, {}, "", "2.2" if static_metadata else "2.1"),
        "pyproject.toml": (_toml("build-system", build_system) + _toml("project", project)).encode(),
        "backend.py": _BACKEND.replace("FACTS", repr(facts)).encode(),
        "setup.py": f"open({str(mark)!r}, 'a').write('setup.py\\n')\n".encode(),
    }
    top = f"{escaped(name)}-{version}"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{top}.tar.gz"
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for member, data in files.items():
            entry = tarfile.TarInfo(f"{top}/{member}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def build_project(directory: Path, name: str, *, requires: Sequence[str] = ()) -> Path:
    """Write the sources of a project with one module, which can be installed editable (PEP 660); its path.

    It brings its own build back end, which needs nothing.
    """
    source = directory / "src"
    source.mkdir(parents=True)
    (source / f"{escaped(name)}.py").write_text("")
    with tempfile.TemporaryDirectory() as folder:
        files = {f"{escaped(name)}.pth": f"{source}\n"}
        wheel = build_wheel(Path(folder), name, files=files, requires=requires)
        facts = {"mark": str(directory / "mark"), "wheel": wheel.name}
        facts["data"] = base64.b64encode(wheel.read_bytes()).decode()
    build_system = {"build-backend": "backend", "backend-path": ["."], "requires": []}
    project = {"name": name, "version": "1.0", "dependencies": list(requires)}
    (directory / "pyproject.toml").write_text(_toml("build-system", build_system) + _toml("project", project))
    (directory / "backend.py").write_text(
        _BACKEND.replace("FACTS", repr(facts)) + "\n\nbuild_editable = build_wheel\n"
    )
    return directory


def module(name: str, version: str, code: str = "") -> dict[str, str | bytes]:
    """The files of a package with one module, which says its version and then runs ``code``."""
    return {f"{escaped(name)}/__init__.py": f"__version__ = {version!r}\n{code}"}


def escaped(name: str) -> str:
    """``name`` as file names in wheels spell it: lower case, runs of ``-_.`` become ``_``."""
    return re.sub(r"[-_.]+", "_", name).lower()


def normalised(name: str) -> str:
    """``name`` as an index spells it (PEP 503): lower case, runs of ``-_.`` become ``-``."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_metadata(wheel: Path) -> bytes:
    """The METADATA of a wheel, as PEP 658 serves it beside the file."""
    with zipfile.ZipFile(wheel) as archive:
        (member,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return archive.read(member)


def cut_short(path: Path) -> None:
    """Leave only the first half of a file, as a broken download does."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def flip_a_bit(path: Path) -> None:
    """Change one bit in a wheel's first member, as a bad disk does."""
    with zipfile.ZipFile(path) as archive:
        member = archive.infolist()[0]
    data = bytearray(path.read_bytes())
    header = 30 + len(member.filename.encode())  # a local file header, then the name
    data[member.header_offset + header + member.compress_size // 2] ^= 0x01
    path.write_bytes(bytes(data))


_BACKEND = '''\
"""A build back end that leaves a mark and then hands out a wheel made beforehand."""
import base64, pathlib

facts = FACTS


def _mark(step):
    with open(facts["mark"], "a") as file:
        file.write(step + "\\n")


def get_requires_for_build_wheel(config_settings=None):
    _mark("get_requires_for_build_wheel")
    return []


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    _mark("build_wheel")
    pathlib.Path(wheel_directory, facts["wheel"]).write_bytes(base64.b64decode(facts["data"]))
    return facts["wheel"]
'''


def _metadata(
    name: str,
    version: str,
    requires: Sequence[str],
    extras: Mapping[str, Sequence[str]],
    requires_python: str,
    metadata_version: str = "2.1",
) -> bytes:
    lines = [f"Metadata-Version: {metadata_version}", f"Name: {name}", f"Version: {version}"]
    if requires_python:
        lines.append(f"Requires-Python: {requires_python}")
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    for extra, requirements in extras.items():
        lines.append(f"Provides-Extra: {extra}")
        lines += [f"Requires-Dist: {requirement}; extra == '{extra}'" for requirement in requirements]
    return ("\n".join(lines) + "\n").encode()


def _wheel_file(tag: str) -> bytes:
    pythons, abis, platforms = (part.split(".") for part in tag.split("-"))
    tags = "".join(f"Tag: {p}-{a}-{f}\n" for p in pythons for a in abis for f in platforms)
    pure = str(tag.endswith("-none-any")).lower()
    head = f"Wheel-Version: 1.0\nGenerator: kernel-provisioner-tests\nRoot-Is-Purelib: {pure}\n"
    return (head + tags).encode()


def _entry_points(groups: Mapping[str, Mapping[str, str]]) -> bytes:
    lines: list[str] = []
    for group, entries in groups.items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in entries.items()), ""]
    return "\n".join(lines).encode()


def _toml(table: str, values: Mapping[str, object]) -> str:
    """A table of strings and lists of strings, for which JSON is TOML."""
    return f"[{table}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


def _record(contents: Mapping[str, bytes], dist_info: str, how: Record) -> bytes:
    rows = {path: (_digest(data), len(data)) for path, data in contents.items()}
    first = next(iter(rows))
    if how == "wrong-hash":
        rows[first] = (_digest(b"something else"), rows[first][1])
    elif how == "omits-a-file":
        del rows[first]
    elif how == "names-a-missing-file":
        rows["missing_" + Path(first).name] = (_digest(b"never packed"), 12)
    lines = [f"{path},sha256={digest},{size}" for path, (digest, size) in rows.items()]
    return "\n".join([*lines, f"{dist_info}/RECORD,,", ""]).encode()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _zip(contents: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in contents.items():
            entry = zipfile.ZipInfo(path, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            mode = 0o755 if ".data/scripts/" in path else 0o644
            entry.external_attr = (0o100000 | mode) << 16
            archive.writestr(entry, data)
    return buffer.getvalue()
