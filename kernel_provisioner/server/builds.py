"""Follow the builds of notebooks that are open somewhere, and tell their steps as events."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from ..overlay.store import Generation, State
from ..runs.builds import progress_of
from .events import BUILD, Events

_LOOK = 0.3  # seconds between two looks at a build


class Builds:
    """Follows each build once, however many clients ask for it."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._followed: dict[tuple[str, Path], asyncio.Task[None]] = {}

    def follow(self, notebook: str, overlay: Path) -> None:
        """From now on tell of the build in ``overlay``; on the server's loop."""
        key = (notebook, overlay)
        if key not in self._followed:
            task = asyncio.get_running_loop().create_task(self._follow(notebook, Generation(overlay)))
            self._followed[key] = task
            task.add_done_callback(lambda _: self._followed.pop(key, None))

    async def _follow(self, notebook: str, generation: Generation) -> None:
        loop = asyncio.get_running_loop()
        told = None
        while (state := await loop.run_in_executor(None, generation.state)) is State.BUILDING:
            step = await loop.run_in_executor(None, progress_of, generation)
            if step and step != told:
                told = step
                self._tell(notebook, "building", **step)
            await asyncio.sleep(_LOOK)
        self._tell(notebook, state.value)

    def _tell(self, notebook: str, state: str, **step: object) -> None:
        known = ("phase", "message", "done", "total", "bytes", "total_bytes")
        with contextlib.suppress(RuntimeError):
            fields = {name: step[name] for name in known if name in step}
            self._events.emit(BUILD, {"notebook": notebook, "state": state, **fields})
