"""How far the making of a base is, from what pip and uv print."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from ..uv.messages import step_of


class Progress(Protocol):
    """Hears each step; ``done`` of ``total`` packages where that is known, else 0 of 0."""

    def __call__(self, message: str, done: float = 0, total: int = 0, /) -> None:
        """Hear one step."""


def counting(progress: Progress, total: int) -> Callable[[str], None]:
    """A listener to the output lines of ``uv pip install`` or ``pip install --progress-bar raw``.

    uv tells of the larger files only, as they begin and end; pip tells of each, and how many
    bytes of it are there.
    """
    done, current = 0.0, ""

    def hear(line: str) -> None:
        nonlocal done, current
        if match := re.match(r"\s*(?:Collecting|Processing) (\S+)", line):
            done = min(float(total), int(done) + (1.0 if current else 0.0))
            current = match.group(1).rpartition("/")[2].split("==")[0]
            progress(f"Fetching {current}", done, total)
        elif (match := re.match(r"Progress (\d+) of (\d+)", line)) and int(match.group(2)):
            share = int(match.group(1)) / int(match.group(2))
            progress(f"Fetching {current}", int(done) + min(share, 0.99), total)
        elif (step := step_of(line)) and (step.begins or step.ends):
            done += step.ends
            progress(f"{step.verb} {step.what}", min(done, total), total)
        elif step or line.lstrip().startswith("Installing collected"):
            done = float(total)
            progress("Unpacking", done, total)

    return hear
