"""Long work that a request starts and does not wait for: it can be asked about, and cancelled."""

from __future__ import annotations

import dataclasses
import secrets
import threading
from collections.abc import Callable
from typing import Any

from ..errors import BuildFailed, OverlayError
from .events import TASK, Events

MOST_RUNNING = 4
"""Tasks at a time; on two processors more only wait for each other."""

_KEPT = 64  # tasks that have ended, for whoever asks late

Step = Callable[..., None]
"""Hears ``message``, and how much is ``done`` of a ``total`` where that is known."""


class TooManyTasks(Exception):
    """As many tasks run as may."""


class _Cancelled(BaseException):
    """Raised in a task's thread; no handler on the way takes it for a fault."""


@dataclasses.dataclass
class Task:
    """One piece of work. ``state`` is running, done, failed or cancelled."""

    id: str
    kind: str
    state: str = "running"
    message: str = ""
    done: float = 0
    total: float = 0
    result: Any = None
    error: dict[str, str] | None = None
    cancelled: threading.Event = dataclasses.field(default_factory=threading.Event)

    def as_dict(self) -> dict[str, Any]:
        """The task as JSON."""
        names = ("id", "kind", "state", "message", "done", "total", "result", "error")
        return {name: getattr(self, name) for name in names}


class Tasks:
    """The tasks of one server, which end with it: it waits for none, and what they started ends too."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._tasks: dict[str, Task] = {}
        self._lock = threading.Lock()

    def start(self, kind: str, work: Callable[[Step], Any]) -> Task:
        """Begin ``work``, which is handed a function to tell its steps to; raises TooManyTasks."""
        with self._lock:
            running = [task for task in self._tasks.values() if task.state == "running"]
            if len(running) >= MOST_RUNNING:
                raise TooManyTasks
            ended = [task.id for task in self._tasks.values() if task.state != "running"]
            for old in ended[: max(0, len(ended) - _KEPT)]:
                del self._tasks[old]
            task = Task(secrets.token_hex(8), kind)
            self._tasks[task.id] = task
        # An executor's threads are joined before Python ends, however long the index takes to answer.
        threading.Thread(target=self._run, args=(task, work), name=f"{kind}-task", daemon=True).start()
        return task

    def get(self, name: str) -> Task | None:
        """The task of an id; None where there is none, or it ended long ago."""
        return self._tasks.get(name)

    def cancel(self, task: Task) -> None:
        """Let a task end at its next step; what it comes to is not kept."""
        task.cancelled.set()
        if task.state == "running":
            self._end(task, "cancelled")

    def _run(self, task: Task, work: Callable[[Step], Any]) -> None:
        def step(message: str, done: float = 0, total: float = 0) -> None:
            if task.cancelled.is_set():
                raise _Cancelled
            task.message, task.done, task.total = message, done, total
            self._tell(task)

        try:
            step("")
            result = work(step)
        except _Cancelled:
            self._end(task, "cancelled")
        except OverlayError as error:
            self._end(task, "failed", error=error.as_dict())
        except Exception as error:  # the edge: whatever failed is told to who asks
            what = f"{task.kind} failed"
            told = BuildFailed(what, why=f"{type(error).__name__}: {error}", fix="jupyter overlay doctor")
            self._end(task, "failed", error=told.as_dict())
        else:
            self._end(task, "done", result=result)

    def _end(
        self, task: Task, state: str, *, result: Any = None, error: dict[str, str] | None = None
    ) -> None:
        with self._lock:
            if task.state != "running":  # it was cancelled meanwhile
                return
            task.result, task.error, task.state = result, error, state
        self._tell(task)

    def _tell(self, task: Task) -> None:
        names = ("id", "kind", "state", "message", "done", "total")
        self._events.emit(TASK, {name: getattr(task, name) for name in names})
