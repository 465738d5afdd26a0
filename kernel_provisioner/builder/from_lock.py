"""A locked notebook: exactly the versions and files of its lock, whatever the index holds now.

Nothing is resolved. uv is asked where the files of these versions are; only files that the lock
names, with the hashes that it gives, are left for uv to install, and uv checks what it fetches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.version import Version

from ..errors import InstallFailed, ResolutionFailed, without_credentials
from ..model.accelerators import ECOSYSTEM, is_accelerator_library
from ..model.lock import Lock
from ..model.manifest import BaseManifest
from ..uv import client
from ..uv.configuration import toml
from . import audit
from .spec import BuildSpec

RELOCK = "where that version is gone or was never for this platform: jupyter overlay lock NOTEBOOK"
_DISTRUST = (
    "find out why it changed before you trust it: the publisher's account or the lock may have been tampered "
    "with;\nto accept what the index has: jupyter overlay lock NOTEBOOK"
)


def pick(
    spec: BuildSpec, lock: Lock, tool: client.Uv, scratch: Path, options: Sequence[str]
) -> list[client.Change]:
    """Write ``scratch/pylock.toml`` with what the lock adds to the base, and say what that is.

    ``options`` are uv's, such as ``--no-build``. Raises ResolutionFailed where the lock does not go
    with the base or a package of it is not to be had, InstallFailed where a file is not the one
    that was locked or an index cannot be asked.
    """
    changes = additions(lock, spec.manifest)
    try:
        audit.audit_plan(changes, spec.manifest, fixed=spec.fixed, pins=spec.policy.pins)
    except ResolutionFailed as error:
        fix = f"{error.fix};\nor lock it again for this base: jupyter overlay lock NOTEBOOK"
        raise ResolutionFailed(error.what, why=error.why, fix=fix) from error
    own = [change for change in changes if change.name not in ECOSYSTEM]
    torchs = [change for change in changes if change.name in ECOSYSTEM]
    try:
        packages = files_of(own, spec.python, tool, scratch, [*spec.age_options, *options])
    except ResolutionFailed as error:
        if any(f"{name}==" in error.why for name in _with_source(lock)):
            raise  # a build may help
        raise InstallFailed(error.what, why=error.why, fix=error.fix) from error
    stack = files_of(torchs, spec.python, tool.at(spec.upstream), scratch, options)
    audit.audit_origin(stack, spec.manifest.tag, spec.upstream)
    if any(is_accelerator_library(change.name) for change in changes):
        from .libraries import audit_libraries

        audit_libraries([*packages, *stack], spec.manifest, spec.extras, dict)
    text = written([*checked(packages, lock), *stack])
    (scratch / "pylock.toml").write_text(text, encoding="utf-8")
    return changes


def additions(lock: Lock, base: BaseManifest) -> list[client.Change]:
    """What the lock adds to a base: packages that it lacks, or holds in another public version; pure."""
    found = []
    for package in lock.packages:
        have = base.distributions.get(package.name, "")
        if not have or not same_public(have, package.version):
            found.append(client.Change(package.name, package.version, have))
    return found


def same_public(one: str, other: str) -> bool:
    """Whether two versions differ at most in their local labels, as builds for two accelerators do."""
    return Version(one).public == Version(other).public


def files_of(
    pins: Iterable[client.Change],
    python: Path,
    tool: client.Uv,
    scratch: Path,
    options: Sequence[str],
    *,
    indexes: bool = True,
) -> list[dict[str, Any]]:
    """The ``packages`` of a PEP 751 lock for these exact versions; with ``indexes`` each names its own.

    Raises ResolutionFailed where one is not to be had, InstallFailed where an index cannot be asked.
    """
    lines = [f"{pin.name}=={pin.version}\n" for pin in pins]
    if not lines:
        return []
    file = scratch / "exact.txt"
    file.write_text("".join(lines), encoding="utf-8")
    try:
        text = tool.lock(python, file, options, indexes=indexes)
    except ResolutionFailed as error:
        raise ResolutionFailed(
            "a package of the notebook's lock is not available", why=error.why, fix=RELOCK
        ) from error
    return client.locked_packages(without_credentials(text))


def checked(packages: Iterable[Mapping[str, Any]], lock: Lock) -> list[dict[str, Any]]:
    """The packages with those of their files that the lock names; pure.

    Raises InstallFailed for a file of that name with another hash, and where no file is left.
    """
    locked = {package.name: dict(package.files) for package in lock.packages}
    result = []
    for package in packages:
        hashes, kept = locked[package["name"]], dict(package)
        kept["wheels"] = [wheel for wheel in package.get("wheels", ()) if file_name(wheel) in hashes]
        if file_name(kept.get("sdist", {})) not in hashes:
            kept.pop("sdist", None)
        files = [*kept["wheels"], *([kept["sdist"]] if "sdist" in kept else [])]
        for file in files:
            name = file_name(file)
            told = file.get("hashes", {}).get("sha256", hashes[name])
            if told != hashes[name]:
                raise _another(name, hashes[name], told, package.get("index", ""))
            file["hashes"] = {"sha256": hashes[name]}
        if not files:
            raise InstallFailed(
                f"the notebook's lock names no file of {package['name']} {package['version']} "
                "that this machine can use",
                why="it was locked when that release had other files, or on another platform",
                fix="jupyter overlay lock NOTEBOOK  on this machine",
            )
        result.append(kept)
    return result


def naming_files(error: InstallFailed, lock: Lock) -> InstallFailed:
    """``error`` with the names of the lock's files beside their hashes, which is all that uv tells."""
    why = error.why
    for package in lock.packages:
        for name, digest in package.files:
            why = why.replace(digest, f"{digest} ({name})")
    if why == error.why:
        return InstallFailed(error.what, why=why, fix=error.fix)
    return InstallFailed("a file differs from the one in the notebook's lock", why=why, fix=_DISTRUST)


def file_name(file: Mapping[str, Any]) -> str:
    """The name of a PEP 751 file entry, which may stand in its address alone."""
    where = str(file.get("url") or file.get("path") or "")
    return str(file.get("name") or unquote(urlsplit(where).path).rpartition("/")[2])


def written(packages: Iterable[Mapping[str, Any]]) -> str:
    """PEP 751 text for these packages; pure."""
    lines = ['lock-version = "1.0"', 'created-by = "kernel-provisioner"']
    entries = list(packages)
    if not entries:
        lines.append("packages = []")
    for package in entries:
        known = ("name", "version", "index", "sdist", "wheels")
        lines += ["", "[[packages]]"]
        lines += [f"{key} = {toml(package[key])}" for key in known if package.get(key)]
    return "\n".join(lines) + "\n"


def _with_source(lock: Lock) -> list[str]:
    """The packages whose source distribution is locked."""
    return [
        package.name
        for package in lock.packages
        if any(not name.endswith(".whl") for name, _ in package.files)
    ]


def _another(name: str, locked: str, told: str, index: str) -> InstallFailed:
    return InstallFailed(
        f"{name} differs from the file in the notebook's lock",
        why=f"locked:    sha256 {locked}\nthe index: sha256 {told}{f'  ({index})' if index else ''}",
        fix=_DISTRUST,
    )
