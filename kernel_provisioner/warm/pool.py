"""The fork servers of this process: one for each base, started when they are first asked for."""

from __future__ import annotations

import os
import sys
import threading

from ..errors import OverlayError
from .handle import ForkedKernel
from .order import Ground, NotWarm, Order
from .server import ForkServer, Gone


class Pool:
    """Forks kernels. Any thread may ask; they take turns."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._servers: dict[str, ForkServer] = {}

    def fork(self, ground: Ground, order: Order, *, idle: float) -> ForkedKernel:
        """A running kernel; raises NotWarm, with the reason, where this start has to be a normal one.

        Takes a hundredth of a second. Where there is no fork server yet, one is started for the next.
        """
        if sys.platform != "linux":
            raise NotWarm("warm starts are made for Linux")
        if not hasattr(os, "memfd_create"):
            raise NotWarm("the server's Python was built for a Linux without memfd_create")
        name = ground.base.manifest.id
        with self._lock:
            server = self._servers.get(name)
            if server is not None and server.key != ground.key:
                self._servers.pop(name).end()
                server = None
            try:
                if server is not None:
                    return server.fork(order)
                why = "its fork server is started now"
            except Gone as error:
                self._servers.pop(name).end()
                why = str(error)
            except OSError as error:
                raise NotWarm(f"{type(error).__name__}: {error}") from error
            try:
                self._servers[name] = ForkServer(ground, order, idle=idle)
            except (OSError, OverlayError) as error:
                why = f"a fork server could not be started: {error}"
            raise NotWarm(why)


POOL = Pool()
"""That of this process; it ends with it."""
