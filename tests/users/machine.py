"""A machine that an admin has set up for several people, and what one of them gets there."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from tests.support.index import LocalIndex
from tests.support.notebooks import write_notebook
from tests.support.users import (
    User,
)

EXTRA = {"accelerator": "cpu", "extras": ["shared-extra"]}

LAUNCH = """\
import json, os, sys, time
from pathlib import Path
from kernel_provisioner.inkernel.shared.info import VARIABLE
from kernel_provisioner.notebook.find import FoundNotebook
from kernel_provisioner.inkernel.shared.layout import FAILED
from kernel_provisioner.overlay.store import Generation, State
from kernel_provisioner.launch.prepare import prepare
from kernel_provisioner.settings import load_settings

found = FoundNotebook(Path(sys.argv[1]), how="test")
launch = prepare(found, pinned="", settings=load_settings, environ=os.environ, kernel_id="k")
told = json.loads(launch.env[VARIABLE])
if told["overlay"]:
    generation = Generation(Path(told["overlay"]))
    while generation.state() is State.BUILDING:
        time.sleep(0.05)
    told["state"] = generation.state().value
    if told["state"] == "failed":
        told["failure"] = generation.read(FAILED)["failure"]
print(json.dumps(told))
"""
"""What a launch comes to, once its build has ended; no kernel is started."""


@dataclasses.dataclass(frozen=True)
class Machine:
    """A machine whose admin has installed this program and one base for everybody."""

    place: Path
    prefix: Path
    base: Path
    index: LocalIndex

    @property
    def python(self) -> Path:
        """The Python that everybody's Jupyter runs in."""
        return self.prefix / "bin/python"

    def launch(self, user: User, notebook: Path, umask: int = 0o022, **more: str) -> dict[str, Any]:
        """What ``user`` gets who opens ``notebook``."""
        env = user.environment(self.index, **more)
        done = user.run(self.python, "-c", LAUNCH, notebook, env=env, umask=umask)
        told: dict[str, Any] = json.loads(done.stdout)
        return told


def notebook_of(user: User, name: str, torch_env: object = EXTRA) -> Path:
    """A notebook in the user's home."""
    path = write_notebook(user.home / f"{name}.ipynb", torch_env=torch_env)
    user.give(path)
    return path
