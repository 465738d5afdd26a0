"""A kernel's ports, kept for it until it listens there.

Between the moment when a free port is chosen and the one when a kernel listens on it, a second or more later,
the system can give that port to any other process: the kernel then ends with "Address already in use", and
Jupyter's restarts, which take the same port again, with it. On Linux a port that is bound with SO_REUSEADDR,
and not listened on, is given to nobody who asks for any; whoever names it can bind it with the same option,
as ZeroMQ does, and listen (https://man7.org/linux/man-pages/man7/socket.7.html).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import time
from collections.abc import Callable, Sequence

from jupyter_client.connect import port_names
from jupyter_client.manager import KernelManager

_LOOK = 0.005  # seconds between the first looks whether somebody listens
_ANSWERS_WITHIN = 0.1  # seconds for the system's own answer


class HeldPorts:
    """TCP ports of an address that nobody else is given until ``close``; ``numbers`` are in order."""

    def __init__(self, sockets: Sequence[socket.socket] = ()) -> None:
        self._sockets = [*sockets]
        self.numbers = [one.getsockname()[1] for one in sockets]

    async def until_listening(self, within: float, ended: Callable[[], bool]) -> bool:
        """Whether somebody listens on all of them: true as soon as they do.

        False after so many seconds, and once who should have ``ended``.
        """
        began = time.monotonic()
        waiting = [one.getsockname() for one in self._sockets]
        while waiting:
            passed = time.monotonic() - began
            if _is_listened_on(waiting[-1]):
                waiting.pop()
            elif passed > within or ended():
                return False
            else:
                await asyncio.sleep(max(_LOOK, passed / 20))
        return True

    def close(self) -> None:
        """Hold them no more."""
        while self._sockets:
            self._sockets.pop().close()


def hold(manager: KernelManager | None, *, again: bool) -> HeldPorts:
    """Choose the ports of a manager's kernel, as Jupyter does, and keep them; none where that cannot be.

    ``again``: those of its last life, but for what somebody else has taken meanwhile.
    """
    if manager is None or not manager.cache_ports or not _can_be_held():  # or it is not reached by TCP
        return HeldPorts()
    before = [getattr(manager, name) if again else 0 for name in port_names]
    with contextlib.ExitStack() as opened:
        try:
            sockets = [opened.enter_context(_bound(manager.ip, port)) for port in before]
        except OSError:  # the address is none of this machine's, or there are no more sockets
            return HeldPorts()
        opened.pop_all()
    held = HeldPorts(sockets)
    if held.numbers != before:
        manager.cleanup_connection_file()
        for name, port in zip(port_names, held.numbers, strict=True):
            setattr(manager, name, port)
    return held


def _is_listened_on(address: tuple[str, int]) -> bool:
    with socket.socket() as one:
        one.settimeout(_ANSWERS_WITHIN)
        return one.connect_ex(address) == 0


def _bound(address: str, port: int) -> socket.socket:
    """A socket that is bound to a port, or to any where that is 0 or taken."""
    if port:
        with contextlib.suppress(OSError):
            return _bind(address, port)
    return _bind(address, 0)


def _bind(address: str, port: int) -> socket.socket:
    one = socket.socket()
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((address, port))
    except OSError:
        one.close()
        raise
    return one


@functools.cache
def _can_be_held() -> bool:
    """Whether another socket can listen on a port that is held: not every system is like Linux."""
    with contextlib.suppress(OSError), _bind("127.0.0.1", 0) as held, _bind(*held.getsockname()) as other:
        other.listen()
        return True
    return False
