"""The first overlay of a notebook does not wait for the wheel store: that is filled behind its kernel."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from kernel_provisioner.inkernel.shared import layout, links
from kernel_provisioner.inkernel.shared.settle import settle
from kernel_provisioner.launch.acquire import hold_overlay
from kernel_provisioner.overlay.skeleton import site_packages
from kernel_provisioner.overlay.store import Generation, State
from tests.support.bases import Bench, Built
from tests.support.launches import followed, launches
from tests.support.notebooks import write_notebook
from tests.support.parts import need
from tests.support.pauses import Paused
from tests.support.waiting import wait_for


class Opened:
    """A notebook that asks for ``extras``, launched as often as one likes; no kernel is started."""

    def __init__(self, bench: Bench, *extras: str) -> None:
        self.bench, self._env = bench, {"TORCH_OVERLAY_ROOT": str(bench.overlays.root)}
        bench.base()
        told = {"accelerator": "cpu", "extras": list(extras)}
        self.notebook = write_notebook(bench.home / bench.notebook, torch_env=told)
        self.told: dict[str, Any] = {}

    def launch(self, **env: str) -> Generation:
        """Launch, and wait for the end of the build that a kernel would wait for."""
        (self.told,) = launches([self.notebook], {**self.bench.env, **self._env, **env})
        return Generation(Path(self.told["overlay"]))

    def entered(self, **env: str) -> Built:
        """Launch, and let the packages in as a first cell does."""
        generation = self.launch(**env)
        assert self.told["state"] == State.READY.value, self.told
        settle(generation.path, generation.read(layout.OVERLAY))
        return Built(generation, subprocess.CompletedProcess((), 0))

    def command(self, *words: str) -> str:
        """What ``jupyter overlay`` says to these words."""
        return self.bench.command(*words, TORCH_OVERLAY_ROOT=str(self.bench.overlays.root)).stdout

    @property
    def all(self) -> list[Generation]:
        """All generations, the oldest first."""
        return self.bench.overlays.generations(self.bench.overlays.notebook_dir(self.notebook))[::-1]

    def followed(self, *, killed: bool = False) -> Generation:
        """The newest generation behind the first, once its build has ended."""
        return followed(self.all[0], killed=killed)


def is_linked(generation: Generation, name: str) -> bool:
    """Whether a distribution of an overlay leads into the wheel store."""
    (info,) = site_packages(generation.path).glob(f"{name}-*.dist-info")
    return bool(links.entry_of(info))


def test_the_first_start_has_files_and_the_second_links(bench: Bench) -> None:
    """What lies in uv's cache is there at once. The store is filled meanwhile, and bytecode compiled."""
    bench.publish("first_time", requires=["its-part"])
    bench.publish("its-part")
    opened = Opened(bench, "first_time")
    first = opened.entered()
    assert not is_linked(first.generation, "first_time")
    package = site_packages(first.path) / "first_time/__init__.py"
    assert package.stat().st_nlink > 1, "a link to the file in uv's cache, and no copy"
    assert first.python("import first_time, its_part; print(first_time.__version__)") == "1.0"
    following = opened.followed()
    second = Built(opened.launch(), first.done)
    assert second.generation == following
    assert is_linked(following, "first_time")
    assert second.content["installed"] == first.content["installed"]
    assert second.python("import first_time, its_part; print(first_time.__version__)") == "1.0"
    assert opened.launch() == following, "no third one comes"
    assert len(opened.all) == 2


def test_the_next_notebook_has_links_at_once(bench: Bench) -> None:
    """Nothing follows an overlay that all was there for."""
    bench.publish("known")
    opened = Opened(bench, "known")
    opened.launch()
    opened.followed()
    bench.notebook = f"other-{bench.notebook}"
    other = Opened(bench, "known")
    assert is_linked(other.entered().generation, "known")
    assert len(other.all) == 1


def test_a_launch_meanwhile_takes_the_overlay_that_is_there(bench: Bench, tmp_path: Path) -> None:
    """It waits for nothing, and nothing is begun again."""
    bench.publish("meanwhile")
    opened = Opened(bench, "meanwhile")
    paused = Paused(tmp_path, "filled")
    first = opened.launch(**paused.env)
    paused.reached()
    assert opened.launch() == first
    assert opened.told["state"] == State.READY.value
    paused.go()
    following = opened.followed()
    assert opened.launch() == following
    assert len(opened.all) == 2


def test_where_filling_was_killed_the_next_launch_begins_it_again(bench: Bench, tmp_path: Path) -> None:
    """As after a power cut: what is there serves, and nobody waits."""
    bench.publish("killed")
    opened = Opened(bench, "killed")
    paused = Paused(tmp_path, "filled")
    first = opened.launch(**paused.env)
    psutil.Process(paused.reached()).kill()
    opened.followed(killed=True)
    assert opened.launch() == first
    following = opened.followed()
    assert len(opened.all) == 3
    assert opened.launch() == following
    assert is_linked(opened.entered().generation, "killed")


def test_where_the_store_cannot_be_filled_what_is_there_serves(bench: Bench, tmp_path: Path) -> None:
    """An image that was made without uv's cache, on a machine without network."""
    bench.publish("stays")
    opened = Opened(bench, "stays")
    paused = Paused(tmp_path, "filled")
    first = opened.launch(**paused.env)
    psutil.Process(paused.reached()).kill()
    opened.followed(killed=True)
    bench.uv.run("cache", "clean").check("no")
    bench.index.misbehave("/simple/stays", 404)
    assert opened.launch() == first
    assert opened.followed().state() is State.FAILED
    assert opened.launch() == first
    assert len(opened.all) == 3, "it is not tried at each start"
    assert opened.entered().python("import stays; print(stays.__version__)") == "1.0"


