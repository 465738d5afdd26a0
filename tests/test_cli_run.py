"""``jupyter overlay run`` and ``demo``: real notebooks on the real torch, without a browser."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.overlay import store
from kernel_provisioner.system import locks
from tests.conftest import TorchBase
from tests.support.notebooks import printed_in, write_notebook
from tests.support.waiting import WITHIN, patient, wait_for

REPOSITORY = Path(__file__).parents[1]
RUNS_WITHIN = patient(240.0)
EINOPS = {"accelerator": "cpu", "extras": ["einops"]}
pytestmark = [pytest.mark.torch, pytest.mark.slow]


class Desk:
    """A directory for notebooks, and the environment that commands are typed in."""

    def __init__(self, home: Path, base: TorchBase) -> None:
        self.home = home
        self.env = base.environment(home, TORCH_OVERLAY_ROOT=str(home / "overlays"))

    def notebook(self, *cells: str, name: str = "book.ipynb", **more: Any) -> Path:
        """Write a notebook."""
        return write_notebook(self.home / name, *cells, **more)

    def command(self, *words: object) -> list[str]:
        """The command line of ``jupyter overlay`` with these words."""
        return [sys.executable, "-m", "kernel_provisioner.cli.app", *map(str, words)]

    def type(self, *words: object, **env: str) -> subprocess.CompletedProcess[str]:
        """``jupyter overlay`` with these words, to its end."""
        return subprocess.run(
            self.command(*words),
            cwd=REPOSITORY,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            timeout=RUNS_WITHIN,
            check=False,
        )


@pytest.fixture
def desk(tmp_path: Path, torch_base_home: TorchBase) -> Desk:
    """An empty desk, with the base that the test run shares."""
    return Desk(tmp_path, torch_base_home)


def test_a_mistake_in_what_is_for_servers_is_none_for_a_run(desk: Desk) -> None:
    """Notebooks run all the same; doctor tells of it."""
    configs = desk.home / "configs"
    configs.mkdir()
    (configs / "jupyter_overlay_config.py").write_text("c.TorchOverlayProvisioner.warm = 'yes'\n")
    done = desk.type("run", desk.notebook("print(1)"), JUPYTER_CONFIG_PATH=str(configs))
    assert done.returncode == 0, done.stderr


@pytest.mark.network
def test_a_notebook_runs_with_its_extras_and_a_copy_has_the_outputs(desk: Desk) -> None:
    """Progress goes to stderr, the file itself keeps every byte, and the overlay is ready afterwards."""
    path = desk.notebook("import einops, torch", "print(torch.ones(2).sum(), __import__('os').getcwd())",
                         torch_env=EINOPS)  # fmt: skip
    before = path.read_bytes()
    done = desk.type("run", path, "--output", desk.home / "out.ipynb")
    assert done.returncode == 0, done.stderr
    assert "book.ipynb ran in" in done.stdout
    assert "with einops, to be installed" in done.stderr
    assert "einops" in done.stderr.split("added to torch")[0], "what was added is told as it happens"
    assert "cell 2 of 2" in done.stderr
    assert "WARNING" not in done.stderr
    assert path.read_bytes() == before
    assert printed_in(desk.home / "out.ipynb") == f"tensor(2.) {desk.home}\n"
    shown = json.loads(desk.type("show", path, "--json").stdout)
    assert shown["overlay"]["state"] == "ready"

    again = desk.type("run", path, "--json")
    said = json.loads(again.stdout)
    assert (said["status"], said["cell"], said["output"]) == ("ok", None, None)
    assert said["seconds"] > 0
    assert "to be installed" not in again.stderr


def test_outputs_go_into_the_notebook_itself_where_that_is_asked_for(desk: Desk) -> None:
    """``--output`` may name the notebook; its other content stays."""
    path = desk.notebook("print('here')", "", torch_env={}, authors=["me"])
    path.chmod(0o600)
    link = desk.home / "linked.ipynb"
    link.symlink_to(path)
    assert desk.type("run", path, "--output", link).returncode == 0
    assert printed_in(path) == "here\n"
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    notebook = json.loads(path.read_text())
    assert notebook["metadata"]["authors"] == ["me"]
    assert [cell["execution_count"] for cell in notebook["cells"]] == [1, None]


def test_a_notebook_that_is_saved_while_it_runs_is_not_overwritten(desk: Desk) -> None:
    """Its outputs go to a new file, which is named to people and to machines."""
    save = "text = open('book.ipynb').read(); open('book.ipynb', 'w').write(text.replace('old', 'new'))"
    path = desk.notebook(save, "print('old')")
    done = desk.type("run", path, "--output", path, "--json")
    assert done.returncode == 0, done.stderr
    beside = desk.home / "book.executed.ipynb"
    assert "print('new')" in path.read_text()
    assert printed_in(path) == ""
    assert printed_in(beside) == "old\n"
    assert json.loads(done.stdout)["output"] == str(beside)
    assert "book.ipynb was changed while the cells ran" in done.stderr
    assert str(beside) in done.stderr


def test_a_failing_cell_is_told_and_those_after_it_do_not_run(desk: Desk) -> None:
    """Exit status 1, the traceback and the cell's number on stderr, and what there is in the output."""
    path = desk.notebook("print('one')", "1 / 0", "print('three')")
    done = desk.type("run", path, "--output", desk.home / "out.ipynb")
    assert done.returncode == 1
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "code cell 2 failed" in done.stderr
    assert "\x1b" not in done.stderr
    assert printed_in(desk.home / "out.ipynb") == "one\n"
    said = json.loads(desk.type("run", path, "--json").stdout)
    assert (said["status"], said["cell"], said["error"]) == (
        "failed",
        2,
        "ZeroDivisionError: division by zero",
    )


