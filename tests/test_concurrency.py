"""Many at once: one notebook is built once, many notebooks in turn, and the same request is resolved once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kernel_provisioner.base.maintain import remove_base
from kernel_provisioner.base.registry import RegisteredBase, is_registered, set_alias
from kernel_provisioner.builder.queue import DIRECTORY, at_a_time
from kernel_provisioner.errors import BaseInUse, BaseNotFound
from kernel_provisioner.inkernel.shared.layout import PROGRESS
from kernel_provisioner.overlay.store import Generation, State
from kernel_provisioner.system import locks
from tests.support.bases import BUILDS_WITHIN, REPOSITORY, Workshop
from tests.support.crowd import Outcome, crowd
from tests.support.index import LocalIndex, serve_index
from tests.support.launches import launches
from tests.support.notebooks import write_notebook
from tests.support.pauses import Paused
from tests.support.waiting import wait_for

SERVERS, THREADS = 5, 10


class Town(Workshop):
    """A workshop whose overlays lie where launches put them, with one base and notebooks."""

    def __init__(self, home: Path, index: LocalIndex) -> None:
        super().__init__(home, index, TORCH_OVERLAY_ROOT=str(home / "overlays"))
        self.stock("cpu")
        self.base: RegisteredBase = self.create("cpu").base
        self.builders: dict[str, subprocess.Popen[bytes]] = {}

    def book(self, name: str, *extras: str) -> Path:
        """A notebook that asks for these extras."""
        return write_notebook(
            self.home / f"{name}.ipynb", torch_env={"accelerator": "cpu", "extras": [*extras]}
        )

    def generations(self, name: str) -> list[Generation]:
        """A notebook's overlays, whatever their state."""
        return self.overlays.generations(self.overlays.notebook_dir(self.home / f"{name}.ipynb"))

    def build_beside(self, name: str, extra: str) -> None:
        """Start the builder of a new notebook that asks for ``extra``, and come back once it has spoken."""
        generation = self.begin(self.base, extra, notebook=f"{name}.ipynb")
        command = [sys.executable, "-m", "kernel_provisioner.builder", str(generation.path)]
        self.builders[name] = subprocess.Popen(command, env=self.env, cwd=REPOSITORY, start_new_session=True)
        wait_for(lambda: events(generation), f"the builder of {name} to speak", within=BUILDS_WITHIN)

    def kill(self, name: str) -> None:
        """Kill a builder and its family, as the machine does that runs out of memory."""
        builder = self.builders.pop(name)
        os.killpg(builder.pid, signal.SIGKILL)
        builder.wait()

    def ended(self, name: str) -> Generation:
        """A notebook's only overlay, once its builder has ended."""
        self.builders.pop(name).wait(BUILDS_WITHIN)
        (generation,) = self.generations(name)
        return generation

    def said(self, name: str) -> list[str]:
        """What the builder of a notebook's first overlay has said so far: the phases."""
        *_, generation = self.generations(name)
        return [event["phase"] for event in events(generation)]


def events(generation: Generation) -> list[dict[str, str]]:
    """What its builder has said so far; the last line may still be on its way."""
    path = generation.path / PROGRESS
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


