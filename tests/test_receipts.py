"""What the layering rests on: uv and pip see the base in an overlay, wherever it lies, and leave it alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_provisioner.overlay import store
from kernel_provisioner.overlay.environment import kernel_environment
from tests.support.bases import Bench, Built
from tests.support.tree import tree_hash


@pytest.fixture(scope="module")
def entered(workbench: Bench) -> Built:
    """An overlay with one extra, entered."""
    workbench.notebook = "entered.ipynb"
    workbench.publish("first-extra", requires=["torch", "numpy"])
    built = workbench.overlay(workbench.base(), "first-extra")
    workbench.enter(built)
    return built


def test_uv_counts_receipts_as_installed(bench: Bench, entered: Built) -> None:
    """It lists the base, finds nothing missing, and installs what needs torch without fetching torch."""
    listed = bench.pip(entered, "list", "--format", "freeze").split()
    assert set(bench.base().manifest.constraints) <= set(listed)
    assert "compatible" in bench.pip(entered, "check")
    bench.publish("by-hand", requires=["torch", "ipykernel", "numpy"])
    said = bench.pip(entered, "install", "by-hand")
    assert "+ by-hand==1.0" in said
    assert "torch==" not in said
    assert not bench.fetched("torch", default=True)


def test_uninstalling_a_receipt_leaves_the_base_alone(bench: Bench, entered: Built) -> None:
    """The receipt goes, the module stays, the base is as it was."""
    before = tree_hash(bench.base().directory)
    said = bench.pip(entered, "uninstall", "torch-plain-dependency")
    assert "- torch-plain-dependency==1.0" in said
    assert entered.python("import torch_plain_dependency; print('still there')") == "still there"
    assert tree_hash(bench.base().directory) == before


def test_an_extra_that_was_moved_in_can_be_uninstalled(bench: Bench, entered: Built) -> None:
    """RECORD is right after the move: nothing of it stays."""
    bench.publish("passing", entry_points={"console_scripts": {"pass-by": "passing:go"}})
    bench.pip(entered, "install", "passing")
    built = bench.overlay(bench.base(), "passing")
    bench.enter(built)
    assert f"{built.path}/bin/python" in (built.path / "bin/pass-by").read_text()
    said = bench.pip(built, "uninstall", "passing")
    assert "- passing==1.0" in said
    assert not (built.path / "bin/pass-by").exists()
    assert not list(built.path.glob("lib/python*/site-packages/passing*"))


def test_the_overlay_says_which_environment_it_extends(bench: Bench, entered: Built) -> None:
    """uv and ty read the key; the interpreter is the true one, not a link into the base."""
    lines = (entered.path / "pyvenv.cfg").read_text().splitlines()
    assert f"extends-environment = {bench.base().manifest.prefix}" in lines
    assert "include-system-site-packages = false" in lines
    assert (entered.path / "bin/python").readlink() == Path(bench.base().manifest.interpreter)
    code = "import site, sys; print(site.getsitepackages(), sys.prefix)"
    assert bench.base().manifest.site_dirs[0] in entered.python(code)


@pytest.mark.parametrize("folder", ["plain", "with blank"])
def test_uv_and_pip_are_held_to_torchs_stack_whatever_the_path(
    bench: Bench, tmp_path: Path, folder: str
) -> None:
    """And to nothing else: numpy<2 works as it does when declared. pip is the server's own, for the test."""
    base = bench.base()
    bench.overlays = store.Store(tmp_path / folder)
    generation = bench.begin(base)
    bench.publish("numpy", "1.24")
    env = kernel_environment(bench.env, generation.path)
    pip = [sys.executable, "-m", "pip", "--python", str(generation.python)]
    for command in (["uv", "pip"], pip):
        for wanted, said_of_it in (
            ("torch==9.9.0", "2.6.0+cpu"),
            ("ipykernel<6", "6.30"),
            ("numpy<2", "1.24"),
        ):
            words = [*command, "install", "--dry-run", wanted]
            done = subprocess.run(words, env=env, cwd="/", capture_output=True, text=True, check=False)
            said = done.stdout + done.stderr
            assert (done.returncode == 0) is (wanted == "numpy<2"), said
            assert said_of_it in said
            assert "No such file" not in said


def test_packages_are_added_to_an_overlay_in_use(bench: Bench, entered: Built) -> None:
    """``%overlay add``: held by the same pins, from the same indexes, told as one line of JSON."""
    bench.publish("later", requires=["torchvision"])
    told, status = _add(bench, entered, "later")
    assert (status, told["changed"], told["replaced"]) == (0, [], {})
    assert entered.python("import later, torchvision; print(torchvision.__version__)") == "0.21.0+cpu"
    bench.publish("later", "2.0", requires=["torchvision"])
    told, status = _add(bench, entered, "later>=2")
    assert (status, told["changed"], told["replaced"]) == (0, ["later"], {})


@pytest.mark.parametrize(
    ("wanted", "said"),
    [("torch==9.9", "torch is the base's"), ("futuristic", "torch>=99"), ("no-such-thing", "no-such-thing"),
     ("greedy", "nvidia-cublas-cu12"), ("https://example.org/x.whl", "extras")],
)  # fmt: skip
def test_what_cannot_be_added_is_told_and_changes_nothing(
    bench: Bench, entered: Built, wanted: str, said: str
) -> None:
    """The same rules as for declared extras."""
    bench.publish("futuristic", requires=["torch>=99"])
    bench.publish("nvidia-cublas-cu12", "12.6.4")
    bench.publish("greedy", requires=["nvidia-cublas-cu12"])
    before = bench.pip(entered, "list")
    told, status = _add(bench, entered, wanted)
    assert status == 1
    assert said in json.dumps(told)
    assert bench.pip(entered, "list") == before


def test_adding_takes_no_wrong_build_either(bench: Bench, entered: Built) -> None:
    """Whatever the user's own uv settings prefer."""
    bench.publish("torchtune", "9.0")
    bench.publish("torchtune", "0.5+cpu", tag="cpu")
    bench.env["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    told, status = _add(bench, entered, "torchtune")
    assert status == 1, told
    assert "torchtune would come from" in json.dumps(told)


def _add(bench: Bench, built: Built, *wanted: str) -> tuple[dict[str, object], int]:
    done = bench.build(built.generation, "--add", *wanted).done
    assert done.stdout, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told, done.returncode
