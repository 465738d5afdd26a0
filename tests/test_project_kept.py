"""The user's directory is the user's: ``jupyter overlay venv`` deletes nothing that it did not write."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.project import make
from kernel_provisioner.project.contents import users_files
from tests.support.bases import Workshop
from tests.support.index import LocalIndex, serve_index
from tests.support.tree import tree_hash

MINE = (
    "notes.txt",
    "bin/mine",
    "lib/python{}/site-packages/mine.pth",
    "share/jupyter/kernels/mine/kernel.json",
)
"""Files that people lay in an environment, with no installer."""


class Bench(Workshop):
    """One workshop for this module, with a base and a package that brings files of every kind."""

    def __init__(self, home: Path, index: LocalIndex) -> None:
        super().__init__(home, index, TORCH_OVERLAY_ROOT=str(home / "overlays"))
        self.stock("cpu")
        files = {
            "einops/__init__.py": "",
            "einops-0.8.data/data/share/man/einops.1": "",
            "einops/deep/x.txt": "",
        }
        scripts = {"console_scripts": {"einsay": "einops:say"}}
        self.publish("einops", "0.8", files=files, entry_points=scripts)
        self.publish("by-hand", entry_points={"console_scripts": {"by-hand": "by_hand:say"}})
        self.base: RegisteredBase = self.create("cpu").base

    def venv(self, *words: object) -> dict[str, Any]:
        """``jupyter overlay venv … --base cpu --json``: what it prints."""
        done = self.command("venv", *map(str, words), "--base", "cpu", "--json", check=False)
        assert done.stdout, done.stderr
        return dict(json.loads(done.stdout))

    def source(self, script: Path, shell: str) -> subprocess.CompletedProcess[str]:
        """Source an ``activate`` in a shell and say where that leads."""
        command = [shell, "-ec", f". {shlex.quote(str(script))}; echo at $VIRTUAL_ENV"]
        return subprocess.run(command, env=self.env, cwd="/", capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The module's workshop."""
    with serve_index() as index:
        yield Bench(tmp_path_factory.mktemp("kept"), index)


