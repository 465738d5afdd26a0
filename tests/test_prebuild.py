"""``jupyter overlay prebuild``: a tree of notebooks is made ready, each told with its cause."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel_provisioner.errors import NotebookUnreadable
from kernel_provisioner.runs.trees import notebooks_under
from tests.support.bases import REPOSITORY, Workshop
from tests.support.index import LocalIndex, serve_index
from tests.support.notebooks import write_notebook
from tests.support.waiting import WITHIN, wait_for
from tests.support.wheels import build_sdist

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def index() -> Iterator[LocalIndex]:
    """One index for the module."""
    with serve_index() as served:
        yield served


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, index: LocalIndex) -> Workshop:
    """A base without the real torch, and two packages to have on it; one of them only as source."""
    home = tmp_path_factory.mktemp("prebuild")
    made = Workshop(home, index, TORCH_OVERLAY_ROOT=str(home / "overlays"))
    made.stock("cpu")
    made.create("cpu")
    made.publish("tiny-extra")
    index.publish(build_sdist(made.wheels, "tiny-source", mark=home / "mark"))
    return made


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A course: two notebooks with extras, one of another language, and what nobody means."""
    write_notebook(tmp_path / "one.ipynb", torch_env=_with("tiny-extra"))
    write_notebook(tmp_path / "week 2/two.ipynb", torch_env=_with("tiny-extra"))
    foreign = write_notebook(tmp_path / "week 2/r.ipynb")
    nb = json.loads(foreign.read_text())
    nb["metadata"]["kernelspec"] = {"name": "ir", "display_name": "R"}
    foreign.write_text(json.dumps(nb))
    write_notebook(tmp_path / ".ipynb_checkpoints/one-checkpoint.ipynb", torch_env=_with("tiny-extra"))
    write_notebook(tmp_path / "env/share/doc.ipynb")
    (tmp_path / "env/pyvenv.cfg").touch()
    return tmp_path


def test_a_tree_of_notebooks_becomes_ready(shop: Workshop, tree: Path, index: LocalIndex) -> None:
    """Each that is ours is built; the second time nothing is left to do, and the index is not asked."""
    first = shop.command("prebuild", str(tree), "--jobs", "2")
    assert first.stdout == "3 notebooks: 2 built, 1 skipped\n"
    assert "week 2/two.ipynb: tiny-extra on cpu-torch2.6.0" in first.stderr
    assert "week 2/r.ipynb: skipped: it declares no packages, and its kernel is ir" in first.stderr
    asked = len(index.asked)
    again = _json(shop.command("prebuild", str(tree), "--json"))
    assert [(Path(row["notebook"]).name, row["state"]) for row in again] == [
        ("one.ipynb", "ready"),
        ("r.ipynb", "skipped"),
        ("two.ipynb", "ready"),
    ]
    assert len(index.asked) == asked
    shown = json.loads(shop.command("show", str(tree / "one.ipynb"), "--json").stdout)
    assert shown["overlay"]["state"] == "ready"


def test_what_the_first_cell_would_say_is_said_ahead(shop: Workshop, tmp_path: Path) -> None:
    """A misspelt key is told, as is a kernel that this machine does not have."""
    write_notebook(tmp_path / "typo.ipynb", torch_env={"extra": ["tiny-extra"]})
    elsewhere = write_notebook(tmp_path / "gpu.ipynb", torch_env=_with("tiny-extra"))
    nb = json.loads(elsewhere.read_text())
    nb["metadata"]["kernelspec"] = {"name": "torch-cu126", "display_name": "torch-cu126 (shared)"}
    elsewhere.write_text(json.dumps(nb))
    told = shop.command("prebuild", str(tmp_path)).stderr
    assert "unknown key 'extra' is ignored; did you mean 'extras'?" in told
    assert "the notebook's kernel torch-cu126 is not installed here: using torch" in told


