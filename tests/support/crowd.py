"""Many launches at once: processes that stand for servers, each with a thread for every notebook.

``python -m tests.support.crowd`` is one of them. Standard input is a line of JSON, the notebooks and the
modules to import, then a line as the signal to start; standard output a line once all threads
wait, then a JSON list of what became of each launch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kernel_provisioner.inkernel.shared.info import VARIABLE
from kernel_provisioner.inkernel.shared.layout import FAILED, OVERLAY
from kernel_provisioner.inkernel.shared.settle import settle
from kernel_provisioner.launch.prepare import Launch, prepare
from kernel_provisioner.notebook.find import FoundNotebook
from kernel_provisioner.overlay.store import Generation, State
from kernel_provisioner.settings import load_settings

from .waiting import patient, wait_for

REPOSITORY = Path(__file__).parents[2]
ENDS_WITHIN = patient(280.0)

_KERNEL = """\
import importlib, json, sys
sys.stdin.readline()
importlib.invalidate_caches()
print(json.dumps([importlib.import_module(name).__file__ for name in sys.argv[1:]]))
"""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a launch: the overlay, its state, and where its interpreter found the modules.

    ``failure`` is what the kernel is told, in the launch or by the build; empty where all went well.
    """

    notebook: str
    overlay: str
    state: str
    imported: Sequence[str]
    failure: Mapping[str, str]


def crowd(servers: Sequence[Sequence[Path]], env: Mapping[str, str], *modules: str) -> list[Outcome]:
    """Launch all these notebooks at the same moment, a process for each of ``servers``.

    Each launch starts the overlay's interpreter, which holds the overlay and the base as a kernel
    does, and imports ``modules`` once the overlay is ready and entered.
    """
    with _started(servers, env, modules) as children:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
        outcomes = []
        for child in children:
            said, errors = child.communicate(timeout=ENDS_WITHIN)
            assert child.returncode == 0, errors
            assert "Traceback" not in errors, errors
            outcomes += [Outcome(**one) for one in json.loads(said)]
    return outcomes


@contextlib.contextmanager
def _started(
    servers: Sequence[Sequence[Path]], env: Mapping[str, str], modules: Sequence[str]
) -> Iterator[list[subprocess.Popen[str]]]:
    children = [
        subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=REPOSITORY,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in servers
    ]
    try:
        for child, notebooks in zip(children, servers, strict=True):
            assert child.stdin is not None
            child.stdin.write(json.dumps([[os.fspath(path) for path in notebooks], list(modules)]) + "\n")
            child.stdin.flush()
        yield children
    finally:
        for child in children:
            child.kill()
            child.communicate()


def _launch(path: str, modules: Sequence[str], number: int) -> dict[str, Any]:
    launch = prepare(
        FoundNotebook(Path(path), how="test"),
        pinned="",
        settings=load_settings,
        environ=os.environ,
        kernel_id=f"{os.getpid()}-{number}",
    )
    told = json.loads(launch.env[VARIABLE])
    outcome = {"notebook": path, "overlay": told["overlay"], "state": "", "imported": [], "failure": {}}
    if not told["overlay"]:
        return {**outcome, "failure": told["failure"]}
    with _kernel(launch, modules) as kernel:
        generation = Generation(Path(told["overlay"]))
        wait_for(lambda: generation.state() is not State.BUILDING, "the end of the build", within=ENDS_WITHIN)
        outcome["state"] = generation.state().value
        if generation.state() is State.READY:
            settle(generation.path, generation.read(OVERLAY))
            said, errors = kernel.communicate("\n")
            assert kernel.returncode == 0, errors
            outcome["imported"] = json.loads(said)
        elif generation.state() is State.FAILED:
            outcome["failure"] = generation.read(FAILED)["failure"]
    return outcome


@contextlib.contextmanager
def _kernel(launch: Launch, modules: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """The overlay's interpreter, started as a provisioner starts a kernel: it inherits the locks."""
    child = subprocess.Popen(
        [launch.argv[0], "-c", _KERNEL, *modules],
        env=launch.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=[lock.fd for lock in launch.held],
    )
    for lock in launch.held:
        lock.release()
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def _main() -> None:
    notebooks, modules = json.loads(sys.stdin.readline())
    outcomes: list[dict[str, Any]] = [{} for _ in notebooks]
    together = threading.Barrier(len(notebooks) + 1)

    def work(number: int) -> None:
        together.wait()
        outcomes[number] = _launch(notebooks[number], modules, number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(notebooks))]
    for thread in threads:
        thread.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    together.wait()
    for thread in threads:
        thread.join()
    sys.stdout.write(json.dumps(outcomes))


if __name__ == "__main__":
    _main()
