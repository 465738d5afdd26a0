"""pip and uv in an overlay whose packages are linked: as in any environment, and the store stays."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pip
import pytest

from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.overlay import store
from tests.support.bases import Bench, Built
from tests.support.stored import add, compiled, site, two
from tests.support.tree import tree_hash
from tests.support.wheels import build_project


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_a_project_is_installed_editable(bench: Bench, tmp_path: Path, installer: str) -> None:
    """Its own files are imported, its requirement is replaced in this overlay alone, and it goes again."""
    _by_hand(bench)
    built, other = two(bench, "by-hand<1.1")
    before = compiled(bench, built)
    name = f"own-{installer}"
    project = build_project(tmp_path / "project", name, requires=["by-hand>=1.1"])
    if installer == "uv":
        bench.pip(built, "install", "-e", str(project))
    else:
        _real_pip(bench, built, tmp_path, "install", "-e", str(project))
    module = name.replace("-", "_")
    code = f"import {module}, by_hand; print({module}.__file__, by_hand.V)"
    assert built.python(code) == f"{project}/src/{module}.py 1.1"
    assert other.python("import by_hand; print(by_hand.V)") == "1.0"
    assert "compatible" in bench.pip(built, "check")
    bench.pip(built, "uninstall", name)
    assert "ModuleNotFoundError" in built.python(code)
    assert (project / f"src/{module}.py").exists()
    assert tree_hash(bench.overlays.root / store.WHEELS) == before


UV_WAYS = {
    "uninstall": ("uninstall", "by-hand"),
    "upgrade": ("install", "-U", "by-hand"),
    "downgrade": ("install", "by-hand==0.9"),
    "reinstall": ("install", "--reinstall", "by-hand"),
    "another with its directory": ("install", "same-place"),
}


@pytest.mark.parametrize("way", UV_WAYS)
@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_installers_work_as_in_any_environment_and_leave_the_store_alone(
    bench: Bench, tmp_path: Path, installer: str, way: str
) -> None:
    """Install, upgrade, uninstall, also over a package's directory; the other notebook sees nothing."""
    _by_hand(bench)
    built, other = two(bench, "by-hand<1.1")
    before = compiled(bench, built)
    if installer == "uv":
        bench.pip(built, *UV_WAYS[way])
    else:
        _real_pip(bench, built, tmp_path, *UV_WAYS[way])
    again = "1.1" if installer == "uv" else "1.0"
    expected = {"uninstall": "None", "upgrade": "1.1", "downgrade": "0.9", "reinstall": again,
                "another with its directory": "1.0 extra"}  # fmt: skip
    code = (
        "import importlib.util as u\nif not u.find_spec('by_hand'): print(None)\n"
        "else:\n import by_hand\n print(by_hand.V, 'extra' if u.find_spec('by_hand.extra') else '')"
    )
    assert built.python(code) == expected[way]
    assert other.python(code) == "1.0"
    assert "compatible" in bench.pip(built, "check")
    assert tree_hash(bench.overlays.root / store.WHEELS) == before


def test_syncing_takes_away_what_is_not_named(bench: Bench, tmp_path: Path) -> None:
    """``uv pip sync`` in an overlay removes the links, and nothing in the store."""
    _by_hand(bench)
    built, other = two(bench, "by-hand<1.1")
    before = compiled(bench, built)
    named = tmp_path / "named.txt"
    names = [f"{name}=={version}" for name, version in bench.base().manifest.distributions.items()]
    named.write_text("\n".join(names))
    bench.pip(built, "sync", str(named))
    assert "ModuleNotFoundError" in built.python("import by_hand")
    assert other.python("import by_hand; print(by_hand.V)") == "1.0"
    assert tree_hash(bench.overlays.root / store.WHEELS) == before


