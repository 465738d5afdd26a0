"""What an overlay adds to its base, and who put it there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kernel_provisioner.inkernel.shared.packages import Package, by_hand, canonical, named_in, packages


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The site-packages of an overlay without extras."""
    path = tmp_path / "lib/python3.11/site-packages"
    path.mkdir(parents=True)
    return path


def test_declared_packages_are_told_from_those_put_in_by_hand(site: Path, tmp_path: Path) -> None:
    """What the builder installed is declared, the rest came by hand, and receipts are no packages."""
    (tmp_path / "overlay.json").write_text(
        json.dumps({"installed": [{"name": "zope-interface", "version": "5.0"}]})
    )
    install(site, "zope.interface-5.0", "uv")
    install(site, "By_Hand-1.0+local.1", "pip")
    install(site, "torch-2.13.0+cpu", "torch-overlay")  # as bases have them that were made earlier
    install(site, "numpy-2.1", "")
    (site / "numpy-2.1.dist-info/WHEEL").write_text("Wheel-Version: 1.0\nGenerator: torch-overlay\n")
    assert packages(tmp_path) == [
        Package("by-hand", "1.0+local.1", False),
        Package("zope-interface", "5.0", True),
    ]


@pytest.mark.parametrize("state", [None, "", "[", '{"installed": []}'])
def test_without_a_readable_record_everything_came_by_hand(
    state: str | None, site: Path, tmp_path: Path
) -> None:
    """An overlay that is still built, or whose record is torn, can be looked at."""
    if state is not None:
        (tmp_path / "overlay.json").write_text(state)
    install(site, "tiny-1.0", "uv")
    assert packages(tmp_path) == [Package("tiny", "1.0", False)]


def test_what_came_along_is_not_what_a_person_installed(site: Path, tmp_path: Path) -> None:
    """By hand are those that nothing else there by hand needs; packages that need each other all count."""
    for name, needs in (("plot", ("axes>=1", "tests; extra == 'dev'")), ("axes", ()), ("tests", ())):
        install(site, f"{name}-1.0", "uv", *needs)
    assert [package.name for package in by_hand(tmp_path)] == ["plot", "tests"]
    (tmp_path / "overlay.json").write_text(json.dumps({"added": ["plot", "tests"]}))
    assert [package.name for package in by_hand(tmp_path)] == ["axes"]
    for name, other in (("hen", "egg"), ("egg", "hen")):
        install(site, f"{name}-1.0", "uv", other)
    (tmp_path / "overlay.json").write_text(json.dumps({"added": ["plot", "tests", "axes"]}))
    assert [package.name for package in by_hand(tmp_path)] == ["egg", "hen"]


def test_a_package_without_installer_counts(site: Path, tmp_path: Path) -> None:
    """Some tools write none."""
    (site / "tiny-1.0.dist-info").mkdir()
    assert packages(tmp_path) == [Package("tiny", "1.0", False)]


@pytest.mark.parametrize(
    ("requirement", "name"),
    [
        ("einops", "einops"), ("  Zope.Interface[x] >=5 ; python_version>'3'", "zope-interface"),
        ("a__b--c==1", "a-b-c"), ("x @ https://example.org/x.whl", "x"), ("", ""), ("./file.whl", ""),
    ],
)  # fmt: skip
def test_the_name_in_a_requirement_is_normalised(requirement: str, name: str) -> None:
    """As an index spells it; nothing where a requirement starts with no name."""
    assert named_in(requirement) == name
    assert canonical(name) == name


def install(site: Path, name: str, installer: str, *needs: str) -> None:
    """Lay a distribution's metadata there."""
    (site / f"{name}.dist-info").mkdir()
    (site / f"{name}.dist-info/INSTALLER").write_text(installer + "\n")
    headers = ["Metadata-Version: 2.1", f"Name: {name}", *(f"Requires-Dist: {need}" for need in needs)]
    (site / f"{name}.dist-info/METADATA").write_text("\n".join(headers) + "\n\nRequires-Dist: prose\n")