def test_a_cell_that_may_fail_and_one_that_is_skipped_do_not_count(desk: Desk) -> None:
    """Jupyter's own tags are honoured, and errors that were saved earlier are not this run's."""
    path = desk.notebook("1 / 0", "raise SystemError", "print('end')")
    notebook = json.loads(path.read_text())
    notebook["cells"][0]["metadata"] = {"tags": ["raises-exception"]}
    notebook["cells"][1]["metadata"] = {"tags": ["skip-execution"]}
    old = {"output_type": "error", "ename": "SystemError", "evalue": "", "traceback": []}
    notebook["cells"][1]["outputs"] = [old]
    path.write_text(json.dumps(notebook))
    done = desk.type("run", path, "--output", desk.home / "out.ipynb")
    assert done.returncode == 0, done.stderr
    assert "cell 2 of 2" in done.stderr
    assert printed_in(desk.home / "out.ipynb") == "end\n"


def test_a_kernel_that_dies_is_a_failing_cell(desk: Desk) -> None:
    """As when memory runs out."""
    path = desk.notebook("import os", "os._exit(7)", "print('after')")
    done = desk.type("run", path)
    assert done.returncode == 1
    assert "the kernel died" in done.stderr
    assert "code cell 2 failed" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.network
def test_extras_that_cannot_be_had_are_refused_with_reason_and_fix(desk: Desk) -> None:
    """Exit status 2: no cell ran, not even one that may fail, and nothing is written."""
    path = desk.notebook("open('ran', 'w')", torch_env={"accelerator": "cpu", "extras": ["einops>9000"]})
    notebook = json.loads(path.read_text())
    notebook["cells"][0]["metadata"] = {"tags": ["raises-exception"]}
    path.write_text(json.dumps(notebook))
    done = desk.type("run", path, "--output", desk.home / "out.ipynb")
    assert done.returncode == 2, done.stderr
    for word in ("einops>9000", "why:", "fix:"):
        assert word in done.stderr
    assert not (desk.home / "ran").exists()
    assert not (desk.home / "out.ipynb").exists()
    said = json.loads(desk.type("run", path, "--json").stdout)
    assert said["error"] == "ResolutionFailed"
    assert said["fix"]


def test_no_base_is_refused_before_anything_starts(desk: Desk) -> None:
    """The message is the one that a cell would show."""
    path = desk.notebook("1 + 1")
    done = desk.type("run", path, JUPYTER_PATH="")
    assert done.returncode == 2
    assert "no torch base is registered" in done.stderr
    assert "jupyter overlay base create" in done.stderr


