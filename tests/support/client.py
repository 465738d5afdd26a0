"""A client straight on a running kernel's sockets, for what goes beyond a frontend's websocket."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient

from .server import JupyterServer
from .session import ANSWERS_WITHIN, Session


@contextlib.contextmanager
def direct_client(server: JupyterServer, session: Session) -> Iterator[BlockingKernelClient]:
    """Connected to the kernel of ``session`` by its connection file, beside the session's own socket."""
    client = BlockingKernelClient(connection_file=str(connection_file(server, session)))
    client.load_connection_file()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=ANSWERS_WITHIN)
        yield client
    finally:
        client.stop_channels()


def connection_file(server: JupyterServer, session: Session) -> Any:
    """Where the server wrote how to reach the session's kernel."""
    return server.log.parent / f"kernel-{session.kernel_id}.json"


def connection(server: JupyterServer, session: Session) -> dict[str, Any]:
    """What the connection file says."""
    said: dict[str, Any] = json.loads(connection_file(server, session).read_text())
    return said
