"""What the builder tells the waiting cell: lines of JSON in a file that the kernel follows.

Each line: ``phase`` (wait, plan, fetch, install, verify, ready, failed, needs-cell), ``message`` for
people, and where it is known ``done`` and ``total`` (downloads and builds).
"""

from __future__ import annotations

import json
import re
from pathlib import Path

WAITS_FOR_CELL = "needs-cell"


class Progress:
    """Appends events to a generation's progress file; each line is whole when it can be seen."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._total = 0
        self._done = 0

    def say(self, phase: str, message: str, **fields: object) -> None:
        """Append one event."""
        line = json.dumps({"phase": phase, "message": message, **fields})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def hear(self, line: str) -> None:
        """A line of uv's own progress, retold where it says something.

        Counted are the downloads and builds that uv names; small packages come without a word.
        """
        if match := re.match(r"\s*(Downloading|Building|Built|Downloaded) (.+)", line):
            self._total += match.group(1) in ("Downloading", "Building")
            self._done += match.group(1) in ("Downloaded", "Built")
            self.say("fetch", f"{match.group(1)} {match.group(2)}", done=self._done, total=self._total)
        elif match := re.match(r"\s*Prepared (\d+ packages?)", line):
            self.say("install", f"Unpacked {match.group(1)}")
