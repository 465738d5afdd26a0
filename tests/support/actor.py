"""Somebody who launches notebooks, sweeps, and keeps bases: a process of its own that does as it is told.

``python -m tests.support.actor WORLD`` (a file of JSON) reads commands, a line of JSON each, and
answers each with a line: what came of it, or in ``violation`` what must never happen.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kernel_provisioner.base.adopt import adopt_base
from kernel_provisioner.base.create import create_base
from kernel_provisioner.base.installers import BaseSpec
from kernel_provisioner.base.maintain import remove_base
from kernel_provisioner.base.registry import read_register
from kernel_provisioner.collector import Policy, collect
from kernel_provisioner.errors import BaseInUse, BaseNotFound, LockTimeout
from kernel_provisioner.inkernel.shared import flock, layout
from kernel_provisioner.inkernel.shared.info import VARIABLE
from kernel_provisioner.inkernel.shared.settle import settle
from kernel_provisioner.launch.prepare import prepare
from kernel_provisioner.notebook.find import FoundNotebook
from kernel_provisioner.overlay import store
from kernel_provisioner.overlay.store import Generation, State, Store
from kernel_provisioner.settings import load_settings
from kernel_provisioner.system.pause_points import VARIABLE as PAUSE
from kernel_provisioner.uv.client import find_uv

from .notebooks import set_torch_env
from .waiting import patient, wait_for

REPOSITORY = Path(__file__).parents[2]
ANSWERS_WITHIN = patient(120.0)

_KERNEL = """\
import importlib, json, os, sys

def here():
    return {os.path.join(folder, name) for place in (sys.prefix + "/bin", sys.prefix + "/lib", sys.argv[1])
            for folder, _, names in os.walk(place) for name in names if "__pycache__" not in folder}

seen = set()
for line in sys.stdin:
    importlib.invalidate_caches()
    now = here()
    told = {"missing": sorted(seen - now), "found": []}
    seen |= now
    for name in json.loads(line):
        try:
            told["found"].append(importlib.import_module(name).__file__)
        except Exception as error:
            told["missing"].append(f"{type(error).__name__}: {error}")
    print(json.dumps(told), flush=True)
"""


class Actor:
    """The process, seen from the test that starts it."""

    def __init__(self, world: Path, env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(world)],
            cwd=REPOSITORY,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def tell(self, command: str, **arguments: Any) -> None:
        """Let it do something, and come back at once; ``pause`` names a pause point and its directory."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, arguments]).encode() + b"\n")
        self._process.stdin.flush()

    @property
    def answered(self) -> bool:
        """Whether the last command has come to its end."""
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], 0)[0])

    def answer(self, *, within: float = ANSWERS_WITHIN) -> dict[str, Any]:
        """What came of the last command; raises AssertionError for what must never happen."""
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], within)[0], "the actor is stuck"
        said: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert "violation" not in said, said["violation"]
        return said

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Do it, and say what came of it."""
        self.tell(command, **arguments)
        return self.answer()

    def close(self) -> None:
        """End it and, with it, the kernels that it holds."""
        self._process.kill()
        self._process.communicate()


@dataclasses.dataclass
class _Kernel:
    overlay: str
    base: str
    modules: Sequence[str]
    process: subprocess.Popen[str]

    def look(self) -> None:
        """Assert that nothing it runs on is gone, and that it can import what its notebook asked for."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([*self.modules, "torch"]) + "\n")
        self.process.stdin.flush()
        told = json.loads(self.process.stdout.readline())
        assert told["missing"] == [], f"a kernel in {self.overlay} misses {told['missing'][:5]}"
        for file in told["found"]:
            assert file.startswith((f"{self.overlay}/", f"{self.base}/")), file

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


