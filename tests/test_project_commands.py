"""The uv commands about a project, on a base: which there are, how much they tell, and what they leave."""

from __future__ import annotations

import os
import re
import select
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_provisioner.inkernel import project_uv
from kernel_provisioner.overlay.lent import is_served_by_us, lent_script
from tests.support.bases import BUILDS_WITHIN
from tests.support.heavy import Watch
from tests.support.index import serve_index
from tests.support.wheels import build_sdist
from tests.test_project_uv import Bench

OTHERS = {"build", "sync"}
"""Commands that ``bin/uv`` leads elsewhere, too: the one builds, the other has no ``--no-sync``."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One workshop for this module."""
    with serve_index() as index:
        yield Bench(tmp_path_factory.mktemp("commands"), index)


@pytest.fixture
def project(bench: Bench, tmp_path: Path) -> Path:
    """A project whose lock has a newer torch, of PyPI, with all of CUDA."""
    project = bench.project(tmp_path, accelerators=False)
    bench.venv(project, "--base", "cpu")
    return project


def test_every_command_that_syncs_is_known(bench: Bench, project: Path) -> None:
    """uv's own list: those with `--no-sync` sync without it, and would bring the torch of the lock."""
    commands = re.findall(r"(?m)^  ([a-z][a-z-]*)  ", _said(bench, "help").partition("Commands:")[2])
    assert {"run", "add", "sync"} <= {*commands}
    syncing = {name for name in commands if name != "help" and "--no-sync" in _said(bench, "help", name)}
    (led,) = re.findall(r"(?m)^    ([a-z|]+\|[a-z|]+)\)$", (project / ".venv/bin/uv").read_text())
    assert {*led.split("|")} == {*project_uv._COMMANDS} == syncing | OTHERS
    assert {*project_uv._AWAY} == {*project_uv._COMMANDS}


def test_bin_uv_of_an_earlier_version_is_renewed(bench: Bench, project: Path) -> None:
    """It leads to this installation, but knows fewer commands."""
    path = project / ".venv/bin/uv"
    right = path.read_text()
    assert is_served_by_us(right)
    path.write_text(right.replace("add|build|check|remove|run|sync|version)", "add|build|remove|run|sync)"))
    assert not is_served_by_us(lent_script(project / ".venv"))
    bench.command("sync", str(project))
    assert path.read_text() == right


@pytest.mark.parametrize("words", ["--bump minor", "--bump=minor", "1.1", "--bump minor --short"])
def test_a_new_version_brings_no_torch(bench: Bench, project: Path, words: str) -> None:
    """uv locks it and syncs; `--short` only shortens what is told."""
    watch = Watch(bench, project)
    said = bench.active(project, f"uv version {words}")
    assert "1.1" in said
    assert 'version = "1.1' in (project / "pyproject.toml").read_text()
    assert re.search(r'name = "app"\nversion = "1.1', (project / "uv.lock").read_text())
    assert bench.active(project, "python -c 'import torch; print(torch.__version__)'") == "2.6.0+cpu\n"
    watch.check()


def test_to_ask_for_the_version_changes_nothing(bench: Bench, project: Path) -> None:
    """Nor does `--dry-run`, and with `--frozen` and `--no-sync` nothing is installed."""
    watch = Watch(bench, project)
    bench.active(project, "uv pip uninstall plain")
    for words in ("", "--short", "--bump minor --dry-run"):
        assert "1" in bench.active(project, f"uv version {words}")
    assert 'version = "1"' in (project / "pyproject.toml").read_text()
    bench.active(project, "uv version --bump minor --no-sync; uv version 3 --frozen")
    bench.active(project, "uv version 4", UV_NO_SYNC="1")
    assert 'version = "4"' in (project / "pyproject.toml").read_text()
    assert "plain" not in bench.names(project)
    watch.check()


def test_uv_check_brings_no_torch(bench: Bench, project: Path) -> None:
    """It syncs, and then becomes uv's own, which finds the environment in order."""
    watch = Watch(bench, project)
    bench.active(project, "uv pip uninstall plain")
    own = project / ".venv/bin/uv.own"  # `bin/uv` runs it; uv itself would fetch its type checker
    own.write_text(f'#!/bin/sh\n[ "$1" != check ] || exec echo "$@"\nexec {bench.uv.path} "$@"\n')
    own.chmod(own.stat().st_mode | stat.S_IXUSR)
    said = bench.active(project, "uv check --fix --ty-version 0.0.1")
    python = f"{project}/.venv/bin/python"
    assert said.splitlines()[-1] == f"check --no-sync --python {python} --fix --ty-version 0.0.1"
    assert "plain" in bench.names(project)
    assert bench.active(project, "uv check --isolated") == "check --isolated\n"
    own.unlink()
    bench.active(project, "uv check", check=False, UV_OFFLINE="1")
    watch.check()


@pytest.mark.parametrize("loudness", ["-q", "-qq", "-v", "-nq", "--quiet", "--verbose"])
def test_every_command_tells_as_much_as_it_is_told_to(bench: Bench, project: Path, loudness: str) -> None:
    """`-q` and `-v` are the user's; what this program reads of uv has neither."""
    bench.active(project, "uv pip install more")
    watch = Watch(bench, project)
    said = bench.active(project, f"uv sync {loudness}")
    assert "more" not in bench.names(project)
    said += bench.active(project, f"uv add {loudness} more; uv {loudness} run true")
    assert {"more", "plain"} <= bench.names(project)
    said += bench.active(project, f"uv remove {loudness} more; uv sync {loudness} --check")
    assert "more" not in bench.names(project)
    assert ("DEBUG" in said) if "-v" in loudness else not said
    watch.check()


