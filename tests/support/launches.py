"""What a launch comes to, for many notebooks in one process: ``python -m tests.support.launches``.

Standard input is a JSON list of notebook paths; standard output a list of what became of each.
It is a process of its own, so that nothing of the test's environment counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kernel_provisioner.inkernel.shared.info import VARIABLE
from kernel_provisioner.inkernel.shared.layout import FAILED
from kernel_provisioner.launch.prepare import prepare
from kernel_provisioner.notebook.find import FoundNotebook
from kernel_provisioner.overlay.store import Generation, State
from kernel_provisioner.settings import load_settings

from .waiting import patient, wait_for

REPOSITORY = Path(__file__).parents[2]
ENDS_WITHIN = patient(300.0)


def launches(
    notebooks: Sequence[Path],
    env: Mapping[str, str],
    pinned: str = "",
    *,
    prefix: Sequence[str] = (),
    again: bool = False,
) -> list[dict[str, Any]]:
    """What became of each notebook: what its kernel is told (``failure``, ``notices``, ``overlay``),
    and how the build ended: ``state``, in ``build`` its failure. No kernel is started. ``pinned`` is
    the tag of the kernel that was picked. ``prefix`` are words before the command, such as
    ``prlimit --nofile=64``. ``again``: where the overlay is provisional, launch once more
    when the next one is built, and tell of that.
    """  # fmt: skip
    done = subprocess.run(
        [*prefix, sys.executable, "-m", __name__, pinned, *(["again"] if again else [])],
        input=json.dumps([os.fspath(path) for path in notebooks]),
        env=dict(env),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return list(json.loads(done.stdout))


def _launch(path: Path, *, again: bool) -> dict[str, Any]:
    launch = prepare(
        FoundNotebook(path, how="test"),
        pinned=sys.argv[1],
        settings=load_settings(),
        environ=os.environ,
        kernel_id="k",
    )
    told = json.loads(launch.env[VARIABLE])
    generation, state = None, ""
    build: dict[str, str] = {}
    if told["overlay"]:
        generation = Generation(Path(told["overlay"]))
        wait_for(lambda: generation.state() is not State.BUILDING, "the builder's end")
        state = generation.state().value
        build = generation.read(FAILED)["failure"] if state == State.FAILED.value else {}
    for lock in launch.held:  # which a kernel holds while it waits
        lock.release()
    if again and generation and generation.is_provisional:
        followed(generation)
        return _launch(path, again=False)
    return {**told, "state": state, "build": build}


def followed(first: Generation, *, killed: bool = False) -> Generation:
    """The newest generation that is built behind a provisional one, once its build has ended.

    ``killed``: as one that nobody finishes.
    """
    ends = (State.ABANDONED,) if killed else (State.READY, State.FAILED)

    def newest() -> Generation:
        return Generation(max(first.path.parent.glob("[0-9]*")))

    wait_for(lambda: newest().behind == first and newest().state() in ends, "the next generation is built")
    return newest()


if __name__ == "__main__":
    told = [_launch(Path(name), again="again" in sys.argv[2:]) for name in json.load(sys.stdin)]
    sys.stdout.write(json.dumps(told))
