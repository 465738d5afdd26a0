"""Kernels without a frontend: a client straight on the sockets, and a kernel started as VS Code does."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient

from .ports import write_connection
from .server import JupyterServer
from .session import ANSWERS_WITHIN, Session
from .waiting import patient

ENDS_WITHIN = patient(60.0)
"""Seconds between asking a kernel to end and its end."""


def connection_file(server: JupyterServer, session: Session) -> Path:
    """Where the server wrote how to reach the session's kernel."""
    return server.log.parent / f"kernel-{session.kernel_id}.json"


@contextlib.contextmanager
def connected(file: Path) -> Iterator[BlockingKernelClient]:
    """A client of the kernel that a connection file tells of, once it answers."""
    client = unconnected(file)
    client.start_channels(hb=False)  # a kernel on a busy machine that misses a beat is not dead
    try:
        client.wait_for_ready(timeout=ANSWERS_WITHIN)
        yield client
    finally:
        client.stop_channels()


def unconnected(file: Path) -> BlockingKernelClient:
    """A client that knows the kernel of a connection file and has not spoken to it yet."""
    client = BlockingKernelClient(connection_file=str(file))
    client.load_connection_file()
    return client


@contextlib.contextmanager
def launched(
    kernel_spec: Path, notebook: Path, env: Mapping[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The kernel of ``kernel_spec`` (its directory), started by its own command, and its connection file.

    That is what clients do that know no provisioners. Killed at the end where it still runs.
    """
    file = notebook.with_suffix(".connection.json")
    write_connection(file)
    spec = json.loads((kernel_spec / "kernel.json").read_bytes())
    command = [word.replace("{connection_file}", str(file)) for word in spec["argv"]]
    told = {**env, "KERNEL_NOTEBOOK_PATH": str(notebook)}
    process = subprocess.Popen(command, cwd=notebook.parent, env=told, stdin=subprocess.DEVNULL)
    try:
        yield process, file
    finally:
        process.kill()
        process.wait(ENDS_WITHIN)


def ask(
    client: BlockingKernelClient, channel: str, kind: str, content: dict[str, Any], subshell: str = ""
) -> dict[str, Any]:
    """Send a request on ``channel``, to a subshell where one is given, and return its reply's content."""
    request = message(client, kind, content, subshell)
    getattr(client, f"{channel}_channel").send(request)
    return reply(client, channel, request)


def message(
    client: BlockingKernelClient, kind: str, content: dict[str, Any], subshell: str = ""
) -> dict[str, Any]:
    """A request that is ready to be sent."""
    request: dict[str, Any] = client.session.msg(kind, content)
    if subshell:
        request["header"]["subshell_id"] = subshell
    return request


def reply(client: BlockingKernelClient, channel: str, request: dict[str, Any]) -> dict[str, Any]:
    """The content of the reply to ``request``; replies to others are dropped."""
    deadline = time.monotonic() + ANSWERS_WITHIN
    while True:
        got = getattr(client, f"get_{channel}_msg")(timeout=max(0.0, deadline - time.monotonic()))
        if got["parent_header"].get("msg_id") == request["header"]["msg_id"]:
            content: dict[str, Any] = got["content"]
            return content


class Debugger:
    """Speaks the debug adapter protocol on a kernel's control channel, as JupyterLab does."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self._client = client
        self._asked = 0

    def __call__(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a command and return the adapter's response."""
        self._asked += 1
        content = {"type": "request", "seq": self._asked, "command": command, "arguments": arguments}
        return ask(self._client, "control", "debug_request", content)

    def set_breakpoint(self, code: str, line: int) -> None:
        """Attach, and set a breakpoint in a cell that is about to be run."""
        assert self("initialize", clientID="test", adapterID="", pathFormat="path")["success"]
        assert self("attach")["success"]
        source = {"path": self("dumpCell", code=code)["body"]["sourcePath"]}
        told = self("setBreakpoints", breakpoints=[{"line": line}], source=source, sourceModified=False)
        assert told["body"]["breakpoints"][0]["verified"]
        assert self("configurationDone")["success"]
