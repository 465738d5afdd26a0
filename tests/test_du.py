"""``jupyter overlay du``: what environments share and own, each byte once, and what sharing saves."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.collector.usage import _file_system
from kernel_provisioner.overlay.store import Generation
from tests.support.bases import Built, Workshop
from tests.support.index import LocalIndex, serve_index
from tests.support.notebooks import write_notebook

BIG = 4_000_000
"""Bytes of a file in a package; it cannot be compressed away by a file system that nobody uses here."""

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:30 / /data rw - btrfs /dev/sdb rw
24 22 0:31 / /data/my\\040disk rw shared:2 master:1 - xfs /dev/sdc rw
"""


class Bench(Workshop):
    """A cpu base, and a package with a large file."""

    def __init__(self, home: Path, index: LocalIndex) -> None:
        super().__init__(home, index, TORCH_OVERLAY_ROOT=str(home / "overlays"))
        self.stock("cpu")
        self.publish("big", files={"big/__init__.py": "", "big/data": os.urandom(BIG)})
        self.base: RegisteredBase = self.create("cpu").base

    def opened(self, name: str, *extras: str) -> None:
        """A notebook that has been opened once."""
        path = write_notebook(self.home / name, "1", torch_env={"extras": list(extras)})
        built = self.overlay(self.base, *extras, notebook=name)
        (built.path.parent / "notebook.txt").write_text(f"{path.resolve()}\n")
        self.enter(built)

    def du(self) -> dict[str, Any]:
        """What ``jupyter overlay du --json`` prints."""
        return dict(json.loads(self.command("du", "--json").stdout))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A workshop for each test."""
    with serve_index() as index:
        yield Bench(tmp_path, index)


def test_notebooks_and_projects_are_counted_on_their_base(bench: Bench) -> None:
    """The base once, each environment's own, and what N private ones would take."""
    bench.opened("a.ipynb", "big")
    bench.opened("b.ipynb")
    bench.command("venv", str(bench.home / "env"), "--base", "cpu")
    said = bench.du()
    (base,) = said["bases"]
    assert (base["id"], base["environments"]) == (bench.base.manifest.id, 3)
    assert base["own_bytes"] >= bench.base.manifest.bytes
    assert [(one["kind"], Path(one["name"]).name) for one in said["environments"]] == [
        ("notebook", "a.ipynb"), ("notebook", "b.ipynb"), ("venv", "env"),
    ]  # fmt: skip
    whole = base["own_bytes"] + base["linked_bytes"]
    added = said["together"]["own_bytes"] + said["together"]["linked_bytes"]
    assert said["shared_bytes"] == whole + said["store"]["bytes"] + added
    assert said["private_bytes"] == 3 * whole + said["store"]["bytes"] + added


def test_what_one_base_has_of_another_is_on_disk_once(bench: Bench) -> None:
    """An adopted environment that looks into another's directory, which is adopted too."""
    first = bench.environment("first", "torch", "ipykernel", "big")
    second = bench.environment("second")
    (theirs,) = first.glob("lib/python*/site-packages")
    (own,) = second.glob("lib/python*/site-packages")
    (own / "first.pth").write_text(f"{theirs}\n")
    assert str(theirs) in bench.adopt(second).base.manifest.site_dirs
    bench.adopt(first)
    said = bench.du()
    assert len([one for one in said["bases"] if one["own_bytes"] + one["linked_bytes"] > BIG]) == 2
    assert BIG < said["shared_bytes"] < 2 * BIG


def test_what_lies_in_the_wheel_store_is_counted_once(bench: Bench) -> None:
    """Two environments with one large package: linked in both, on disk once, also without uv's cache."""
    bench.opened("a.ipynb", "big")
    bench.command("venv", str(bench.home / "env"), "--base", "cpu", "big")
    bench.uv.run("cache", "clean").check("no")
    said = bench.du()
    for one in said["environments"]:
        assert one["own_bytes"] < BIG <= one["store_bytes"]
    assert BIG <= said["store"]["bytes"] < 2 * BIG
    assert said["together"]["own_bytes"] + said["together"]["linked_bytes"] < BIG
    assert said["private_bytes"] - said["shared_bytes"] > BIG


def test_an_environment_that_was_installed_into_by_hand_has_hard_links(bench: Bench) -> None:
    """Its packages are files of its own then, on disk once all the same."""
    bench.publish("hand")
    bench.opened("a.ipynb", "big")
    bench.opened("b.ipynb", "big")
    for overlay in bench.overlays.root.glob("a-*/0001"):
        bench.pip(Built(Generation(overlay), bench.command("du")), "install", "hand")
    one, other = bench.du()["environments"]
    assert one["own_bytes"] < BIG <= one["linked_bytes"]
    assert other["linked_bytes"] < BIG <= other["store_bytes"]


def test_leavings_are_named_but_are_no_environments(bench: Bench) -> None:
    """An overlay of a notebook that is gone takes room; nobody would have it privately."""
    bench.opened("a.ipynb", "big")
    (bench.home / "a.ipynb").unlink()
    said = bench.du()
    assert said["bases"][0]["environments"] == 0
    assert [one["counts"] for one in said["environments"]] == [False]
    assert "a.ipynb (0001, old)" in bench.command("du").stdout


def test_an_environment_whose_base_is_not_registered_is_named(bench: Bench) -> None:
    """What it takes is counted, what its base takes cannot be."""
    bench.command("venv", str(bench.home / "env"), "--base", "cpu")
    bases = bench.data_dir / "torch-bases"
    bases.rename(bases.with_name("away"))
    said = bench.du()
    bases.with_name("away").rename(bases)
    assert said["bases"] == []
    assert bench.base.manifest.id in said["notes"][0]


def test_people_see_tables(bench: Bench) -> None:
    """Each base with what stands on it, then the comparison, also where the output is no terminal."""
    bench.opened("a.ipynb", "big")
    bench.command("venv", str(bench.home / "env"), "--base", "cpu")
    text = bench.command("du", COLUMNS="40").stdout
    assert f"{bench.base.manifest.id} (2 environments)" in text
    assert f"  {bench.home}/env" in text
    for words in ("as it is", "if each were private", "saved", "hard\nlinks"):
        assert words in text


def test_nothing_is_nothing(tmp_path: Path, index: LocalIndex) -> None:
    """Before there is a base, the command that makes one."""
    shop = Workshop(tmp_path, index, TORCH_OVERLAY_ROOT=str(tmp_path / "overlays"))
    assert "jupyter overlay base create" in shop.command("du").stdout


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/home", "ext4"), ("/data/x", "btrfs"), ("/data/my disk/x", "xfs"), ("/database", "ext4")],
)
def test_the_kind_of_file_system_is_the_nearest_mounts(tmp_path: Path, path: str, kind: str) -> None:
    """Where there are reflinks, du says that it cannot see them."""
    (tmp_path / "mountinfo").write_text(MOUNTS)
    assert _file_system(Path(path), tmp_path / "mountinfo") == kind
    assert _file_system(Path(path), tmp_path / "no such file") == ""
