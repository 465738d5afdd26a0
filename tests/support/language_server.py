"""A language server that is asked as JupyterLab asks it: on its own, or through jupyter-lsp's WebSocket."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import websocket

from .server import JupyterServer
from .waiting import WITHIN


class LanguageServer:
    """A running server, which is sent bodies of JSON-RPC and whose bodies are received."""

    def __init__(
        self, send: Callable[[bytes], object], receive: Callable[[], str | bytes], settings: Mapping[str, Any]
    ) -> None:
        self._send_body, self._receive = send, receive
        self._asked = 0
        self._ask("initialize", {"processId": None, "rootUri": None, "capabilities": {}})
        self._send({"method": "initialized", "params": {}})
        self._send({"method": "workspace/didChangeConfiguration", "params": {"settings": settings}})

    def completions(self, text: str) -> set[str]:
        """The names that are offered at the end of a Python text."""
        uri = Path(f"/notebook-{self._asked}.py").as_uri()
        document = {"uri": uri, "languageId": "python", "version": 1, "text": text}
        self._send({"method": "textDocument/didOpen", "params": {"textDocument": document}})
        lines = text.split("\n")
        place = {"line": len(lines) - 1, "character": len(lines[-1])}
        told = self._ask("textDocument/completion", {"textDocument": {"uri": uri}, "position": place})
        items = told.get("items", []) if isinstance(told, dict) else told or []
        return {item["label"].partition("(")[0] for item in items}

    def _ask(self, method: str, params: Mapping[str, Any]) -> Any:
        self._asked += 1
        self._send({"id": self._asked, "method": method, "params": params})
        while True:
            answer = json.loads(self._receive())
            if answer.get("id") == self._asked and "method" not in answer:
                return answer["result"]

    def _send(self, message: Mapping[str, Any]) -> None:
        self._send_body(json.dumps({"jsonrpc": "2.0", **message}).encode())


@contextlib.contextmanager
def language_server(command: Sequence[str], settings: Mapping[str, Any]) -> Iterator[LanguageServer]:
    """A server that has been told these settings; ended afterwards."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        into, out = process.stdin, process.stdout

        def send(body: bytes) -> None:
            into.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
            into.flush()

        try:
            yield LanguageServer(send, lambda: _body(out), settings)
        finally:
            process.kill()


@contextlib.contextmanager
def in_jupyterlab(
    server: JupyterServer, name: str, configuration: Mapping[str, Any]
) -> Iterator[LanguageServer]:
    """The server of this name that jupyter-lsp starts, with what JupyterLab's settings say to it.

    ``configuration`` has keys with dots, which JupyterLab expands.
    """
    settings: dict[str, Any] = {}
    for key, value in configuration.items():
        *parents, last = key.split(".")
        place = settings
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    address = f"{server.url.replace('http', 'ws', 1)}lsp/ws/{name}"
    header = [f"Authorization: token {server.token}"]
    with contextlib.closing(websocket.create_connection(address, timeout=WITHIN, header=header)) as channel:
        yield LanguageServer(channel.send, channel.recv, settings)


def _body(out: IO[bytes]) -> bytes:
    length = 0
    while header := out.readline().strip():
        name, _, value = header.partition(b":")
        length = int(value) if name == b"Content-Length" else length
    return out.read(length)
