"""What is remembered of uv between two builders, and when it is asked again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_provisioner.overlay import store
from tests.support.bases import Workshop
from tests.support.index import LocalIndex

ASK = (
    "import json, os, sys; from pathlib import Path; from kernel_provisioner.uv.discovery import facts_of;"
    "facts = facts_of(sys.argv[1], os.environ, Path(sys.argv[2]));"
    "print(json.dumps([facts.version, str(facts.cache)]))"
)


class Bench:
    """A uv that notes each time it is asked, and processes that ask it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.memory = home / "private" / "uv.json"
        self.memory.parent.mkdir(mode=0o700)
        self.program = home / "uv"
        self.notes = home / "asked"
        self.env = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
        self.write("0.99.1", "/somewhere/cache")

    def write(self, version: str, cache: str) -> None:
        """Put another uv in its place; an empty ``cache``: it does not say."""
        where = f"echo {cache}" if cache else "exit 2"
        new = self.program.with_name("uv.new")
        lines = (
            "#!/bin/sh",
            f'echo "$1" >> {self.notes}',
            f'[ "$1" = --version ] && echo "uv {version}" && exit',
            where,
        )
        new.write_text("\n".join(lines) + "\n")
        new.chmod(0o755)
        new.replace(self.program)

    def ask(self, **more: str) -> tuple[list[object], list[str]]:
        """The facts as a process of its own sees them, and what it asked uv for that."""
        self.notes.write_text("")
        words = [sys.executable, "-c", ASK, str(self.program), str(self.memory)]
        done = subprocess.run(words, env={**self.env, **more}, check=True, capture_output=True, text=True)
        return json.loads(done.stdout), self.notes.read_text().split()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Nothing is remembered yet."""
    return Bench(tmp_path)


def test_the_second_process_asks_nothing(bench: Bench) -> None:
    """A builder starts uv only for its work; variables that uv does not look at change nothing."""
    facts, asked = bench.ask()
    assert facts == [[0, 99, 1], "/somewhere/cache"]
    assert asked == ["--version", "cache"]
    assert bench.ask(LC_ALL="C.UTF-8", JUPYTER_PATH="/x") == (facts, [])
    assert bench.memory.stat().st_mode & 0o777 == 0o600


def test_another_uv_is_asked(bench: Bench) -> None:
    """As after an upgrade, which puts another file in the same place."""
    bench.ask()
    bench.write("0.99.2", "/elsewhere")
    assert bench.ask() == ([[0, 99, 2], "/elsewhere"], ["--version", "cache"])


@pytest.mark.parametrize(
    "more",
    [{"UV_CACHE_DIR": "/other"}, {"XDG_CACHE_HOME": "/other"}, {"HOME": "/other"}, {"UV_NO_CONFIG": "1"}],
)
def test_other_variables_of_uv_are_another_question(bench: Bench, more: dict[str, str]) -> None:
    """Each of these may move the cache."""
    bench.ask()
    assert bench.ask(**more)[1] == ["--version", "cache"]


@pytest.mark.parametrize("place", [".config/uv/uv.toml", "named.toml"])
def test_a_changed_setting_is_another_question(bench: Bench, place: str) -> None:
    """Also where the file was not there before, and where a variable names it."""
    named = {"UV_CONFIG_FILE": str(bench.home / place)} if place == "named.toml" else {}
    bench.ask(**named)
    settings = bench.home / place
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text('cache-dir = "/other"\n')
    assert bench.ask(**named)[1] == ["--version", "cache"]
    assert bench.ask(**named)[1] == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"grounds": 1}', "\x00\xff", '{"version": ["x"]}'])
def test_a_damaged_memory_is_no_memory(bench: Bench, content: str) -> None:
    """It is written again."""
    facts, _ = bench.ask()
    bench.memory.write_text(content, encoding="latin-1")
    assert bench.ask() == (facts, ["--version", "cache"])
    assert bench.ask() == (facts, [])


def test_a_uv_without_a_cache_is_asked_every_time(bench: Bench) -> None:
    """``UV_NO_CACHE`` gives it a directory that is gone afterwards."""
    bench.write("0.99.1", "")
    assert bench.ask() == ([[0, 99, 1], "None"], ["--version", "cache"])
    assert bench.ask()[1] == ["--version", "cache"]


def test_a_builder_uses_the_cache_that_it_remembers_and_looks_at_it_again(
    tmp_path: Path, index: LocalIndex
) -> None:
    """Who opens it to others, or whatever leads elsewhere, is told: nothing is installed from there."""
    shop = Workshop(tmp_path, index)
    shop.stock("cpu")
    for name in ("tiny", "other"):
        shop.publish(name)
    base = shop.create("cpu").base
    assert shop.overlay(base, "tiny").failure == {}
    memory = shop.overlays.root / store.UV_FACTS
    said = json.loads(memory.read_text())
    place = tmp_path / "elsewhere"
    place.mkdir()
    memory.write_text(json.dumps({**said, "cache": str(place)}))
    assert shop.overlay(base, "other", notebook="second.ipynb").failure == {}
    assert (place / "CACHEDIR.TAG").exists()
    place.chmod(0o777)
    failure = shop.overlay(base, "tiny", notebook="third.ipynb").failure
    assert failure["what"] == f"uv's cache cannot be used: other users can change {place}"
