"""What is unpacked lands in the overlay's staging directory, or nowhere."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from kernel_provisioner.overlay import store
from tests.support.bases import Bench, Built
from tests.support.wheels import build_wheel

UP = "../" * 16


@pytest.mark.parametrize(
    ("name", "path"),
    [("absolute", "{mark}"), ("upwards", UP + "{mark}"), ("data", "data-1.0.data/data/" + UP + "{mark}"),
     ("scripts", "scripts-1.0.data/scripts/" + UP + "{mark}"),
     ("beside", "beside-1.0.data/data/../{overlay}")],
)  # fmt: skip
def test_a_file_for_another_place_is_not_written(bench: Bench, tmp_path: Path, name: str, path: str) -> None:
    """Neither at an absolute path, nor above the overlay, nor in the overlay's own directory."""
    mark = tmp_path / "mark"
    inside = path.format(mark=mark, overlay=store.ENTERED)
    bench.publish(name, files={f"{name}.py": "", inside: "here"})
    built = bench.overlay(bench.base(), name)
    assert not mark.exists()
    assert not (built.path / store.ENTERED).exists()
    assert built.ready or name in built.told, built.told


def test_a_link_in_a_wheel_leads_nowhere(bench: Bench, tmp_path: Path) -> None:
    """A link to a directory elsewhere, and a file that goes through it: nothing is written there."""
    wheel = build_wheel(tmp_path, "linked", files={"linked.py": "", "way": str(tmp_path), "way/mark": "here"})
    with zipfile.ZipFile(wheel) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(wheel, "w") as archive:
        for info, data in members:
            if info.filename == "way":
                info.external_attr = 0o120777 << 16
            archive.writestr(info, data)
    bench.index.publish(wheel)
    built = bench.overlay(bench.base(), "linked")
    assert not (tmp_path / "mark").exists()
    assert _links(built) == []
    assert built.ready or "linked" in built.told, built.told


@pytest.mark.parametrize(
    "path", ["_torch_base_site.py", "_torch_base_site/__init__.py", "zzz_torch_base.start"]
)
def test_what_an_overlays_python_starts_with_is_not_replaced(bench: Bench, path: str) -> None:
    """These files run whenever the overlay's interpreter starts."""
    name = "starts-" + path.strip("_").replace("/", "-").replace("_", "-").replace(".", "-")
    bench.publish(name, files={"starts.py": "", path: "x = 1\n"})
    built = bench.overlay(bench.base(), name)
    assert not built.ready
    assert path.partition("/")[0] in built.told
    assert "broken or hostile" in built.told


def test_no_script_takes_the_pythons_name(bench: Bench) -> None:
    """Every command of the overlay's would run it."""
    bench.publish("pythonic", entry_points={"console_scripts": {"python": "pythonic:main"}})
    built = bench.overlay(bench.base(), "pythonic")
    assert not built.ready
    assert "python" in built.told


def _links(built: Built) -> list[str]:
    return [str(path) for path in (built.path / store.STAGING).rglob("*") if path.is_symlink()]
