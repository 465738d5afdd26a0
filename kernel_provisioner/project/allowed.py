"""What a project's lock adds to a base, judged by the policy before any of it is installed.

A ``uv.lock`` says of each package where it comes from and which files it has. Nothing is looked up.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from packaging.markers import default_environment
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from ..builder.audit import audit_plan
from ..builder.from_lock import file_name
from ..builder.solution import bytes_to_fetch
from ..errors import ResolutionFailed
from ..inkernel.shared.packages import canonical
from ..model.accelerators import ECOSYSTEM
from ..model.manifest import BaseManifest
from ..policy import Policy
from ..uv.client import Change, Uv
from ..uv.projects import is_current, lock_project, selected, selected_files
from .files import ProjectFiles

_ORIGINS = ("archive", "directory", "vcs")  # where a package comes from that no index has
_DEPENDENCIES_ALONE = "set  package = false  under [tool.uv] to install what it needs and not itself"


class Chosen(NamedTuple):
    """What of a project is to be installed: its files, and the extras and groups, as words of uv's."""

    files: ProjectFiles
    words: Sequence[str]


def refuse_forbidden(tool: Uv, chosen: Chosen, base: BaseManifest) -> None:
    """Raise NotAllowed where the policy of ``tool`` forbids something of what the project adds to its base.

    uv.lock is brought up to date first, but where packages are installed only from locks: there it has to be.
    Raises ResolutionFailed and InvalidRequest as the functions of ``uv.projects``.
    """
    policy, files = tool.policy, chosen.files
    if files.lock.exists():
        for package in _added(tool, chosen, base):  # before uv puts the allowed ones in their place
            if index := package.get("index"):
                policy.refuse_index(str(index))
    if not is_current(tool, files.directory, base.interpreter):
        policy.refuse_unlocked("the project's", fix=f"lock them: uv lock --directory {files.directory}")
        lock_project(tool, files.directory, base.interpreter)
    judge(_added(tool, chosen, base), policy, chosen.files, base)


def judge(
    packages: Iterable[Mapping[str, Any]], policy: Policy, files: ProjectFiles, base: BaseManifest
) -> None:
    """Raise NotAllowed for what the policy forbids of ``packages`` (as in PEP 751), added to ``base``."""
    tags = _tags(base)
    added = [{**package, "name": canonical(package["name"])} for package in packages]
    usable = [_for_this_machine(package, tags) for package in added]
    others = [package["name"] for package in added if not _is_own(package, files)]
    policy.refuse_locked(others)
    for package in usable:
        _refuse_origin(package, policy, own=_is_own(package, files))
        _refuse_age(package, policy)
    policy.refuse_bytes(
        bytes_to_fetch(usable), "the packages of uv.lock are downloads of at least", fix="lock fewer packages"
    )
    changes = [
        Change(package["name"], str(package.get("version", "")), base.distributions.get(package["name"], ""))
        for package in added
    ]
    try:
        audit_plan(changes, base, fixed=frozenset(), pins=policy.pins)
    except ResolutionFailed as error:
        raise policy.explained(
            error, wants_source=False, wants_newer=False, base=base.distributions
        ) from error


def markers_of(base: BaseManifest) -> dict[str, str]:
    """The environment markers of a base's Python on this machine."""
    python = {"python_version": base.python_xy, "python_full_version": base.python}
    return {name: str(value) for name, value in default_environment().items()} | python


def _added(tool: Uv, chosen: Chosen, base: BaseManifest) -> list[dict[str, Any]]:
    """What the lock selects, without what is the base's: see ``inkernel/project_install.py``."""
    markers = markers_of(base)
    asked = (tool, chosen.files.directory, base.interpreter)
    torch = selected(*asked, chosen.words, markers).get("torch", "")
    held = set(base.fixed)
    if torch and torch != base.distributions.get("torch"):
        held |= ECOSYSTEM
    pruned = [word for name in sorted(held) for word in ("--prune", name)]
    return [
        package
        for package in selected_files(*asked, [*chosen.words, *pruned], markers)
        if package["name"] not in held
        and base.distributions.get(package["name"]) != package.get("version", "")
    ]


def _is_own(package: Mapping[str, Any], files: ProjectFiles) -> bool:
    """Whether it is the project itself, or another member of its workspace."""
    path = package.get("directory", {}).get("path")
    return path is not None and (files.directory / path).resolve().is_relative_to(files.root.resolve())


def _refuse_origin(package: Mapping[str, Any], policy: Policy, *, own: bool) -> None:
    """Raise NotAllowed for what comes from where nothing may come from, or has to be built."""
    name, fix = package["name"], {"fix": _DEPENDENCIES_ALONE} if own else {}
    if index := package.get("index"):
        policy.refuse_index(str(index))
    url = package.get("archive", {}).get("url") or package.get("vcs", {}).get("url", "")
    if package.get("vcs") or (not url and any(package.get(kind) for kind in _ORIGINS)):
        policy.refuse_own_sources(f'"{name}"', **fix)
    if url:
        policy.refuse_repository(str(url))
    built = not package.get("wheels") and not file_name(package.get("archive", {})).endswith(".whl")
    if built and policy.buildable is not None and name not in policy.buildable:
        raise policy.no_build(f'"{name}"', **fix)


def _refuse_age(package: Mapping[str, Any], policy: Policy) -> None:
    """Raise NotAllowed for a file that is too young; PyTorch's index does not say how old its files are."""
    if package["name"] in ECOSYSTEM or any(package.get(kind) for kind in _ORIGINS):
        return
    now = dt.datetime.now(dt.timezone.utc)
    for file in package.get("wheels") or filter(None, [package.get("sdist")]):
        published = file.get("upload-time")
        age = (now - published).total_seconds() if isinstance(published, dt.datetime) else None
        policy.refuse_young(file_name(file), age)


def _for_this_machine(package: Mapping[str, Any], tags: frozenset[Tag]) -> dict[str, Any]:
    """The package with those of its wheels that the base's Python can use here."""
    wheels = [wheel for wheel in package.get("wheels", ()) if not tags.isdisjoint(_tags_of(wheel))]
    return {**package, "wheels": wheels}


def _tags_of(wheel: Mapping[str, Any]) -> frozenset[Tag]:
    try:
        return parse_wheel_filename(file_name(wheel))[3]
    except InvalidWheelFilename:
        return frozenset()


def _tags(base: BaseManifest) -> frozenset[Tag]:
    version = tuple(map(int, base.python_xy.split(".")))
    interpreter = f"cp{base.python_xy.replace('.', '')}"
    return frozenset([*cpython_tags(version), *compatible_tags(version, interpreter)])