def test_one_that_fails_is_told_and_the_others_are_built(shop: Workshop, tmp_path: Path) -> None:
    """Exit status 1; each failure carries its cause and its fix."""
    write_notebook(tmp_path / "bad.ipynb", torch_env=_with("there-is-none"))
    write_notebook(tmp_path / "good.ipynb", torch_env=_with("tiny-extra"))
    (tmp_path / "torn.ipynb").write_text("{")
    done = shop.command("prebuild", str(tmp_path), check=False)
    assert done.returncode == 1
    assert done.stdout == "3 notebooks: 1 built, 2 failed\n"
    assert "bad.ipynb: failed: there is no package called there-is-none" in done.stderr
    assert "torn.ipynb: failed: the notebook" in done.stderr
    rows = _json(shop.command("prebuild", str(tmp_path), "--json", check=False))
    assert [row["error"] and row["error"]["error"] for row in rows] == [
        "ResolutionFailed",
        None,
        "NotebookUnreadable",
    ]


def test_code_of_packages_runs_only_where_that_is_asked_for(shop: Workshop, tmp_path: Path) -> None:
    """A package that has no wheel is told of; with --source-builds it is built."""
    write_notebook(tmp_path / "source.ipynb", torch_env=_with("tiny-source"))
    plain = shop.command("prebuild", str(tmp_path), check=False)
    assert plain.returncode == 1
    assert "a package must be built from source, which runs its code" in plain.stderr
    assert "--source-builds" in plain.stderr
    assert not (shop.home / "mark").exists()
    assert shop.command("prebuild", str(tmp_path), "--source-builds").stdout == "1 notebook: 1 built\n"
    assert (shop.home / "mark").exists()


def test_ctrl_c_ends_the_builders_too(shop: Workshop, tmp_path: Path, index: LocalIndex) -> None:
    """Nothing is left running, and the next try succeeds."""
    wheel = shop.publish("tiny-stalled")
    index.misbehave(f"/simple/{wheel.name}", "hang")
    write_notebook(tmp_path / "stalled.ipynb", torch_env=_with("tiny-stalled"))
    command = [sys.executable, "-m", "kernel_provisioner.cli.app", "prebuild", str(tmp_path)]
    with subprocess.Popen(command, env=shop.env, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as child:
        wait_for(lambda: shop.fetched("tiny-stalled"), "the builder asks for the wheel")
        child.send_signal(signal.SIGINT)
        said = child.communicate(timeout=WITHIN)[1]
    assert child.returncode == 130, said
    assert "Traceback" not in said
    (generation,) = (shop.home / "overlays").glob("stalled-*/0001")
    wait_for(lambda: not _alive(str(generation)), "its builder has ended")
    index.behave()
    assert shop.command("prebuild", str(tmp_path)).stdout == "1 notebook: 1 built\n"


def test_what_is_not_there_is_named(shop: Workshop, tmp_path: Path) -> None:
    """A path with a slip of the pen, and a directory without notebooks; exit status 2."""
    for path, words in ((tmp_path / "cuorse", "there is no "), (tmp_path, "there is no notebook in ")):
        done = shop.command("prebuild", str(path), check=False)
        assert done.returncode == 2
        assert f"{words}{path}" in done.stderr


def test_a_file_is_taken_whatever_its_name_and_only_once(tree: Path) -> None:
    """Who names a file means it, be it hidden or named twice."""
    hidden = tree / ".ipynb_checkpoints/one-checkpoint.ipynb"
    assert notebooks_under([str(hidden), str(hidden), str(tree / "one.ipynb"), str(tree)]) == [
        hidden,
        tree / "one.ipynb",
        tree / "week 2/r.ipynb",
        tree / "week 2/two.ipynb",
    ]
    with pytest.raises(NotebookUnreadable):
        notebooks_under([str(tree / "env/share/none.ipynb")])


def _with(*extras: str) -> dict[str, Any]:
    return {"accelerator": "cpu", "extras": [*extras]}


def _json(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def _alive(word: str) -> list[Path]:
    """The processes whose command line holds ``word``."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # ended meanwhile
            if word.encode() in entry.read_bytes():
                found.append(entry)
    return found