@pytest.fixture
def place(bench: Bench, tmp_path: Path) -> Path:
    """An environment in which the user has installed a package and run Python."""
    bench.venv(tmp_path / "env", "einops")
    env = str(tmp_path / "env")
    install = [f"{env}/bin/uv", "pip", "install", "-q", "--python", env, "by-hand"]
    subprocess.run(install, env=bench.env, check=True)
    plain = {name: text for name, text in bench.env.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([f"{env}/bin/python", "-c", "import einops, by_hand"], env=plain, check=True)
    return Path(env)


def lay(place: Path, name: str) -> Path:
    """A file of the user's own in an environment."""
    (site,) = place.glob("lib/python*")
    path = place / name.format(site.name.removeprefix("python"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    return path


def test_what_installers_put_there_is_not_the_users(place: Path) -> None:
    """Neither bytecode, scripts, data files and receipts, nor what a killed run has not moved in yet."""
    assert users_files(place) == []
    (site,) = place.glob("lib/python*/site-packages")
    staged = place / layout.STAGING / site.relative_to(place)
    staged.mkdir(parents=True)
    (site / "einops-0.8.dist-info").rename(staged / "einops-0.8.dist-info")
    assert users_files(place) == []


@pytest.mark.fault(38)
@pytest.mark.parametrize("name", MINE)
@pytest.mark.parametrize("why", ["cut short", "--recreate"])
def test_files_of_the_users_are_named_and_kept(bench: Bench, place: Path, name: str, why: str) -> None:
    """A run that was killed and --recreate are no reason to remove them; without them all works."""
    mine = lay(place, name)
    if why == "cut short":
        (place / layout.OVERLAY).unlink()
    before = tree_hash(place)
    told = bench.venv(place, "einops", *([why] if why == "--recreate" else []))
    assert told["error"] == "InvalidRequest"
    assert told["why"] == str(mine.relative_to(place))
    assert "move or remove them yourself" in told["fix"]
    assert tree_hash(place) == before
    mine.unlink()
    assert bench.venv(place, "einops", *([why] if why == "--recreate" else []))["installed"] == {
        "einops": "0.8"
    }


@pytest.mark.fault(38)
def test_a_missing_activate_is_written_again(bench: Bench, place: Path) -> None:
    """The environment is there and stays, with what lies in it."""
    mine = lay(place, "notes.txt")
    scripts = [place / "bin" / name for name in ("activate", "activate.fish", "Activate.ps1")]
    for path in (*scripts, place / ".gitignore"):
        path.unlink()
    assert bench.venv(place, "einops")["existed"]
    assert mine.read_text() == "mine"
    assert all(str(place) in script.read_text() for script in scripts)
    assert (place / "bin/by-hand").exists()
    assert bench.source(place / "bin/activate", "sh").stdout == f"at {place}\n"


@pytest.mark.fault(38)
def test_neighbours_with_names_that_look_like_ours_are_left_alone(bench: Bench, place: Path) -> None:
    """``.env.new``, ``.env.previous``, and copies of an environment that its user keeps there."""
    for name in (".env.new", ".env.previous", ".env.new-backup"):
        (place.parent / name).mkdir()
        (place.parent / name / "notes.txt").write_text("mine")
    shutil.copytree(place, place.parent / ".env.previous-of-may", symlinks=True)
    kept = {path: tree_hash(path) for path in place.parent.iterdir() if path != place}
    assert len(kept) == 4
    for words in ((), ("--recreate",), ("by-hand", "--recreate")):
        assert "error" not in bench.venv(place, "einops", *words)
    assert {path: tree_hash(path) for path in place.parent.iterdir() if path != place} == kept


@pytest.mark.parametrize("how", ["gone", "fails", "without its base"])
def test_an_environment_whose_python_does_not_run_is_told(bench: Bench, place: Path, how: str) -> None:
    """It is not "already there"; the fix is the command that builds it anew, and it does."""
    python = place / "bin/python"
    (pth,) = place.glob(f"lib/python*/site-packages/{layout.BASE_PATHS}.pth")
    if how == "without its base":
        pth.write_text("")
    else:
        python.unlink()
        python.symlink_to("/nowhere/python" if how == "gone" else "/bin/false")
    told = bench.venv(place, "einops")
    assert told["what"] == f"{place} already exists, but its Python does not run"
    assert told["fix"] == "the same command with --recreate builds it again"
    if how == "gone":
        done = bench.source(place / "bin/activate", "sh")
        assert (done.returncode, done.stdout) == (1, "")
        assert f"no Python runs in the environment {place}\n" in done.stderr
    assert not bench.venv(place, "einops", "--recreate")["existed"]
    subprocess.run([python, "-c", "import torch, einops"], env=bench.env, check=True)


@pytest.mark.parametrize("moved", [True, False])
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_an_environment_at_another_place_says_where_it_was_made(
    bench: Bench, place: Path, moved: bool, shell: str
) -> None:  # fmt: skip
    """Moved, it is never taken for the old one; copied, where the shell can tell. The command says so too."""
    there = place.with_name("there")
    shutil.copytree(place, there, symlinks=True)
    if moved:
        shutil.rmtree(place)
    done = bench.source(there / "bin/activate", shell)
    if moved or shell == "bash":
        assert (done.returncode, done.stdout) == (1, "")
        assert str(place) in done.stderr
        assert "fix: jupyter overlay sync DIR" in done.stderr
    told = bench.venv(there, "einops")
    assert told["what"] == f"{there} was created as {place}, and does not work at another path"
    assert not bench.venv(there, "einops", "--recreate")["existed"]
    assert bench.source(there / "bin/activate", shell).stdout == f"at {there}\n"


@pytest.mark.parametrize("made_at", ["the link", "its goal"])
def test_an_environment_that_is_a_link_is_built_again_where_it_lies(
    bench: Bench, place: Path, made_at: str
) -> None:  # fmt: skip
    """As on clusters, where home directories are small: the link stays, and nothing lies beside it."""
    goal, link = place.with_name("scratch") / "env", place
    goal.parent.mkdir()
    if made_at == "the link":
        place.rename(goal)
    else:
        shutil.rmtree(place)
        bench.venv(goal, "einops")
    link.symlink_to(goal)
    made = bench.venv(link, "einops", "--recreate")
    assert made.get("installed") == {"einops": "0.8"}, made
    assert link.readlink() == goal
    assert [path.name for path in link.parent.iterdir() if path.name.startswith(".")] == []
    assert [path.name for path in goal.parent.iterdir()] == ["env"]
    assert bench.source(link / "bin/activate", "bash").returncode == 0
    assert bench.venv(link, "einops")["existed"]


def test_what_cannot_be_moved_out_of_the_way_leaves_nothing_beside_it(
    bench: Bench, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """The disk refuses the rename: the environment is as it was."""
    before = tree_hash(place)

    def refuse(path: Path, target: Path) -> None:
        raise PermissionError(13, "no", str(path), None, str(target))

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError), make._out_of_the_way(place):
        pass
    assert [path.name for path in place.parent.iterdir()] == ["env"]
    assert tree_hash(place) == before


def test_an_environment_is_the_same_by_every_path_that_leads_to_it(bench: Bench, place: Path) -> None:
    """A link to its parent directory is no move."""
    link = place.parent.with_name(f"{place.parent.name}-link")
    link.symlink_to(place.parent)
    assert bench.venv(link / "env", "einops")["existed"]
    assert bench.source(link / "env/bin/activate", "bash").stdout == f"at {place}\n"
