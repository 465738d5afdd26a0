"""``jupyter overlay``: what a person types who has never seen it, and what its commands say of overlays."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kernel_provisioner.cli.app import OverlayCommand
from kernel_provisioner.inkernel.shared.layout import USE_LOCK
from tests.support.bases import REPOSITORY, Built, Workshop
from tests.support.holders import held
from tests.support.index import LocalIndex
from tests.support.notebooks import set_torch_env, write_notebook
from tests.support.tree import tree_hash
from tests.support.waiting import WITHIN

COMMANDS = [str(name) for name in OverlayCommand.subcommands]


@pytest.fixture
def shop(tmp_path: Path, index: LocalIndex) -> Workshop:
    """A cpu base of a fake torch, an index with one small package, and an overlay root of its own."""
    shop = Workshop(tmp_path, index, TORCH_OVERLAY_ROOT=str(tmp_path / "overlays"))
    shop.stock("cpu")
    shop.publish("widget", "1.5")
    shop.create("cpu")
    return shop


def built(shop: Workshop, notebook: str, *extras: str) -> Built:
    """A notebook and its overlay, as its first start leaves them."""
    write_notebook(shop.home / notebook, "1 + 1", torch_env={"extras": list(extras)})
    base = shop.create("cpu").base  # is there already
    made = shop.overlay(base, *extras, notebook=notebook)
    assert made.ready, made.told
    shop.enter(made)
    directory = made.path.parent
    (directory / "launch.lock").touch()
    (directory / "notebook.txt").write_text(f"{shop.home / notebook}\n")
    (made.path / USE_LOCK).touch()
    return made


def asked(shop: Workshop, *words: str) -> Any:
    """What a command prints for a machine."""
    return json.loads(shop.command(*words, "--json").stdout)


def test_alone_it_lists_what_it_can_do(tmp_path: Path) -> None:
    """Every command with a line on it, and a place to start."""
    done = _cli(tmp_path)
    assert done.returncode == 2
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout
    assert "jupyter overlay demo" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_how_to_call_it_what_for_and_shows_examples(tmp_path: Path, name: str) -> None:
    """The examples stand in one column, and no line is wider than a terminal."""
    done = _cli(tmp_path, name, "--help")
    assert done.returncode == 0, done.stderr
    examples = done.stdout.split("Examples")[1].splitlines()
    assert any(f"jupyter overlay {name}" in line for line in examples)
    if name != "base":
        assert done.stdout.startswith(f"usage: jupyter overlay {name}")
        assert {len(line) - len(line.lstrip()) for line in examples if line} == {2}
        assert max(map(len, done.stdout.splitlines())) <= 100
        assert "Equivalent to" not in done.stdout


def test_all_settings_are_told_where_they_are_asked_for(tmp_path: Path) -> None:
    """``--help-all`` is the reference of what an administrator may set."""
    assert "--TorchOverlay.index_template" in _cli(tmp_path, "list", "--help-all").stdout


def test_a_command_that_does_not_exist_is_refused_with_the_nearest(tmp_path: Path) -> None:
    """A slip of the finger is told as one."""
    done = _cli(tmp_path, "docter")
    assert done.returncode == 2
    assert "did you mean doctor?" in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["prune", "--dryrun"], "there is no option --dryrun; did you mean --dry-run?"),
        (["prune", "--dryrun=yes"], "there is no option --dryrun; did you mean --dry-run?"),
        (["prune", "--older-than"], "--older-than needs a value"),
        (["prune", "--older-than", "x"], "jupyter overlay prune: --older-than expected a float, not the str"),
        (["prune", "--older-than", "-3"], "--older-than should not be less than 0"),
        (["prebuild", ".", "--jobs", "-5"], "--jobs should not be less than 0"),
        (["prebuild", ".", "--kernel", "nope"], "there is no"),
        (["list", "--config", "/nope/nope.py"], "there is no configuration file /nope/nope.py"),
        (["remove", "a.ipynb", "-e", "."], "there is no option -e"),
        (["show"], "usage: jupyter overlay show NOTEBOOK"),
        (["run", "a.ipynb", "b.ipynb"], "usage: jupyter overlay run NOTEBOOK"),
        (["list", "a.ipynb"], "usage: jupyter overlay list"),
    ],
)
def test_a_command_line_that_is_wrong_does_nothing(tmp_path: Path, words: list[str], told: str) -> None:
    """Above all a misspelt --dry-run must not remove anything."""
    done = _cli(tmp_path, *words)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_names_are_printed_as_text(tmp_path: Path) -> None:
    """An escape sequence in a file's name does nothing to the terminal, and brackets are no markup."""
    path = write_notebook(tmp_path / "a\x1b[31mb.ipynb")
    done = _cli(tmp_path, "add", str(path), "einops[audio]")
    assert done.returncode == 0, done.stderr
    assert "einops[audio]" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_command_loads_only_what_it_needs() -> None:
    """``--help`` and ``list`` answer at once: what runs notebooks is not even imported."""
    code = (
        "import sys, kernel_provisioner.cli.app, kernel_provisioner.cli.overlays, kernel_provisioner.cli.run;"
        "print([name for name in ('nbclient', 'nbformat', 'zmq', 'tornado') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_every_subcommand_that_is_named_exists() -> None:
    """They are named as text, so that they load late."""
    for target, _ in OverlayCommand.subcommands.values():
        module, _, name = str(target).rpartition(".")
        assert hasattr(importlib.import_module(module), name)


def test_show_says_what_a_notebook_would_run_on(shop: Workshop) -> None:
    """The keys are for machines to rely on; before the first start there is no overlay."""
    path = write_notebook(shop.home / "new.ipynb", torch_env={"extras": ["widget>=1"]})
    said = asked(shop, "show", str(path))
    base = shop.create("cpu").base.manifest
    assert said["notebook"] == str(path)
    assert said["base"] == {
        "id": base.id, "tag": "cpu", "torch": "2.6.0+cpu", "python": base.python, "path": base.prefix,
    }  # fmt: skip
    assert said["reason"]
    assert said["extras"] == ["widget>=1"]
    assert said["overlay"] == {"path": None, "state": "none"}
    disk = {"own_bytes": 0, "own_files": 0, "linked_bytes": 0, "shared_bytes": base.bytes}
    assert said["disk"] == {**disk, "shared_stores": {}}
    assert not (shop.home / "overlays").exists(), "looking makes nothing"


def test_show_tells_a_ready_overlay_from_one_that_is_outdated(shop: Workshop) -> None:
    """What counts is what the notebook asks for now."""
    made = built(shop, "a.ipynb", "widget")
    path = shop.home / "a.ipynb"
    said = asked(shop, "show", str(path))
    assert said["overlay"] == {"path": str(made.path), "state": "ready"}
    assert said["disk"]["own_files"] > 0
    assert said["disk"]["own_bytes"] > 0
    assert said["disk"]["linked_bytes"] >= 0
    text = shop.command("show", str(path)).stdout
    assert "ready" in text
    assert "widget" in text
    set_torch_env(path, {"extras": ["widget", "gadget"]})
    assert asked(shop, "show", str(path))["overlay"]["state"] == "outdated"


def test_show_counts_hard_links_to_the_cache_apart(shop: Workshop) -> None:
    """They take no room of the notebook's own where cache and overlays share a disk."""
    shop.publish("heavy", "1.0", files={"heavy/data.bin": os.urandom(300_000)})
    built(shop, "a.ipynb", "heavy")
    disk = asked(shop, "show", str(shop.home / "a.ipynb"))["disk"]
    assert disk["linked_bytes"] >= 300_000
    assert disk["own_bytes"] < disk["linked_bytes"] + 2_000_000


def test_show_tells_of_a_pinned_kernel_and_of_one_that_is_not_here(shop: Workshop) -> None:
    """The kernel that the notebook names decides; without it the one that chooses does."""
    path = write_notebook(shop.home / "a.ipynb", torch_env={"accelerator": "cuda"}, kernel="torch-cpu")
    assert asked(shop, "show", str(path))["base"]["tag"] == "cpu"
    path = write_notebook(shop.home / "b.ipynb", kernel="torch-cu124")
    assert "torch-cu124 is not installed here" in shop.command("show", str(path)).stdout
    done = shop.command("show", str(path), "--kernel", "torch-cu124", check=False)
    assert done.returncode == 2
    assert "torch, torch-cpu" in done.stderr
    assert "jupyter overlay base create" in done.stderr


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "cannot be read"),
        ('{"metadata": {"torch_env": {"extras": ["-e ."]}}, "cells": []}', "torch_env.extras[0]"),
        ('{"metadata": {"torch_env": {"accelerator": "cuda"}}, "cells": []}', "no registered base fits"),
    ],
)
def test_what_a_launch_would_refuse_is_told_with_its_fix(shop: Workshop, content: str, told: str) -> None:
    """On stderr for people, as JSON for machines; the exit status is 2 for both."""
    path = shop.home / "bad.ipynb"
    path.write_text(content)
    for command in ("show", "run"):
        done = shop.command(command, str(path), check=False)
        assert done.returncode == 2
        assert told in done.stderr
        assert "Traceback" not in done.stderr
    done = shop.command("show", str(path), "--json", check=False)
    assert done.returncode == 2
    assert set(json.loads(done.stdout)) - {"field"} == {"error", "what", "why", "fix"}


