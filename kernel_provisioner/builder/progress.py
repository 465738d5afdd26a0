"""What the builder tells the waiting cell: events in a file that the kernel follows, see ``read_events``."""

from __future__ import annotations

import json
from pathlib import Path

from ..uv.messages import step_of

WAITS_FOR_CELL = "needs-cell"


class Progress:
    """Appends events to a generation's progress file; each line is whole when it can be seen."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._total = 0
        self._done = 0
        self._sizes: dict[str, int] = {}
        self._come: set[str] = set()

    def say(self, phase: str, message: str, **fields: object) -> None:
        """Append one event."""
        line = json.dumps({"phase": phase, "message": message, **fields})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def hear(self, line: str) -> None:
        """A line of uv's own progress, retold where it says something.

        Counted are the downloads and builds that uv names; small packages come without a word.
        """
        step = step_of(line)
        if step is None:
            return
        if step.verb == "Prepared":
            self.say("install", f"Unpacked {step.what}")
            return
        self._total += step.begins
        self._done += step.ends
        if step.begins and step.bytes:
            self._sizes[step.name] = step.bytes
        if step.ends:
            self._come.add(step.name)
        sizes = {}
        if total := sum(self._sizes.values()):
            come = sum(size for name, size in self._sizes.items() if name in self._come)
            sizes = {"bytes": come, "total_bytes": total}
        self.say("fetch", f"{step.verb} {step.what}", done=self._done, total=self._total, **sizes)