@pytest.fixture(scope="module")
def square(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """One town for this module."""
    with serve_index() as index:
        yield Town(tmp_path_factory.mktemp("concurrency"), index)


@pytest.fixture
def town(square: Town) -> Iterator[Town]:
    """The town for one test, which brings notebooks and extras of its own; no builder outlives it."""
    yield square
    for name in list(square.builders):
        square.kill(name)
    square.index.behave()


def assert_all_run(outcomes: list[Outcome], module: str) -> None:
    """Every kernel has found the module in its own overlay and torch in the base."""
    for one in outcomes:
        assert not one.failure, one
        assert one.state == State.READY.value, one
        mine, torch = one.imported
        assert mine.startswith(f"{one.overlay}/"), one
        assert mine.endswith((f"/{module}/__init__.py", f"/{module}.py")), one
        assert "/venv/" in torch, one


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.fault(20)
def test_fifty_launches_of_one_notebook_make_one_build(town: Town) -> None:
    """From five servers at the same moment: all kernels run in the same overlay."""
    town.publish("shared-by-all")
    book = town.book("one", "shared-by-all")
    outcomes = crowd([[book] * THREADS] * SERVERS, town.env, "shared_by_all", "torch")
    assert len(outcomes) == SERVERS * THREADS
    assert_all_run(outcomes, "shared_by_all")
    assert len({one.overlay for one in outcomes}) == 1
    assert {one.path.name for one in town.generations("one")} <= {"0001", "0002"}, "built behind it"
    assert town.said("one").count("ready") == 1
    assert len(town.fetched("shared-by-all")) == 1


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.fault(20)
def test_fifty_notebooks_that_ask_for_the_same_resolve_it_once(town: Town) -> None:
    """Each has an overlay of its own; the first resolves, and all install what it found.

    Those that are let go by then may fetch the wheel beside each other, the rest take it from the cache.
    """
    town.publish("asked-by-all")
    books = [[town.book(f"many-{s}-{t}", "asked-by-all") for t in range(THREADS)] for s in range(SERVERS)]
    outcomes = crowd(books, town.env, "asked_by_all", "torch")
    assert_all_run(outcomes, "asked_by_all")
    assert len({one.overlay for one in outcomes}) == SERVERS * THREADS
    resolved = [one for one in outcomes if "plan" in town.said(Path(one.notebook).stem)]
    assert len(resolved) == 1
    assert len(town.fetched("asked-by-all")) <= at_a_time() + 1


@pytest.mark.fault(20)
def test_so_many_builds_run_at_once_and_the_others_wait_in_turn(town: Town) -> None:
    """While the first hang at the index the others say how many come first; a dead one makes room."""
    names = [f"bound-{number}" for number in range(at_a_time() + 3)]
    for name in names:
        town.publish(name)
        town.index.misbehave(f"/simple/{name}/", "wait")
        town.build_beside(name, name)
    running, waiting = names[:-3], names[-3:]
    assert [town.said(name) for name in running] == [["plan"]] * at_a_time()
    for ahead, name in enumerate(waiting, start=at_a_time()):
        (event,) = events(*town.generations(name))
        assert event["message"] == f"Waiting for {ahead} other builds"

    town.kill(running[0])
    wait_for(lambda: town.said(waiting[0])[-1] == "plan", "the next one's turn")
    assert [town.said(name)[-1] for name in waiting[1:]] == ["wait", "wait"]
    town.index.behave()
    assert [town.ended(name).state() for name in names[1:]] == [State.READY] * (len(names) - 1)


@pytest.mark.fault(20)
def test_a_known_set_of_packages_waits_for_no_slow_one(town: Town) -> None:
    """What takes a second never waits for builds that hang at the index."""
    town.publish("known-already")
    town.build_beside("knows", "known-already")
    assert town.ended("knows").state() is State.READY
    for number in range(at_a_time()):
        town.index.misbehave(f"/simple/slow-{number}/", "wait")
        town.build_beside(f"slow-{number}", f"slow-{number}")
    town.build_beside("knows-too", "known-already")
    assert town.ended("knows-too").state() is State.READY
    assert "wait" not in town.said("knows-too")


@pytest.mark.fault(20)
def test_where_the_first_dies_the_others_resolve_for_themselves(town: Town) -> None:
    """Who waited for another's resolution is set free, all of them at once."""
    town.publish("orphaned")
    town.index.misbehave("/simple/orphaned/", "wait")
    for name in ("first", "second", "third"):
        town.build_beside(name, "orphaned")
    assert [town.said(name) for name in ("first", "second", "third")] == [["plan"], ["wait"], ["wait"]]
    town.kill("first")
    for name in ("second", "third"):
        wait_for(lambda name=name: "plan" in town.said(name), f"{name} to go ahead")  # type: ignore[misc]
    town.index.behave()
    assert [town.ended(name).state() for name in ("second", "third")] == [State.READY] * 2


def test_turns_leave_nothing_behind(town: Town) -> None:
    """The files of those who died, too, are gone after the next build."""
    town.publish("killed", "1.0")
    town.index.misbehave("/simple/killed/", "wait")
    town.build_beside("killed", "killed")
    town.kill("killed")
    town.index.behave()
    town.publish("lived")
    town.build_beside("lived", "lived")
    assert town.ended("lived").state() is State.READY
    left = {path.name for path in town.overlays.root.glob(f"{DIRECTORY}/*/*")}
    assert left <= {"number.lock"}


def test_a_base_that_is_removed_under_a_launch_is_not_started_on(town: Town, tmp_path: Path) -> None:
    """Between the choice and the kernel's hold on the base: the launch chooses again, here another base."""
    other = town.adopt(town.environment("theirs", "torch", "ipykernel")).base
    set_alias(other.directory.parent, "cpu", other.manifest.id)
    paused = Paused(tmp_path, "chosen")
    with ThreadPoolExecutor(1) as thread:
        launch = thread.submit(launches, [town.book("homeless")], {**town.env, **paused.env})
        paused.reached()
        remove_base(other, data_dir=town.data_dir)
        paused.go_until(launch.done, "the launch")
        (told,) = launch.result()
    assert not told["failure"]
    assert told["base"]["id"] == town.base.manifest.id
    assert told["state"] == State.READY.value


def test_a_base_is_not_removed_while_it_is_made(town: Town) -> None:
    """Whoever makes it again would lose it half-way."""
    making = town.base.directory.parent / f"{town.base.manifest.id}.new.lock"
    with (
        locks.exclusive(making),
        pytest.raises(BaseInUse, match="being created, adopted or removed right now"),
    ):
        remove_base(town.base, data_dir=town.data_dir)
    assert is_registered(town.base)


def test_a_base_that_somebody_removed_before_is_told_so(town: Town) -> None:
    """Two people, one cleaning."""
    base = town.adopt(town.environment("removed", "torch", "ipykernel")).base
    remove_base(base, data_dir=town.data_dir)
    with pytest.raises(BaseNotFound, match="no longer exists"):
        remove_base(base, data_dir=town.data_dir)