def test_extras_are_added_and_removed_in_the_metadata(shop: Workshop) -> None:
    """And the next start counts them."""
    path = write_notebook(shop.home / "a.ipynb", "1 + 1")
    text = shop.command("add", str(path), "widget>=1", "gadget").stdout
    assert "widget>=1, gadget" in text
    assert asked(shop, "show", str(path))["extras"] == ["widget>=1", "gadget"]
    assert asked(shop, "remove", str(path), "Gadget")["extras"] == ["widget>=1"]
    done = shop.command("remove", str(path), "gadget", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "gadget" in done.stderr


def test_the_list_has_every_overlay_with_its_state(shop: Workshop) -> None:
    """One that a kernel holds is in use, one whose notebook is gone is said to be."""
    first, second = built(shop, "a.ipynb", "widget"), built(shop, "b.ipynb")
    (shop.home / "b.ipynb").unlink()
    with held(first.path / USE_LOCK):
        entries = {Path(entry["notebook"]).name: entry for entry in asked(shop, "list")}
        text = shop.command("list").stdout
    assert {name: entry["path"] for name, entry in entries.items()} == {
        "a.ipynb": str(first.path),
        "b.ipynb": str(second.path),
    }
    assert [entries[name]["in_use"] for name in ("a.ipynb", "b.ipynb")] == [True, False]
    assert [entries[name]["notebook_gone"] for name in ("a.ipynb", "b.ipynb")] == [False, True]
    assert entries["a.ipynb"]["state"] == "ready"
    assert entries["a.ipynb"]["base"].startswith("cpu-torch2.6.0")
    assert "own_bytes" not in entries["a.ipynb"]
    assert "in use" in text
    assert "b.ipynb (gone)" in text
    assert "jupyter overlay prune" in text
    assert all(entry["own_bytes"] > 0 for entry in asked(shop, "list", "--sizes"))


def test_an_empty_list_says_where_it_looked(shop: Workshop) -> None:
    """For whoever set another directory than they think."""
    assert str(shop.home / "overlays") in shop.command("list").stdout
    assert asked(shop, "list") == []


def test_prune_says_what_goes_before_and_after(shop: Workshop) -> None:
    """A dry run first, then the same for real; what is kept for its packages is named with them."""
    gone, kept = built(shop, "gone.ipynb", "widget"), built(shop, "kept.ipynb")
    (shop.home / "gone.ipynb").unlink()
    (shop.home / "kept.ipynb").unlink()
    site = next(kept.path.glob("lib/python*/site-packages"))
    (site / "humanize-4.9.0.dist-info").mkdir()
    before = tree_hash(shop.home / "overlays")
    dry = shop.command("prune", "--dry-run").stdout
    assert tree_hash(shop.home / "overlays") == before
    assert "would remove" in dry
    wet = shop.command("prune").stdout
    assert f"removing {shop.home / 'gone.ipynb'} (0001): its notebook is gone" in wet
    assert "1 overlay removed" in wet
    assert "humanize 4.9.0" in wet
    assert "prune --all" in wet
    assert not gone.path.exists()
    assert kept.path.exists()
    all_of_it = asked(shop, "prune", "--all")
    assert [entry["by_hand"] for entry in all_of_it["removed"]] == [["humanize 4.9.0"]]
    assert not kept.path.exists()
    assert shop.command("prune").stdout == "nothing to remove\n"


def _cli(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.defpath, "HOME": str(home), "JUPYTER_CONFIG_DIR": str(home)}
    command = [sys.executable, "-m", "kernel_provisioner.cli.app", *words]
    return subprocess.run(
        command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=WITHIN, check=False
    )
