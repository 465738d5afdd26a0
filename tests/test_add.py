"""``%overlay add``: a build on an overlay as it stands, which changes all that it should, or nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.inkernel.shared.settle import settle_added
from tests.support.bases import REPOSITORY, Bench, Built
from tests.support.pauses import Paused
from tests.support.tree import tree_hash


@pytest.fixture
def entered(bench: Bench) -> Built:
    """An overlay with one package, in which a cell has run."""
    bench.publish("here-before")
    built = bench.overlay(bench.base(), "here-before")
    bench.enter(built)
    return built


def test_what_declaring_allows_adding_allows(bench: Bench, entered: Built) -> None:
    """A package of the base is replaced in this overlay, within all ranges; the answer names it."""
    bench.publish("numpy", "1.26")
    base = tree_hash(bench.base().directory)
    answer = add(bench, entered, "numpy<2")
    assert (answer["changed"], answer["replaced"]) == (["numpy"], {"numpy": ["2.1", "1.26"]})
    assert entered.python("import numpy; print(numpy.__version__)") == "1.26"
    assert bench.pip(entered, "list", "--format", "freeze").count("numpy==") == 1
    assert "compatible" in bench.pip(entered, "check")
    assert entered.content["replaced"] == {"numpy": ["2.1", "1.26"]}
    assert tree_hash(bench.base().directory) == base


def test_who_names_an_accelerator_library_gets_it(bench: Bench, entered: Built) -> None:
    """As where it is declared; what only needs gigabytes of them is refused on a cpu base."""
    bench.publish("nvidia-cublas-cu12", "12.6.4")
    bench.publish("greedy", requires=["nvidia-cublas-cu12"])
    assert "libraries for an accelerator" in add(bench, entered, "greedy")["what"]
    assert add(bench, entered, "greedy", "nvidia-cublas-cu12")["changed"] == []
    assert entered.python("import greedy") == ""


def test_what_no_notebook_could_keep_is_offered_to_none(bench: Bench, entered: Built) -> None:
    """A console has no notebook; its kernel has what was added all the same."""
    bench.publish("for-a-console")
    assert add(bench, entered, "for-a-console")["offer"] == {"cell": "", "earlier": False, "changes": []}


def test_an_upgraded_package_leaves_nothing_of_the_old_one(bench: Bench, entered: Built) -> None:
    """Its files go with it, as an installer would have it."""
    bench.publish("moves", "1.0", files={"moves/__init__.py": "", "moves/old.py": ""})
    add(bench, entered, "moves")
    bench.publish("moves", "2.0", files={"moves/__init__.py": "", "moves/new.py": ""})
    assert add(bench, entered, "moves>=2")["changed"] == ["moves"]
    assert entered.python("import moves.new") == ""
    assert "ModuleNotFoundError" in entered.python("import moves.old")
    assert not list(entered.path.glob("lib/python*/site-packages/moves-1.0.dist-info"))


def test_files_beside_the_overlays_own_are_those_of_packages(bench: Bench, entered: Built) -> None:
    """As wheels with ``data_files=[("", ["LICENSE"])]`` bring it: of two the later is there, as in a venv."""
    for name, version in (("licensed", "1.0"), ("licensed", "2.0"), ("licensed-too", "1.0")):
        stem = name.replace("-", "_")
        data = {f"{stem}-{version}.data/data/LICENSE": f"{name} {version}"}
        bench.publish(name, version, files={f"{stem}.py": "", **data})
    for wanted, now in (("licensed<2", "licensed 1.0"), ("licensed>=2", "licensed 2.0"),
                        ("licensed-too", "licensed-too 1.0")):  # fmt: skip
        answer = add(bench, entered, wanted)
        assert "changed" in answer, answer
        assert (entered.path / "LICENSE").read_text() == now
    assert "compatible" in bench.pip(entered, "check")


def test_no_package_takes_the_name_of_a_file_of_the_overlays_own(bench: Bench, entered: Built) -> None:
    """Whatever packages there say that they have brought."""
    bench.publish("brings-license", files={"brings.py": "", "brings_license-1.0.data/data/LICENSE": ""})
    add(bench, entered, "brings-license")
    for number, name in enumerate(("pip.conf", "pyvenv.cfg", "build.json", layout.ENTERED)):
        bench.publish(f"takes-{number}", files={"takes.py": "", f"takes_{number}-1.0.data/data/{name}": ""})
        assert f"would replace {name} of the overlay itself" in add(bench, entered, f"takes-{number}")["what"]


@pytest.mark.parametrize(
    ("wheel", "said"),
    [
        ({"record": "wrong-hash"}, "is damaged"),
        ({"files": {"torch.py": ""}}, "would hide torch.py"),
        ({"files": {"bad.py": "", "{}.data/data/overlay.json": "{{}}"}}, "of the overlay itself"),
    ],
    ids=["a RECORD that lies", "torch.py", "overlay.json"],
)
def test_what_is_added_is_checked_as_what_is_declared(
    bench: Bench, entered: Built, wheel: dict[str, Any], said: str
) -> None:
    """Staged first, and refused there: the overlay is what it was."""
    name = f"bad-{said.rsplit(maxsplit=1)[-1].replace('.', '-')}"
    if "files" in wheel:
        stem = f"{name.replace('-', '_')}-1.0"
        wheel = {"files": {path.format(stem): text for path, text in wheel["files"].items()}}
    bench.publish(name, **wheel)
    before = sites(entered)
    answer = add(bench, entered, name)
    assert said in answer["what"], answer
    assert sites(entered) == before
    assert not (entered.path / layout.STAGING).exists()


@pytest.mark.fault(35)
@pytest.mark.parametrize("point", ["planned", "unpacked"])
def test_who_is_killed_before_it_counts_has_changed_nothing(
    bench: Bench, entered: Built, point: str, tmp_path: Path
) -> None:
    """And the next try succeeds."""
    name = f"cut-off-{point}"
    bench.publish(name)
    before = sites(entered)
    kill_at(bench, entered, point, name, tmp_path)
    settle_added(entered.path)
    assert sites(entered) == before
    assert add(bench, entered, name)["changed"] == []
    assert entered.python(f"import {name.replace('-', '_')}") == ""


@pytest.mark.fault(35)
def test_who_is_killed_once_it_counts_has_changed_all_of_it(
    bench: Bench, entered: Built, tmp_path: Path
) -> None:
    """Whoever comes next moves in what is staged: a kernel, or the next addition."""
    bench.publish("numpy", "1.26")
    bench.publish("halfway", requires=["numpy<2"])
    kill_at(bench, entered, "added", "halfway", tmp_path)
    assert (entered.path / layout.ADDING).exists()
    settle_added(entered.path)
    assert entered.python("import halfway, numpy; print(numpy.__version__)") == "1.26"
    assert not (entered.path / layout.ADDING).exists()
    assert "compatible" in bench.pip(entered, "check")


def add(bench: Bench, built: Built, *wanted: str) -> dict[str, Any]:
    """The answer to ``%overlay add``."""
    done = bench.build(built.generation, "--add", *wanted).done
    assert done.stdout, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def kill_at(bench: Bench, built: Built, point: str, name: str, folder: Path) -> None:
    """Begin to add a package, and kill -9 the builder at a point of its way."""
    paused = Paused(folder, point)
    command = [sys.executable, "-m", "kernel_provisioner.builder", str(built.path), "--add", name]
    env = {**bench.env, **paused.env}
    with subprocess.Popen(command, env=env, cwd=REPOSITORY, stdout=subprocess.DEVNULL) as builder:
        paused.reached()
        builder.send_signal(signal.SIGKILL)


def sites(built: Built) -> list[str]:
    """All that the interpreter of an overlay may find there."""
    return sorted(
        str(path.relative_to(built.path))
        for path in built.path.glob("lib/**/*")
        if "__pycache__" not in path.parts
    )
