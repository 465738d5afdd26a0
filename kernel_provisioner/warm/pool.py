"""The fork servers of this process: one for each base, started when they are first of use."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

from ..errors import OverlayError
from ..system.forks import PerProcess
from ..system.memory import available_memory
from .fork_request import ForkRequest, WarmContext, WarmUnavailable
from .handle import ForkedKernel
from .imported import TorchWatch
from .server import ForkServer, Gone

ENOUGH_MEMORY = 2 * 1024**3
"""Bytes that have to be available for a fork server to be started unasked; it is a process with torch."""


BUILT_WITHIN = 0.7
"""Seconds that a start waits for its overlay. Importing torch takes longer; building what is known, less."""


class Pool:
    """Forks kernels. Any thread may ask; they take turns."""

    def __init__(self, memory: Callable[[], int | None] = available_memory) -> None:
        self._lock = threading.Lock()
        self._servers: dict[str, ForkServer] = {}
        self._refused: dict[str, str] = {}
        self._watch = TorchWatch()
        self._memory = memory

    def fork(
        self, warm_context: WarmContext, request: ForkRequest, *, idle: float, auto: bool
    ) -> ForkedKernel:
        """A running kernel; raises WarmUnavailable, with the reason, where this start has to be a normal one.

        Takes a hundredth of a second; where the overlay is being built, ``BUILT_WITHIN`` at most. Where there
        is no fork server yet, one is started for the next; with ``auto`` only once a kernel that
        ``start_with`` was told of has imported torch.
        """
        if sys.platform != "linux":
            raise WarmUnavailable("warm starts need Linux")
        if not hasattr(os, "memfd_create"):
            raise WarmUnavailable("the server's Python was built for a Linux without memfd_create")
        name = warm_context.base.manifest.id
        with self._lock:
            server = self._current(warm_context)
            pays = server is not None and server.answers
        warm_context.wait_for_overlay(BUILT_WITHIN if pays else 0.0)
        with self._lock:
            why = self._refused.get(name, "no kernel of this server has imported torch yet") if auto else ""
            if server := self._current(warm_context):
                try:
                    return server.fork(request)
                except Gone as error:
                    self._servers.pop(name).end()
                    why = str(error)
                except OSError as error:
                    raise WarmUnavailable(f"{type(error).__name__}: {error}") from error
            if not auto:
                why = self._start(warm_context, request, idle) or why or "its fork server is started now"
            raise WarmUnavailable(why)

    def start_with(self, pid: int, warm_context: WarmContext, request: ForkRequest, *, idle: float) -> None:
        """Start the base's fork server as soon as the kernel ``pid``, started normally, has imported torch.

        Not while memory is short.
        """
        name = warm_context.base.manifest.id

        def imported() -> bool:
            with self._lock:
                if self._current(warm_context):
                    return True
                short = self._short()
                if why := short or self._start(warm_context, request, idle):
                    self._refused[name] = why
                else:
                    self._refused.pop(name, None)
                return not short

        self._watch.add(pid, imported)

    def _current(self, warm_context: WarmContext) -> ForkServer | None:
        """The base's fork server; one for other settings, or for the base as it was, is let go."""
        name = warm_context.base.manifest.id
        server = self._servers.get(name)
        if server is not None and server.key != warm_context.key:
            self._servers.pop(name).end()
            return None
        return server

    def _start(self, warm_context: WarmContext, request: ForkRequest, idle: float) -> str:
        """Start the base's fork server; what is against it, or nothing."""
        try:
            self._servers[warm_context.base.manifest.id] = ForkServer(warm_context, request, idle=idle)
        except (OSError, OverlayError) as error:
            return f"a fork server could not be started: {error}"
        return ""

    def _short(self) -> str:
        """What there is of memory, where that is too little."""
        available = self._memory()
        if available is None or available >= ENOUGH_MEMORY:
            return ""
        there, wanted = (f"{size / 1024**3:.1f} GiB" for size in (available, ENOUGH_MEMORY))
        return f"memory is short: {there} of it is available, and a fork server is started from {wanted} on"


pool = PerProcess(Pool)
"""That of this process; it ends with it."""