class _Actions:
    """What an actor can do. Each returns what came of it, and asserts what must always hold."""

    def __init__(self, world: Mapping[str, Any]) -> None:
        self.notebooks = [Path(path) for path in world["notebooks"]]
        self.environments = [Path(path) for path in world["environments"]]
        self.extras: list[str] = world["extras"]
        self.data_dir, self.killed = Path(world["data_dir"]), Path(world["killed"])
        self.root = Path(os.environ["TORCH_OVERLAY_ROOT"])
        self.kernels: list[_Kernel] = []

    def launch(self, notebook: int = 0, *, waits: bool = True) -> str:
        """Start a kernel; with ``waits`` it runs its first cell, else it ends at once."""
        launch = prepare(
            FoundNotebook(self.notebooks[notebook], how="test"),
            pinned="",
            settings=load_settings,
            environ=os.environ,
            kernel_id=f"{os.getpid()}-{time.monotonic_ns()}",
        )
        told = json.loads(launch.env[VARIABLE])
        if not told["overlay"]:
            assert told["failure"]["error"] == "NoBaseFits", told["failure"]
            return "no base"
        generation = Generation(Path(told["overlay"]))
        extras = generation.read(layout.SPEC)["order"]["extras"]
        child = subprocess.Popen(
            [launch.argv[0], "-c", _KERNEL, told["base"]["path"]],
            env={name: value for name, value in launch.env.items() if name != PAUSE},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[lock.fd for lock in launch.held],
        )
        kernel = _Kernel(
            told["overlay"], told["base"]["path"], [one.replace("-", "_") for one in extras], child
        )
        launch.release()
        self.kernels.append(kernel)
        return self._first_cell(kernel, generation) if waits else self.end()

    def _first_cell(self, kernel: _Kernel, generation: Generation) -> str:
        wait_for(
            lambda: generation.state() is not State.BUILDING, "the end of a build", within=ANSWERS_WITHIN
        )
        state = generation.state()
        if state is State.READY:
            settle(generation.path, generation.read(layout.OVERLAY))
            kernel.look()
            return "runs"
        self.kernels.remove(kernel)
        kernel.end()
        assert state is State.ABANDONED, generation.read(layout.FAILED)["failure"]
        assert self._note(generation.path).exists(), f"nobody has killed the builder of {generation.path}"
        return "its builder was killed"

    def look(self) -> str:
        """Look whether every kernel still has all that it runs on."""
        for kernel in self.kernels:
            kernel.look()
        return f"{len(self.kernels)} kernels"

    def end(self) -> str:
        """End the last kernel that was started."""
        if self.kernels:
            self.kernels.pop().end()
        return f"{len(self.kernels)} kernels"

    def end_all(self) -> str:
        """End every kernel of this actor."""
        while self.kernels:
            self.end()
        return "no kernels"

    def collect(self, *, days: float | None = None, everything: bool = False) -> str:
        """Collect; another sweep may be at it."""
        with contextlib.suppress(LockTimeout):
            collected = collect(self.root, Policy(days, everything), now=time.time())
            return f"{len(collected.removed)} removed, {len(collected.busy)} busy"
        return "busy"

    def adopt(self, environment: int = 0) -> str:
        """Register an environment as a base."""
        done = adopt_base(
            self.environments[environment], data_dir=self.data_dir, tag=None, progress=lambda *_: None
        )
        return done.base.manifest.id

    def create(self) -> str:
        """Make a base; where it is there already, that is it."""
        done = create_base(
            BaseSpec("cpu", "", (), ()),
            data_dir=self.data_dir,
            python="",
            installer="uv",
            template=os.environ["TORCH_OVERLAY_INDEX"],
            uv=find_uv(os.environ),
            progress=lambda *_: None,
        )
        return f"{done.base.manifest.id}, existed: {done.existed}"

    def remove(self, base: int = 0) -> str:
        """Remove one of the bases; those that somebody runs on stay."""
        bases = read_register().bases
        if not bases:
            return "no base"
        try:
            return remove_base(bases[base % len(bases)], data_dir=self.data_dir)[0]
        except (BaseInUse, BaseNotFound) as error:
            return str(error)

    def change(self, notebook: int = 0, extras: Sequence[str] = ()) -> str:
        """Let a notebook ask for something else; where it was renamed just now, nothing happens."""
        path = self.notebooks[notebook]
        mine = path.with_suffix(f".{os.getpid()}")
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(path, mine)
            set_torch_env(mine, {"accelerator": "cpu", "extras": list(extras)})
            mine.replace(path)
        return ", ".join(extras)

    def rename(self, notebook: int = 0) -> str:
        """Rename a notebook while a server knows of it, and back; its overlays go along."""
        path = self.notebooks[notebook]
        other = path.with_name(f"renamed-{path.name}")
        for before, after in ((path, other), (other, path)):
            directory, seen = Store(self.root).notebook_dir(before), store.identity(before)
            try:
                before.rename(after)
            except FileNotFoundError:  # another actor does the same
                continue
            with contextlib.suppress(OSError):
                Store(self.root).carry_over(directory, after, seen)
        return path.name

    def kill(self) -> str:
        """Kill a builder, as the machine does that runs out of memory."""
        for path in self.root.glob(f"*/*/{layout.BUILDER_LOCK}"):
            if Generation(path.parent).state() is State.BUILDING:
                self._note(path.parent).touch()
                for pid in flock.holders(path):
                    if pid != os.getpid():
                        with contextlib.suppress(ProcessLookupError):
                            os.killpg(pid, signal.SIGKILL)
                return str(path.parent)
        return "nobody builds"

    def live(self, *, seed: str, steps: int) -> list[str]:
        """Do so many things at random; the seed says which."""
        chance = random.Random(seed)
        done = []
        for _ in range(steps):
            name, arguments = self._chosen(chance)
            try:
                done.append(f"{name} {arguments}: {getattr(self, name)(**arguments)}")
            except BaseException as error:
                told = "".join(traceback.format_exception(error))
                raise AssertionError("\n".join([*done, f"{name} {arguments}", told])) from error
        while self.kernels:
            self.look()
            self.end()
        return done

    def _chosen(self, chance: random.Random) -> tuple[str, dict[str, Any]]:
        notebook = chance.randrange(len(self.notebooks))
        choices: list[tuple[int, str, Callable[[], dict[str, Any]]]] = [
            (30, "launch", lambda: {"notebook": notebook, "waits": chance.random() < 0.85}),
            (10, "look", dict),
            (12, "end", dict),
            (6, "end_all", dict),
            (3, "create", dict),
            (
                14,
                "collect",
                lambda: {"days": chance.choice([None, 0.0, 30.0]), "everything": chance.random() < 0.6},
            ),
            (6, "adopt", lambda: {"environment": chance.randrange(len(self.environments))}),
            (12, "remove", lambda: {"base": chance.randrange(4)}),
            (
                10,
                "change",
                lambda: {"notebook": notebook, "extras": chance.sample(self.extras, chance.randrange(3))},
            ),
            (4, "rename", lambda: {"notebook": notebook}),
            (6, "kill", dict),
        ]
        _, name, arguments = chance.choices(choices, [weight for weight, _, _ in choices])[0]
        return name, arguments()

    def _note(self, overlay: Path) -> Path:
        return self.killed / f"{overlay.parent.name}-{overlay.name}"


@contextlib.contextmanager
def _pausing(pause: str) -> Iterator[None]:
    os.environ[PAUSE] = pause
    try:
        yield
    finally:
        del os.environ[PAUSE]


def _main() -> None:
    actions = _Actions(json.loads(Path(sys.argv[1]).read_text()))
    for line in sys.stdin:
        command, arguments = json.loads(line)
        with _pausing(arguments.pop("pause", "")):
            try:
                said = {"said": getattr(actions, command)(**arguments)}
            except BaseException as error:
                said = {"violation": "".join(traceback.format_exception(error))}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
