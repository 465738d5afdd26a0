"""Run a command where a notebook's kernel runs: in its overlay, which is built where that is needed."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import NoReturn

from ..base import registry
from ..errors import BuildFailed, CommandFailed
from ..inkernel.shared import layout
from ..inkernel.shared.settle import settle, settle_added
from ..launch.acquire import hold_overlay
from ..overlay.environment import kernel_environment
from ..settings import Settings
from ..system import locks, processes
from .kernels import prospect
from .prebuild import Ahead, Tell


@dataclasses.dataclass(frozen=True)
class Inside:
    """A command that is ready to run in a notebook's environment, which ``held`` keeps in use."""

    command: Sequence[str]
    env: Mapping[str, str]
    held: Sequence[locks.Lock]

    def become(self) -> NoReturn:
        """Let the command take this process's place; raises CommandFailed where it cannot be started.

        Nothing of this process runs after that: a terminal has to be as the command expects it.
        """
        processes.become(self.command, env=self.env, keep_fds=[lock.fd for lock in self.held])


def prepare_inside(
    notebook: str, command: Sequence[str], settings: Settings, *, kernel: str, tell: Tell
) -> Inside:
    """Make the notebook's environment ready for ``command``; raises OverlayError.

    Who runs it consents, as who runs a cell does: packages may be built from source, and are moved in. The
    overlay is in use for as long as the command runs.
    """
    first = prospect(notebook, kernel, settings)
    outcome = Ahead(settings, first.kernel.name, source_builds=settings.policy.builds).build(first.path, tell)
    if outcome.error is not None:
        raise outcome.error
    ahead = prospect(notebook, first.kernel.name, settings)
    base, generation = ahead.outlook.base, ahead.outlook.generation
    if generation is None:
        raise BuildFailed(f"the overlay of {first.path.name} was removed just now", fix="try again")
    held = [lock for lock in (registry.hold(base), hold_overlay(generation)) if lock]
    settle(generation.path, generation.read(layout.OVERLAY))
    settle_added(generation.path)
    env = kernel_environment(os.environ, generation.path, settings.policy)
    if shutil.which(command[0], path=env["PATH"]) is None:
        raise CommandFailed(
            f"there is no command {command[0]} in the environment of {first.path.name}",
            why="neither in its packages, nor in the base, nor on PATH",
            fix=f"jupyter overlay add {notebook} PACKAGE  adds the package that has it",
        )
    return Inside(command, env, held)
