"""What the builder tells the waiting cell: lines of JSON in a file that the kernel follows.

Each line: ``phase`` (plan, fetch, install, verify, ready, failed, needs-cell), ``message`` for
people, and where it is known ``done`` and ``total`` (packages).
"""

from __future__ import annotations

import json
import re
from pathlib import Path


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

    def expect(self, total: int) -> None:
        """How many packages are about to be installed."""
        self._total = total

    def hear(self, line: str) -> None:
        """A line of uv's own progress, retold where it says something."""
        if match := re.match(r"\s*(Downloading|Building|Built|Downloaded) (.+)", line):
            self._done += match.group(1) == "Downloaded"
            self.say("fetch", f"{match.group(1)} {match.group(2)}", done=self._done, total=self._total)
        elif match := re.match(r"\s*Prepared (\d+) packages?", line):
            self.say("install", f"Unpacked {match.group(1)} packages", done=self._total, total=self._total)