@pytest.mark.parametrize("target", ["missing/out.ipynb", ".", "/dev/null", "x" * 300 + ".ipynb"])
def test_an_output_that_cannot_be_written_is_refused_before_anything_runs(desk: Desk, target: str) -> None:
    """Not after an hour of cells."""
    path = desk.notebook("open('ran', 'w')")
    done = desk.type("run", path, "--output", desk.home / target)
    assert done.returncode == 2
    assert "--output" in done.stderr
    assert not (desk.home / "ran").exists()


def test_a_notebook_of_another_kernel_runs_on_the_one_that_chooses(desk: Desk) -> None:
    """And one for a GPU that is not here says so in a line."""
    assert desk.type("run", desk.notebook("import torch", kernel="python3")).returncode == 0
    done = desk.type("run", desk.notebook("import torch", kernel="torch-cu124"))
    assert done.returncode == 0
    assert "torch-cu124 is not installed here: using torch" in done.stderr
    done = desk.type("run", desk.notebook("import torch"), "--kernel", "python3")
    assert done.returncode == 2
    assert "torch-cpu" in done.stderr


@pytest.mark.parametrize(
    "content", ["", "[]", '{"cells": 5, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}']
)
def test_a_file_that_is_no_notebook_is_refused(desk: Desk, content: str) -> None:
    """With its path, and no traceback of ours."""
    path = desk.home / "no.ipynb"
    path.write_text(content)
    done = desk.type("run", path)
    assert done.returncode == 2
    assert f"the notebook {path} cannot be" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_the_kernel_too(desk: Desk) -> None:
    """Exit status 130, nothing written, and nobody holds the overlay any more."""
    path = desk.notebook("open('started', 'w').close()", "import time; time.sleep(600)")
    child = subprocess.Popen(
        desk.command("run", path, "--output", desk.home / "out.ipynb"),
        cwd=REPOSITORY,
        env=desk.env,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for((desk.home / "started").exists, "the first cell")
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=WITHIN)
    assert child.returncode == 130
    assert "interrupted" in told
    assert "Traceback" not in told
    assert not (desk.home / "out.ipynb").exists()
    (generation,) = store.Store(desk.home / "overlays").generations(
        store.Store(desk.home / "overlays").notebook_dir(path)
    )
    wait_for(lambda: not locks.is_held(generation.path / layout.USE_LOCK), "the kernel's end")


@pytest.mark.network
@pytest.mark.system
def test_the_demo_runs_and_leaves_only_the_base(desk: Desk) -> None:
    """What ``make demo`` shows: what was chosen, installed and shared, and how long each took."""
    done = desk.type("demo")
    assert done.returncode == 0, done.stderr
    for word in (
        "which exists already",
        "einops",
        "lion-pytorch",
        "first cell done",
        "100% of 256",
        "shared",
    ):
        assert word in done.stdout
    assert "/torch-bases/" in done.stdout
    assert "/overlays/demo-" in done.stdout
    _, found, after = done.stdout.partition("Next\n")
    steps = [line.strip() for line in after.splitlines() if "  # " in line]
    assert found, done.stdout
    assert len(steps) == 4, done.stdout
    for step, status in ((steps[0], {0}), (steps[3], {0, 1})):  # doctor may find what is no fault of the demo
        typed = subprocess.run(
            ["bash", "-c", step], cwd=desk.home, env=desk.env, capture_output=True, text=True,
            timeout=RUNS_WITHIN, check=False,
        )  # fmt: skip
        assert typed.returncode in status, typed.stderr
    assert "einops" in (desk.home / "notes.ipynb").read_text()
    assert Path(steps[1].split()[0]).exists() or steps[1].startswith("jupyter lab")
    said = json.loads(desk.type("demo", "--json").stdout)
    assert [text.split()[0] for text in said["installed"]] == ["einops", "lion-pytorch"]
    first, second = said["runs"]
    assert 0 < first["first_cell"] <= first["seconds"]
    assert 0 < second["first_cell"] <= second["seconds"]
    assert said["disk"]["shared_bytes"] > 100 * said["disk"]["own_bytes"]
    assert not list((desk.home / "overlays").glob("demo-*"))
    assert json.loads(desk.type("list", "--json").stdout) == []
