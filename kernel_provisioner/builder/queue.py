"""Taking turns: so many builds at a time, and one that fetches for all who ask for the same.

Fifty notebooks that are opened at once would otherwise start fifty uv, which share one cache and
one index and end later than in turn. A turn is a numbered file that its builder holds locked; one
who dies gives its turn up. Turns are for builds of one user, whose overlays lie in one root.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ..system import locks
from .progress import Progress

DIRECTORY = ".turns"
_MOST = 8  # more gain nothing on one disk and one network
_LONGEST = 300.0  # seconds; then a build goes ahead: who is in front may hang, and say so to its own user
_POLL = 0.1  # seconds
_NUMBER = "number.lock"


def at_a_time() -> int:
    """How many builds of a kind run at once: one for each processor, within reason."""
    return max(2, min(_MOST, os.cpu_count() or 1))


@contextlib.contextmanager
def build_slot(root: Path, kind: str, progress: Progress) -> Iterator[None]:
    """Wait while ``at_a_time()`` builds of this ``kind`` that came earlier still run.

    Kinds do not wait for each other, so that what takes a second never waits for what takes an hour.
    """
    queue = root / DIRECTORY / kind
    queue.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locks.exclusive(queue / _NUMBER, timeout=_LONGEST):
        _clear_of_the_dead(queue)
        number = max(_numbers(queue), default=0) + 1
        mine = locks.exclusive(_file(queue, number))
    try:
        deadline, told = time.monotonic() + _LONGEST, 0
        while (ahead := _ahead(queue, number)) and time.monotonic() < deadline:
            if told != ahead:
                told = ahead
                progress.say("wait", f"Waiting for {ahead} other builds")
            time.sleep(_POLL)
        yield
    finally:
        mine.path.unlink(missing_ok=True)
        mine.release()


@contextlib.contextmanager
def single_flight(root: Path, known: Path, progress: Progress) -> Iterator[None]:
    """Wait while somebody else makes the file ``known`` and fetches what it names.

    Who did not have to wait is its maker, and lets others wait until its own build has ended: what
    it fetched then lies in uv's cache. One that fails or dies sets all of them free: they do not wait for
    each other then.
    """
    makers = root / DIRECTORY / "makers"
    makers.mkdir(mode=0o700, parents=True, exist_ok=True)
    _clear_of_the_dead(makers)
    path = makers / known.name
    made = None if known.exists() else locks.attempt(path)
    if made is None and locks.is_held(path, exclusively=True):
        progress.say("wait", "Waiting for another notebook that installs the same packages")
        deadline = time.monotonic() + _LONGEST
        while locks.is_held(path, exclusively=True) and time.monotonic() < deadline:
            time.sleep(_POLL)
    try:
        yield
    finally:
        if made:
            path.unlink(missing_ok=True)
            made.release()


def _ahead(queue: Path, number: int) -> int:
    """How many come before ``number``; none where it may begin."""
    earlier = sorted(other for other in _numbers(queue) if other < number)
    running = (other for other in earlier if locks.is_held(_file(queue, other), exclusively=True))
    enough = len(list(itertools.islice(running, at_a_time()))) == at_a_time()
    return len(earlier) if enough else 0


def _clear_of_the_dead(directory: Path) -> None:
    for entry in os.scandir(directory):
        if entry.name != _NUMBER and (lock := locks.attempt(Path(entry.path))):
            lock.path.unlink(missing_ok=True)
            lock.release()


def _numbers(queue: Path) -> list[int]:
    return [int(entry.name) for entry in os.scandir(queue) if entry.name.isdecimal()]


def _file(queue: Path, number: int) -> Path:
    return queue / f"{number:09d}"
