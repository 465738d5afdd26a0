"""Build a notebook's overlay ahead of its launch: what a launch does, without the kernel."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..builder.progress import WAITS_FOR_CELL
from ..builder.spec import BuildSpec
from ..builder.supply import compile_new
from ..errors import BuildFailed, OverlayError, ResolutionFailed
from ..inkernel.shared import flock, heartbeat, layout
from ..inkernel.shared.events import read_events
from ..inkernel.shared.info import VARIABLE, Info
from ..launch.acquire import start_builder
from ..launch.prepare import prepare
from ..model.request import Request
from ..notebook.find import FoundNotebook
from ..overlay import store
from ..settings import Settings
from .kernels import Prospect, prospect

_POLL = 0.1  # seconds between two looks at a build

Tell = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How far a notebook's overlay is, after all that could be done for it.

    ``state``: ready (it was there already), built, skipped (``why`` says what for) or failed
    (``error`` says of what). ``notices`` are what its first cell would say besides.
    """

    notebook: Path
    state: str
    base: str = ""
    extras: tuple[str, ...] = ()
    seconds: float = 0.0
    why: str = ""
    error: OverlayError | None = None
    notices: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The outcome as JSON values."""
        data = dataclasses.asdict(self)
        return {
            **data,
            "notebook": str(self.notebook),
            "extras": list(self.extras),
            "seconds": round(self.seconds, 3),
            "error": self.error.as_dict() if self.error else None,
            "notices": list(self.notices),
        }


class Ahead:
    """Builds the overlays of notebooks, on the kernel ``wanted`` or on each one's own; from any threads.

    ``source_builds``: packages without a wheel may be built, which runs their code. ``renew``: an overlay
    that is ready is built again, in a directory of its own.
    """

    def __init__(
        self, settings: Settings, wanted: str = "", *, source_builds: bool = False, renew: bool = False
    ) -> None:
        self._settings, self._wanted, self._source_builds = settings, wanted, source_builds
        self._renew = renew
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Wait for no build any more; one that no kernel waits for ends by itself, and is none."""
        self._stopped.set()

    def build(self, notebook: Path, tell: Tell) -> Outcome:
        """Make the overlay of ``notebook`` ready and wait for it; ``tell`` hears each step.

        Never raises for what is wrong with one notebook; other notebooks go on.
        """
        started = time.monotonic()
        try:
            ahead = prospect(notebook, self._wanted, self._settings)
            if not self._wanted and (why := _of_others(ahead)):
                return Outcome(notebook, "skipped", why=why)
            state = "ready" if ahead.outlook.state == "ready" and not self._renew else "built"
            base = self._built(ahead, tell)
        except OverlayError as error:
            return Outcome(notebook, "failed", error=error, seconds=time.monotonic() - started)
        extras = ahead.outlook.request.extras
        seconds = time.monotonic() - started
        return Outcome(notebook, state, base, extras, seconds, notices=ahead.notices)

    def _built(self, ahead: Prospect, tell: Tell) -> str:
        """Wait until the overlay is ready; the id of its base. Raises OverlayError."""
        try:
            return self._once(ahead, tell)
        except ResolutionFailed:
            # The builder may have found another base that holds the extras: a restart would go there.
            again = prospect(ahead.path, ahead.kernel.name, self._settings)
            if again.outlook.base.manifest.id == ahead.outlook.base.manifest.id:
                raise
            tell(f"going on with {again.outlook.base.manifest.id}")
            return self._once(again, tell)

    def _once(self, ahead: Prospect, tell: Tell) -> str:
        found, tag = FoundNotebook(ahead.path, how="command line"), ahead.kernel.tag
        launch = prepare(
            found,
            pinned=tag,
            settings=self._settings,
            environ=os.environ,
            kernel_id="",
            renew=self._renew,
            ahead=True,
        )
        if launch.failure:
            raise launch.failure
        info = Info(**json.loads(launch.env[VARIABLE]))
        generation = store.Generation(info.path)
        try:
            self._wait(generation, tell)
            spec = BuildSpec.read(
                generation, Path(self._settings.overlay_root), self._settings.index_template
            )
            with contextlib.suppress(OSError):  # of a store that others have filled
                compile_new(spec, wait=True)
        finally:
            for lock in launch.held:
                lock.release()
        return str(info.base["id"])

    def _wait(self, generation: store.Generation, tell: Tell) -> None:
        """Return once the overlay is ready; raises OverlayError where it will not be."""
        told, asked = "", False
        watch = heartbeat.Watch(generation.path)
        while (state := generation.state()) is not store.State.READY:
            if state is store.State.FAILED:
                raise OverlayError.from_dict(generation.read(layout.FAILED)["failure"])
            # Its builder has the lock's file open, also where locks mean nothing.
            idle = state is store.State.ABANDONED and not flock.holders(generation.path / layout.BUILDER_LOCK)
            event = (read_events(generation.path) or [{}])[-1]
            if idle:
                if generation.state() is not state:  # it was published, or failed, between two looks
                    continue
                if event.get("phase") != WAITS_FOR_CELL or asked:
                    raise BuildFailed(
                        "the builder of this notebook's overlay ended without a message",
                        why="it was killed, or the machine ran out of memory",
                        fix="run the command again to build it again",
                    )
                if not self._source_builds:
                    raise BuildFailed(
                        "a package must be built from source, which runs its code",
                        why=str(event.get("why", "")),
                        fix="--source-builds  allows it, where you trust these packages;"
                        " without it the notebook's first cell does",
                    )
                asked = True
                start_builder(generation, self._settings, "--cell-ran")
            elif watch.silence() > heartbeat.PATIENCE:
                heartbeat.end_builder(generation.path)
                raise BuildFailed(
                    "the process that builds this notebook's overlay gave no sign of life",
                    why="it was stopped, or its disk does not answer",
                    fix="run the command again to build it again",
                )
            if event and event["message"] != told:
                told = event["message"]
                tell(told)
            if self._stopped.wait(_POLL):
                raise BuildFailed("the build was stopped", fix="run the command again to build it again")


def _of_others(ahead: Prospect) -> str:
    """Why a notebook is none of ours: it asks for nothing, and names another kernel."""
    if ahead.named in ("", ahead.kernel.name) or ahead.outlook.request != Request():
        return ""
    return f"it declares no packages, and its kernel is {ahead.named}"