def test_adding_links_and_makes_room_where_it_must(bench: Bench) -> None:
    """``%overlay add`` of a wheel with a part in a linked package: its links become files of the overlay."""
    _by_hand(bench)
    built, other = two(bench, "by-hand<1.1")
    before = compiled(bench, built)
    assert add(bench, built, "same-place")["changed"] == []
    assert built.python("import by_hand.extra; print(by_hand.V)") == "1.0"
    assert add(bench, built, "by-hand==1.1")["changed"] == ["by-hand"]
    assert built.python("import by_hand; print(by_hand.V)") == "1.1"
    assert other.python("import by_hand; print(by_hand.V)") == "1.0"
    kept = {name: tree_hash(Path(name)) for name in other.content[layout.ENTRIES]}
    assert kept
    assert before
    assert "compatible" in bench.pip(built, "check")


def test_an_addition_replaces_what_an_install_by_hand_has_made_files(bench: Bench) -> None:
    """No file of the version before stays, although no ``INSTALLER`` says whose the package was."""
    bench.publish("was-linked", files={"was_linked/__init__.py": "V = 1\n", "was_linked/old.py": ""})
    bench.publish("was-linked", "2.0", files={"was_linked/__init__.py": "V = 2\n"})
    bench.publish("by-itself")
    built, other = two(bench, "was-linked<2")
    bench.pip(built, "install", "by-itself")
    assert not (site(built) / "was_linked").is_symlink()
    for each in (built, other):
        assert add(bench, each, "was-linked==2.0")["changed"] == ["was-linked"]
        code = (
            "import was_linked as w, os; print(w.V, sorted(f for f in os.listdir(w.__path__[0]) if '.' in f))"
        )
        assert each.python(code) == "2 ['__init__.py']"
        assert len(list(site(each).glob("was_linked-*.dist-info"))) == 1
        assert "compatible" in bench.pip(each, "check")


@pytest.mark.parametrize("left", ["METADATA", "RECORD"])
def test_moving_in_takes_up_the_removal_of_a_receipt(bench: Bench, left: str) -> None:
    """What is left of a receipt goes, whoever was killed removing it; the package in its place stays."""
    bench.base()  # which has numpy 2.1
    bench.publish("numpy", "2.2", files={"numpy/__init__.py": "V = 2\n"})
    built = bench.overlay(bench.base(), "numpy==2.2")
    assert built.ready, built.told
    receipt = next(site(built).glob("numpy-2.1.dist-info"))
    for path in receipt.iterdir():
        if path.name != left:
            path.unlink()
    bench.enter(built)
    (built.path / layout.ENTERED).unlink()
    bench.enter(built)
    assert [path.name for path in site(built).glob("numpy-*.dist-info")] == ["numpy-2.2.dist-info"]
    assert built.python("import numpy; print(numpy.V)") == "2"


def _by_hand(bench: Bench) -> None:
    for version in ("0.9", "1.0", "1.1"):
        files = {"__init__.py": f"V = {version!r}\n", "sub/__init__.py": "", "sub/data.txt": version}
        scripts = {"console_scripts": {"by-hand": "by_hand:main"}}
        named = {f"by_hand/{path}": text for path, text in files.items()}
        bench.publish("by-hand", version, files=named, entry_points=scripts)
    bench.publish("same-place", files={"by_hand/extra.py": "", "by_hand/sub/more.txt": "more"})


def _real_pip(bench: Bench, built: Built, place: Path, *words: str) -> None:
    """The pip of the tests, run by the overlay's Python as a user does."""
    (place / "pip").symlink_to(Path(pip.__file__).parent)
    options = {"uninstall": ["-y"], "install": ["--index-url", bench.env["UV_DEFAULT_INDEX"]]}
    words = tuple("--force-reinstall" if word == "--reinstall" else word for word in words)
    command = [str(built.generation.python), "-m", "pip", words[0], *options[words[0]], *words[1:]]
    if "--force-reinstall" in words:
        command[-1] = "by-hand<1.1"
    env = {**bench.env, "PYTHONPATH": str(place)}
    done = subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
