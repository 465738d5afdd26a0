"""What a project says of itself: pyproject.toml, .python-version and uv.lock, read and never written."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from ..errors import InvalidRequest, NoBaseFits
from ..model.accelerators import tag_of_build
from ..model.manifest import BaseManifest


@dataclasses.dataclass(frozen=True)
class ProjectFiles:
    """A uv project: where it and its workspace are, and which Python it wants.

    ``pinned`` is the version in .python-version, empty where there is none, or where it names no version.
    """

    directory: Path
    root: Path
    requires_python: str
    pinned: str

    @property
    def lock(self) -> Path:
        """Its uv.lock, there or not."""
        return self.root / "uv.lock"

    @property
    def python(self) -> str:
        """What both say of Python, as one specifier."""
        pinned = ""
        if self.pinned:
            pinned = f"=={self.pinned}" + (".*" if self.pinned.count(".") < 2 else "")
        return ",".join(filter(None, [self.requires_python, pinned]))

    def refuse_python(self, base: BaseManifest) -> None:
        """Raise NoBaseFits where the base's Python is not one that the project takes."""
        if SpecifierSet(self.python).contains(base.python, prereleases=True):
            return
        version = self.pinned or "VERSION"
        said = (
            f".python-version says {self.pinned}"
            if self.pinned
            else f"requires-python {self.requires_python}"
        )
        raise NoBaseFits(
            f"{self.directory} needs another Python than {base.id} has, {base.python}",
            why=said,
            fix=f"jupyter overlay base create {base.tag} --python {version}  makes one that fits;\n"
            "or change .python-version or requires-python",
        )


def read_files(directory: Path, root: Path) -> ProjectFiles:
    """Read the files of the project in ``directory``, of the workspace ``root``; raises InvalidRequest."""
    wanted = {_requires_python(_toml(place / "pyproject.toml")) for place in (root, directory)}
    requires = ",".join(sorted(filter(None, wanted)))
    try:
        SpecifierSet(requires)
    except InvalidSpecifier as error:
        raise InvalidRequest(
            f"requires-python of {directory} cannot be read", why=str(error), fix="write it as >=3.11"
        ) from error
    return ProjectFiles(directory, root, requires, _pinned(directory) or _pinned(root))


def locked_tag(lock: Path, torch: str) -> str:
    """The accelerator tag of a torch version in a uv.lock; empty where it does not tell."""
    packages: list[dict[str, Any]] = _toml(lock).get("package", [])
    empty: dict[str, Any] = {}
    entry = next((one for one in packages if one["name"] == "torch" and one.get("version") == torch), empty)
    needs = {one["name"] for one in entry.get("dependencies", [])}
    pins = [
        f"{one['name']}=={one['version']}" for one in packages if one["name"] in needs and "version" in one
    ]
    return tag_of_build(torch.partition("+")[2] or None, pins) or ""


def _requires_python(pyproject: dict[str, Any]) -> str:
    project = pyproject.get("project")
    return str(project.get("requires-python", "")) if isinstance(project, dict) else ""


def _pinned(directory: Path) -> str:
    try:
        text = (directory / ".python-version").read_text(encoding="utf-8")
    except OSError:
        return ""
    first = next((line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"), "")
    found = re.fullmatch(r"(?:cpython-|cpython@|python)?(3\.\d+(?:\.\d+)?)(?:-.*)?", first)
    return found[1] if found else ""


def _toml(path: Path) -> dict[str, Any]:
    import tomli

    try:
        with path.open("rb") as file:
            return dict(tomli.load(file))
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{path} cannot be read", why=str(error), fix="correct it") from error
