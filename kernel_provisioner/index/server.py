"""The smallest web server there is: pages for programs on this machine, on the loopback address.

In place of ``http.server``: importing that, with the mail parser and TLS that it brings along, takes as
long as a whole resolution, and a cell waits for it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

_PATIENCE = 20.0  # seconds for a request to come in, and for its answer to be taken
# Connections that have not said what they want. One uv opens fifty, two of them may ask at a time, and on a
# busy machine all of these are open before the first has said anything.
_MOST = 256
_AGAIN = 0.05  # seconds until the next try where the machine is short of descriptors
_LONGEST = 65536  # bytes of a request's head


class Loopback:
    """Answers GET requests with HTML; use with ``with``.

    ``answer`` takes a path (``/a/b``) and returns status and page; called on any thread.
    """

    def __init__(self, answer: Callable[[str], tuple[int, str]]) -> None:
        self._answer = answer
        self._closed = threading.Event()
        self._silent: dict[socket.socket, None] = {}  # in the order in which they came
        self._lock = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    def start(self) -> None:
        """Answer from now on."""
        threading.Thread(target=self._serve, name="loopback", daemon=True).start()

    def close(self) -> None:
        """Take no more requests."""
        self._closed.set()
        with contextlib.suppress(OSError):  # ENOTCONN where the system does not know this of a listener
            self._socket.shutdown(socket.SHUT_RDWR)  # or accept() would go on waiting
        self._socket.close()

    def _serve(self) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed; or too many files are open, or whoever called has hung up
                self._closed.wait(_AGAIN)
                continue
            with self._lock:
                self._silent[connection] = None
                oldest = next(iter(self._silent)) if len(self._silent) > _MOST else None
                if oldest is not None:  # anybody on this machine can connect, and hold descriptors
                    self._silent.pop(oldest)
                    with contextlib.suppress(OSError):
                        oldest.shutdown(socket.SHUT_RDWR)  # its thread closes it
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _heard(self, connection: socket.socket) -> None:
        with self._lock:
            self._silent.pop(connection, None)

    def _talk(self, connection: socket.socket) -> None:
        with (
            connection,
            contextlib.ExitStack() as heard,
            contextlib.suppress(OSError),
        ):  # who asked may be gone
            heard.callback(self._heard, connection)
            connection.settimeout(_PATIENCE)
            head = b""
            while b"\r\n\r\n" not in head:
                more = connection.recv(_LONGEST)
                if not more or len(head) > _LONGEST:
                    return
                head += more
            self._heard(connection)
            method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
            status, page = self._answer(rest.partition(" ")[0]) if method == "GET" else (405, "")
            body = page.encode()
            lines = (
                f"HTTP/1.0 {status} -",
                "Content-Type: text/html; charset=utf-8",
                f"Content-Length: {len(body)}",
                "Cache-Control: no-store",  # uv would keep it on disk, with the passwords in its links
            )
            connection.sendall("\r\n".join((*lines, "", "")).encode() + body)
