"""A real server with our extension, asked over HTTP as any client can, well-behaved or not."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .server import JupyterServer, jupyter_server
from .waiting import patient, wait_for

REPOSITORY = Path(__file__).parents[2]
ANSWERS_WITHIN = patient(60)
"""Seconds for an answer, and for a task to end."""


class Answer(NamedTuple):
    """What came back: ``data`` is the body's JSON, None where it is none."""

    status: int
    data: Any
    headers: Mapping[str, str]


class Rest:
    """Asks a server; with its token unless told otherwise."""

    def __init__(self, server: JupyterServer) -> None:
        self.server = server
        parts = urllib.parse.urlsplit(server.url)
        self._host, self._base = parts.netloc, parts.path

    @property
    def root(self) -> Path:
        """The server's root directory."""
        return self.server.root

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        raw: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request; ``path`` goes below ``torch-overlay/`` as it is. ``headers`` replace the token."""
        data = raw or (b"" if body is None else json.dumps(body).encode())
        connection = http.client.HTTPConnection(self._host, timeout=ANSWERS_WITHIN)
        with contextlib.closing(connection):
            told = {"Authorization": f"token {self.server.token}"} if headers is None else dict(headers)
            connection.request(method, f"{self._base}torch-overlay/{path}", data or None, told)
            answer = connection.getresponse()
            text = answer.read()
        with contextlib.suppress(ValueError):
            return Answer(answer.status, json.loads(text), dict(answer.headers))
        return Answer(answer.status, None, dict(answer.headers))

    def environment(self, path: str, kernel: str = "torch", **more: Any) -> Any:
        """How a notebook's environment stands; fails where the server refuses to tell."""
        answer = self.ask("POST", "environment", {"path": path, "kernel": kernel, **more})
        assert answer.status == 200, answer
        return answer.data

    def task(self, path: str, body: Mapping[str, Any]) -> Any:
        """Begin long work, and wait for its end; the task as it is then."""
        answer = self.ask("POST", path, body)
        assert answer.status == 202, answer
        place = answer.headers["Location"].rpartition("torch-overlay/")[2]
        seen: list[Any] = []

        def ended() -> bool:
            seen.append(self.ask("GET", place).data)
            return bool(seen[-1]["state"] != "running")

        wait_for(ended, f"the task {path} to end", within=ANSWERS_WITHIN)
        return seen[-1]


@contextlib.contextmanager
def serve_rest(root: Path, env: Mapping[str, str], options: Sequence[str] = ()) -> Iterator[Rest]:
    """A server on ``root`` with the extension of this tree, and the kernel that comes with it."""
    share = REPOSITORY / "share"
    places = [*filter(None, [env.get("JUPYTER_PATH")]), str(share / "jupyter")]
    told = {**env, "JUPYTER_PATH": os.pathsep.join(places), "JUPYTER_CONFIG_PATH": str(share / "etc")}
    with jupyter_server(root, told, options=options) as server:
        yield Rest(server)