def test_what_cannot_be_built_is_not_added(bench: Bench, project: Path, tmp_path: Path) -> None:
    """`uv add` leaves the project's files as they were, as uv does anywhere; a lock that was not is not."""
    sdist = build_sdist(tmp_path, "broken", mark=tmp_path / "none/mark", static_metadata=True)
    bench.index.publish(sdist)
    lock = project / "uv.lock"
    before = [(project / "pyproject.toml").read_bytes(), lock.read_bytes()]
    said = bench.active(project, "uv add broken", check=False)
    assert "Failed to build" in said
    assert [(project / "pyproject.toml").read_bytes(), lock.read_bytes()] == before
    bench.active(project, "uv run true")
    lock.unlink()
    bench.active(project, "uv add broken && echo added", check=False)
    assert (project / "pyproject.toml").read_bytes() == before[0]
    assert not lock.exists()


@pytest.mark.parametrize("where", ["--package small", "--project libs/small", "--directory libs/small"])
def test_what_cannot_be_built_is_not_added_to_a_member(bench: Bench, tmp_path: Path, where: str) -> None:
    """Whose own pyproject.toml it was written to."""
    sdist = build_sdist(tmp_path, "broken", mark=tmp_path / "none/mark", static_metadata=True)
    bench.index.publish(sdist)
    project = bench.project(tmp_path, accelerators=False)
    member = project / "libs/small/pyproject.toml"
    member.parent.mkdir(parents=True)
    member.write_text('[project]\nname = "small"\nversion = "1"\nrequires-python = ">=3.10"\n')
    with (project / "pyproject.toml").open("a") as file:
        file.write('\n[tool.uv.workspace]\nmembers = ["libs/*"]\n')
    bench.plain(project, "lock")
    bench.venv(project, "--base", "cpu")
    files = [member, project / "pyproject.toml", project / "uv.lock"]
    before = [path.read_bytes() for path in files]
    assert "Failed to build" in bench.active(project, f"uv add {where} broken", check=False)
    assert [path.read_bytes() for path in files] == before


def test_an_addition_that_is_interrupted_is_undone(bench: Bench, project: Path, tmp_path: Path) -> None:
    """By Ctrl-C in a terminal, while a package is built."""
    mark = tmp_path / "mark"
    os.mkfifo(mark)
    bench.index.publish(build_sdist(tmp_path, "slow", mark=mark, static_metadata=True))
    files = [project / "pyproject.toml", project / "uv.lock"]
    before = [path.read_bytes() for path in files]
    reader = os.open(mark, os.O_RDONLY | os.O_NONBLOCK)
    command = [str(project / ".venv/bin/uv"), "add", "slow"]
    with subprocess.Popen(command, env=bench.env, cwd=project, start_new_session=True) as adding:
        assert select.select([reader], [], [], BUILDS_WITHIN)[0]
        assert b"slow" in files[1].read_bytes()
        os.killpg(adding.pid, signal.SIGINT)
    os.close(reader)
    assert adding.returncode == 130
    assert [path.read_bytes() for path in files] == before


def test_a_lock_that_is_outdated_is_seen(bench: Bench, project: Path) -> None:
    """By `--check` and `--locked`, which fail, and by `--dry-run`, which tells; none of them writes it."""
    text = (project / "pyproject.toml").read_text()
    (project / "pyproject.toml").write_text(text.replace('"plain"', '"plain", "more"'))
    lock = (project / "uv.lock").read_bytes()
    for words in ("--check", "--locked --check", "--locked --dry-run", "-q --check"):
        said = bench.active(project, f"uv sync {words} && echo fine", check=False)
        assert "`uv.lock` needs to be updated" in said
        assert "fine" not in said
    assert "fine" in bench.active(project, "uv sync --frozen --check && echo fine")
    said = bench.active(project, "uv sync --dry-run")
    assert "uv.lock is outdated" in said
    assert "Add more v1.0" in said
    assert bench.active(project, "uv sync -q --dry-run") == ""
    assert (project / "uv.lock").read_bytes() == lock
    assert "more" not in bench.names(project)
    bench.active(project, "uv sync")
    said = bench.active(project, "uv sync --check; uv sync --locked --check; uv sync --dry-run")
    assert "outdated" not in said


def test_a_lock_that_is_missing_is_told(bench: Bench, project: Path) -> None:
    """In words about what was asked for."""
    (project / "uv.lock").unlink()
    said = bench.active(project, "uv sync --dry-run")
    assert "uv.lock does not exist, and would be created" in said
    assert "frozen" not in said
    said = bench.active(project, "uv sync --check && echo fine", check=False)
    assert "Unable to find lockfile" in said
    assert "fine" not in said
    assert not (project / "uv.lock").exists()


def test_what_the_lock_does_not_have_is_seen(bench: Bench, project: Path) -> None:
    """`--check` and `--dry-run` tell what `uv sync` would remove, and no package of the base's."""
    assert "Would uninstall" not in bench.active(project, "uv sync --check")
    bench.active(project, "uv pip install more")
    said = bench.active(project, "uv sync --check && echo fine", check=False)
    assert "Would uninstall 1 package\n - more==1.0\n" in said
    assert "The environment is outdated" in said
    assert "fine" not in said
    assert " - more==1.0\n" in bench.active(project, "uv sync --dry-run")
    assert "more" not in bench.active(project, "uv sync --check --inexact")
    assert "more" in bench.names(project)
    bench.active(project, "uv sync; uv sync --check")


def _said(bench: Bench, *words: str) -> str:
    return subprocess.check_output([bench.uv.path, *words], env=bench.env, text=True)