def test_kernels_of_one_notebook_share_an_overlay(bench: Bench) -> None:
    """For as long as one runs in the first, others start there; then the next one is taken."""
    bench.publish("in-use")
    opened = Opened(bench, "in-use")
    first = opened.launch()
    following = opened.followed()
    with hold_overlay(first):
        assert opened.launch() == first
    assert opened.launch() == following


def test_what_the_check_of_every_file_finds_is_told_by_the_next_start(bench: Bench) -> None:
    """A file of the same size, and not what RECORD says: as where nothing is left for later."""
    bench.publish("altered", record="wrong-hash")
    opened = Opened(bench, "altered")
    opened.entered()
    following = opened.followed()
    assert following.state() is State.FAILED
    assert "altered" in following.read(layout.FAILED)["failure"]["what"]
    for _ in range(2):
        opened.launch()
        assert opened.told["state"] == State.FAILED.value
        assert "is damaged" in opened.told["build"]["what"]
    assert "the last build failed" in opened.command("show", str(opened.notebook))
    assert "is damaged" in opened.command("log", str(opened.notebook))


@pytest.mark.parametrize("how", ["installs", "removes", "replaces", "edits"])
def test_what_a_user_has_changed_by_hand_stays(bench: Bench, how: str) -> None:
    """The overlay is theirs then, as if the store had been filled first."""
    name = f"mine-{how}"
    module = name.replace("-", "_")
    bench.publish(name)
    bench.publish("by-hand")
    opened = Opened(bench, name)
    first = opened.entered()
    bench.publish(name, "2.0")
    package = site_packages(first.path) / module / "__init__.py"
    changes: dict[str, Callable[[], object]] = {
        "installs": lambda: bench.pip(first, "install", "by-hand"),
        "removes": lambda: bench.pip(first, "uninstall", name),
        "replaces": lambda: bench.pip(first, "install", "--upgrade", name),
        "edits": lambda: package.write_text(package.read_text() + "\nEDITED = True\n"),
    }
    opened.followed()
    changes[how]()
    assert opened.launch() == first.generation
    assert opened.launch() == first.generation
    if how == "installs":
        opened.command("prune")
        assert first.path.is_dir(), "prune keeps what was installed by hand"


def test_what_a_cell_adds_is_in_the_next_one_too(bench: Bench) -> None:
    """``%overlay add`` in a provisional overlay: the next launch has links for all of it."""
    bench.publish("declared")
    bench.publish("added-later")
    opened = Opened(bench, "declared")
    first = opened.entered()
    opened.followed()
    said = json.loads(bench.build(first.generation, "--add", "added-later").done.stdout)
    assert said["changed"] == []
    assert first.python("import declared, added_later") == ""
    opened.launch()
    wait_for(lambda: opened.launch() == opened.all[-1], "the last generation is taken")
    again = opened.entered()
    assert again.python("import declared, added_later") == ""


def test_of_packages_that_share_a_file_each_brings_its_own(bench: Bench) -> None:
    """opencv-python and opencv-python-headless: the store is filled first, for apart alone they are whole."""
    for name in ("one-of-two", "two-of-two"):
        bench.publish(name, files={"both/__init__.py": f"NAME = '{name}'\n", f"both/{name[:3]}.py": ""})
    opened = Opened(bench, "one-of-two", "two-of-two")
    first = opened.entered()
    assert is_linked(first.generation, "one_of_two")
    assert first.python("import both.one, both.two; print(both.NAME)") == "two-of-two"
    assert len(opened.all) == 1


def test_from_a_cache_on_another_disk_the_store_is_filled_first(bench: Bench, tmp_path: Path) -> None:
    """Files would be copies there, one more for each notebook."""
    memory = Path("/dev/shm")
    apart = memory.is_dir() and memory.stat().st_dev != tmp_path.stat().st_dev
    need(apart, "no second file system that anybody can write to")
    bench.publish("far-away")
    opened = Opened(bench, "far-away")
    cache = memory / f"uv-{os.getpid()}"
    cache.mkdir(mode=0o700)
    try:
        first = opened.entered(UV_CACHE_DIR=str(cache))
        assert is_linked(first.generation, "far_away")
        assert len(opened.all) == 1
    finally:
        subprocess.run(["rm", "-rf", str(cache)], check=True)


def test_a_first_overlay_is_replaced_and_goes_with_the_next_prune(bench: Bench) -> None:
    """``list`` and ``show`` tell of the one that the next kernel starts in."""
    bench.publish("replaced-soon")
    opened = Opened(bench, "replaced-soon")
    first = opened.launch()
    following = opened.followed()
    shown = json.loads(opened.command("show", "--json", str(opened.notebook)))
    assert shown["overlay"] == {"path": str(following.path), "state": "ready"}
    opened.launch()
    pruned = opened.command("prune")
    assert "replaced by a newer one" in pruned
    assert opened.all == [following]
    assert not first.path.exists()


def test_what_is_built_ahead_is_not_provisional(bench: Bench) -> None:
    """Nobody waits for it: ``prebuild`` fills the store first, so that the next start needs nothing more."""
    bench.publish("ahead")
    opened = Opened(bench, "ahead")
    opened.command("prebuild", str(opened.notebook))
    assert is_linked(opened.entered().generation, "ahead")
    assert len(opened.all) == 1
