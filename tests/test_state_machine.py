"""Launches, sweeps and changes of bases in any order and at the same time: nobody ever sees half a tree."""

from __future__ import annotations

import functools
import json
import os
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from kernel_provisioner.base.registry import read_register
from kernel_provisioner.builder.queue import DIRECTORY
from kernel_provisioner.collector import Policy, collect, scan
from kernel_provisioner.collector.collect import TRASH
from kernel_provisioner.system import locks
from kernel_provisioner.system.pause_points import VARIABLE
from tests.support.actor import ANSWERS_WITHIN, Actor
from tests.support.bases import Workshop
from tests.support.index import LocalIndex, serve_index
from tests.support.notebooks import write_notebook
from tests.support.oracle import faults, ready
from tests.support.pauses import Paused
from tests.support.waiting import patient, wait_for

SEED = "KERNEL_PROVISIONER_TEST_SEED"
"""Names the seed of the random actions; a failure tells the one that it was found with."""

ACTORS, STEPS = 4, 40
EXAMPLES = settings(
    max_examples=8, stateful_step_count=15, phases=[Phase.generate], derandomize=False, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
EXTRAS = ["first-extra", "second-extra", "third-extra"]


class World(Workshop):
    """Notebooks, two environments to adopt, and whoever acts on them."""

    def __init__(self, home: Path, index: LocalIndex) -> None:
        super().__init__(home, index, TORCH_OVERLAY_ROOT=str(home / "overlays"))
        self.stock("cpu")
        for extra in EXTRAS:
            self.publish(extra)
        self.environments = [self.environment(name, "torch", "ipykernel") for name in ("env-a", "env-b")]
        self.notebooks = [
            write_notebook(
                home / f"book-{number}.ipynb", torch_env={"accelerator": "cpu", "extras": EXTRAS[:1]}
            )
            for number in range(3)
        ]
        (home / "killed").mkdir()
        self.file = home / "world.json"
        self.file.write_text(json.dumps({
            "notebooks": [str(path) for path in self.notebooks],
            "environments": [str(path) for path in self.environments],
            "extras": EXTRAS, "data_dir": str(self.data_dir), "killed": str(home / "killed"),
        }))  # fmt: skip

    def actor(self) -> Actor:
        """Somebody who acts; to be closed."""
        return Actor(self.file, self.env)

    def assert_tidy(self, pauses: Sequence[Paused] = ()) -> None:
        """Nobody acts any more: what says it is ready is whole, and a sweep leaves nothing behind.

        Who waits at one of ``pauses`` goes on: what is built behind a kernel may have come there, too.
        """
        for generation in ready(self.overlays.root):
            assert not faults(generation), generation.path

        def is_quiet() -> bool:
            for paused in pauses:
                paused.let_go()
            held = (
                path for name in ("builder", "use") for path in self.overlays.root.glob(f"*/*/{name}.lock")
            )
            return not any(map(locks.is_held, held))

        wait_for(is_quiet, "the last builder to end")
        collected = collect(self.overlays.root, Policy(everything=True), now=0.0)
        assert collected.busy == []
        assert [found for overlay in scan(self.overlays.root) for found in overlay.generations] == []
        assert list((self.overlays.root / TRASH).glob("*")) == []
        left = {path.name for path in self.overlays.root.glob(f"{DIRECTORY}/*/*")} - {"number.lock"}
        assert len(left) <= 2 * ACTORS, left
        known = [path.name for path in self.overlays.root.glob("locks/*.toml")]
        requests = 1 + 2 * len(EXTRAS) + 6  # none, one or two of three, in any order
        assert len(known) <= 2 * requests, known
        bases = read_register([self.data_dir / "torch-bases"])
        assert bases.damaged == ()
        assert (self.data_dir / "kernels/torch-cpu/kernel.json").exists() == bool(bases.bases)
        assert {path.name for path in self.data_dir.glob("torch-bases/*") if path.is_dir()} == {
            base.manifest.id for base in bases.bases
        }


@pytest.fixture(scope="module")
def index() -> Iterator[LocalIndex]:
    """One index for this module."""
    with serve_index() as served:
        yield served


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.fault(21, 22, 23)
def test_whoever_acts_at_the_same_time_a_kernel_has_all_that_it_runs_on(
    tmp_path: Path, index: LocalIndex
) -> None:
    """Four processes do what chance tells them: launch, end, sweep, remove and adopt bases, rename, kill."""
    chance = os.environ.get(SEED) or str(random.SystemRandom().randrange(2**32))
    world = World(tmp_path, index)
    actors = [world.actor() for _ in range(ACTORS)]
    try:
        actors[0].ask("adopt", environment=0)
        for number, actor in enumerate(actors):
            actor.tell("live", seed=f"{chance}-{number}", steps=STEPS)
        told = [actor.answer(within=patient(250)) for actor in actors]
    except AssertionError as error:
        raise AssertionError(f"with {SEED}={chance}:\n{error}") from error
    finally:
        for actor in actors:
            actor.close()
    assert any(line.endswith(": runs") for one in told for line in one["said"]), (
        f"with {SEED}={chance}: no launch"
    )
    world.assert_tidy()


class Interleavings(RuleBasedStateMachine):
    """One notebook and one base, and each actor held where it matters, while the others go on."""

    def __init__(self, world: World, actors: Mapping[str, Actor]) -> None:
        super().__init__()
        self.world, self.actors = world, actors
        self.held: dict[str, Paused] = {}
        self.pauses: list[Paused] = []
        self.actors["keeper"].ask("adopt")
        self.actors["keeper"].ask("change", extras=EXTRAS[:1])

    # No rule has a precondition: which are true here depends on the machine's pace, too, and
    # hypothesis wants the same steps to allow the same next ones.

    @rule(point=st.sampled_from(["chosen", "chosen", "found", "begun", "planned", "unpacked", "verified"]))
    def launch_up_to(self, point: str) -> None:
        """A launch stops at this point, or its builder does; one that never comes there runs through."""
        if "launcher" not in self.held:
            self._hold("launcher", point, "launch")

    @rule()
    def go_on_launching(self) -> None:
        """The launch ends: with a kernel that has everything, or no base."""
        self._go("launcher")

    @rule()
    def launch(self) -> None:
        """A launch from start to end."""
        self._go("launcher")
        self.actors["launcher"].ask("launch")

    @rule()
    def sweep_up_to_the_mark(self) -> None:
        """A sweep of everything stops between its look and its deed."""
        if "collector" not in self.held:
            self._hold("collector", "marked", "collect", everything=True)

    @rule()
    def go_on_sweeping(self) -> None:
        """It deletes what it may delete now."""
        self._go("collector")

    @rule(days=st.sampled_from([None, 0.0, 30.0]), everything=st.booleans())
    def sweep(self, days: float | None, *, everything: bool) -> None:
        """Somebody else sweeps from start to end."""
        self.actors["keeper"].ask("collect", days=days, everything=everything)

    @rule()
    def remove_the_base(self) -> None:
        """It goes unless somebody runs on it."""
        self.actors["keeper"].ask("remove")

    @rule()
    def adopt_the_base(self) -> None:
        """It is there again."""
        self.actors["keeper"].ask("adopt")

    @rule(extras=st.sampled_from([[], EXTRAS[:1], EXTRAS[1:]]))
    def change_the_notebook(self, extras: list[str]) -> None:
        """The next launch is asked for something else."""
        self.actors["keeper"].ask("change", extras=extras)

    @rule(which=st.sampled_from(["end", "end_all"]))
    def end_kernels(self, which: str) -> None:
        """The last one that was started, or all; not that of a launch that is held up."""
        if "launcher" not in self.held:
            self.actors["launcher"].ask(which)

    @rule()
    def kill_a_builder(self) -> None:
        """Wherever it is held."""
        self.actors["keeper"].ask("kill")

    @invariant()
    def every_kernel_has_all_that_it_runs_on(self) -> None:
        """Overlay and base, whatever was swept and removed meanwhile."""
        if "launcher" not in self.held:
            self.actors["launcher"].ask("look")

    def teardown(self) -> None:
        """Everybody is set free, and nothing but whole overlays is left."""
        for name in list(self.held):
            self._go(name)
        self.actors["launcher"].ask("end_all")
        self.world.assert_tidy(self.pauses)

    def _hold(self, name: str, point: str, command: str, **arguments: Any) -> None:
        """Let an actor begin, until it or its builder comes to the point, or it has ended without."""
        paused, actor = Paused(Path(tempfile.mkdtemp(dir=self.world.home)), point), self.actors[name]
        self.pauses.append(paused)
        actor.tell(command, pause=paused.env[VARIABLE], **arguments)
        wait_for(
            lambda: paused.waiting or actor.answered, f"{name} to come to {point}", within=ANSWERS_WITHIN
        )
        if paused.waiting:
            self.held[name] = paused
        else:
            actor.answer()

    def _go(self, name: str) -> None:
        """Let it go on to its end where it is held up, as often as it comes to the point again."""
        if name in self.held:
            paused, actor = self.held.pop(name), self.actors[name]
            paused.go_until(lambda: actor.answered, f"the end of {name}")
            actor.answer()


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.fault(21, 23)
def test_whoever_is_held_up_meanwhile_a_kernel_has_all_that_it_runs_on(
    tmp_path: Path, index: LocalIndex
) -> None:
    """Launch, builder and sweep are stopped where it matters, and chance says what happens meanwhile."""
    chance = os.environ.get(SEED) or str(random.SystemRandom().randrange(2**32))
    world = World(tmp_path, index)
    actors = {name: world.actor() for name in ("launcher", "collector", "keeper")}
    machine = seed(int(chance))(functools.partial(Interleavings, world, actors))
    try:
        run_state_machine_as_test(machine, settings=EXAMPLES)  # type: ignore[arg-type] # a factory will do
    except Exception as error:
        raise AssertionError(f"with {SEED}={chance}:\n{error}") from error
    finally:
        for actor in actors.values():
            actor.close()
