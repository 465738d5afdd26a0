"""A base that cannot hold the extras gives way to one that can, at the next start, and says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.bases import REPOSITORY, Workshop
from tests.support.environ import clean_environment
from tests.support.index import LocalIndex
from tests.support.launches import launches
from tests.support.notebooks import write_notebook
from tests.support.torch_wheels import build_torch
from tests.support.wheels import build_wheel

pytestmark = [pytest.mark.system, pytest.mark.slow]


@pytest.fixture
def workshop(tmp_path: Path, index: LocalIndex) -> Workshop:
    """An index with torch 2.13 and 2.15 for cpu, and a base of each; cpu means the older one."""
    shop = Workshop(tmp_path, index, TORCH_OVERLAY_ROOT=str(tmp_path / "overlays"))
    shop.stock("cpu", torch="2.15.0", vision="0.30.0")
    shop.create("cpu")
    shop.stock("cpu", torch="2.13.0", vision="0.28.0")
    older = shop.create("cpu", torch="2.13.0")
    assert older.base.manifest.torch.startswith("2.13")
    return shop


def test_extras_that_need_a_newer_torch_move_to_the_base_that_has_it(workshop: Workshop) -> None:
    """The first start says which base holds them; the next one runs there, and says why."""
    workshop.publish("needs-new-torch", requires=["torch>=2.14"])
    notebook = write_notebook(workshop.home / "new.ipynb", torch_env={"extras": ["needs-new-torch"]})
    first, second = (launches([notebook], workshop.env)[0] for _ in range(2))
    assert "torch2.13.0" in first["base"]["id"]
    assert first["state"] == "failed"
    assert "needs-new-torch" in first["build"]["what"]
    assert "restart the kernel: it will run on cpu-torch2.15.0" in first["build"]["fix"]
    assert "torch2.15.0" in second["base"]["id"]
    assert second["state"] == "ready"
    assert any("torch2.13.0" in line and "cannot hold" in line for line in second["notices"])


def test_where_no_base_holds_them_each_ones_reason_is_told(workshop: Workshop) -> None:
    """Nothing is promised that would not work: the message goes through all bases."""
    workshop.publish("needs-torch-from-the-future", requires=["torch>=99"])
    notebook = write_notebook(
        workshop.home / "never.ipynb", torch_env={"extras": ["needs-torch-from-the-future"]}
    )
    first, second = (launches([notebook], workshop.env)[0] for _ in range(2))
    for told in (first, second):
        assert told["state"] == "failed"
        assert "torch2.13.0" in told["base"]["id"]
        assert "on cpu-torch2.15.0" in told["build"]["why"]
        assert "torch>=99" in told["build"]["why"]
        assert "restart the kernel: it will run" not in told["build"]["fix"]


def test_a_torch_specifier_chooses_the_base_at_once(workshop: Workshop) -> None:
    """What the metadata says of torch needs no look-up."""
    notebook = write_notebook(
        workshop.home / "said.ipynb", torch_env={"torch": ">=2.14", "extras": ["torchvision"]}
    )
    (only,) = launches([notebook], workshop.env)
    assert "torch2.15.0" in only["base"]["id"]


def test_a_misspelt_preference_is_not_passed_over(workshop: Workshop) -> None:
    """The machine's owner hears of it in the first cell, with what to write."""
    notebook = write_notebook(workshop.home / "any.ipynb")
    (told,) = launches([notebook], {**workshop.env, "TORCH_OVERLAY_ACCELERATOR": "gpu"})
    assert "'gpu'" in told["failure"]["what"]
    assert "cu126" in told["failure"]["fix"]


@pytest.mark.network
def test_a_run_without_a_browser_moves_by_itself(tmp_path: Path, front_index: LocalIndex) -> None:
    """``jupyter overlay run`` restarts as a person would, and says where it runs in the end."""
    for torch in ("2.15.0", "2.13.0"):
        front_index.publish_torch("cpu", build_torch(tmp_path / torch, "cpu", torch))
    front_index.publish(build_wheel(tmp_path, "needs-new-torch", requires=["torch>=2.14"]))
    env = clean_environment(
        tmp_path,
        TORCH_OVERLAY_INDEX=front_index.template,
        UV_DEFAULT_INDEX=front_index.default,
        TORCH_OVERLAY_ROOT=str(tmp_path / "overlays"),
    )

    def typed(*words: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "kernel_provisioner.cli.app", *words, "--json"]
        done = subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return dict(json.loads(done.stdout))

    for torch in ("2.15.0", "2.13.0"):
        typed("base", "create", "cpu", "--installer", "uv", "--torch", torch)
    notebook = write_notebook(
        tmp_path / "new.ipynb", "import needs_new_torch, torch", torch_env={"extras": ["needs-new-torch"]}
    )
    ran = typed("run", str(notebook))
    assert ran["status"] == "ok"
    assert "torch2.15.0" in ran["base"]
