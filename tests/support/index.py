"""A package index on this machine, laid out like PyTorch's, that keeps a record and can misbehave.

``/whl/<tag>/<project>/`` are the per-tag pages, ``/simple/<project>/`` is the default index
(PEP 503, with PEP 658 metadata files unless switched off). Every request is recorded, so that
a test can say what was asked for, and what was not.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import html
import http.server
import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from .torch_wheels import TorchBuild
from .wheels import normalised, read_metadata

Trouble = Literal["wait", "hang", "trickle", "cut-short", "redirect-loop"] | int
"""What a path does instead of answering: a word below, or an HTTP status."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """One request that reached the index. ``path`` is decoded, without the query."""

    method: str
    path: str
    user: str = ""


class LocalIndex:
    """What the server serves and what it was asked; made by ``serve_index``.

    ``upstream`` is the address of a real default index: projects that were never published
    here are redirected to it. Without it they are 404. With ``json`` the default index answers as
    PyPI does (PEP 691), which tells how large the files are, and when they were ``uploaded``.
    """

    def __init__(self, *, upstream: str = "", core_metadata: bool = True) -> None:
        self.upstream = upstream
        self.core_metadata = core_metadata
        self.json = False
        self.shelf = ""  # what the addresses of files begin with
        self.pace = 1.0  # seconds between two bytes of a trickle
        self.credentials: tuple[str, str] | None = None
        self.asked: list[Asked] = []
        self.files: dict[str, dict[str, Path]] = {}
        self.troubles: dict[str, Trouble] = {}
        self.declared: dict[str, bytes] = {}
        self.uploaded: dict[str, str] = {}
        self.onlooker: Callable[[], None] | None = None  # called before anything is answered
        self.behaving = threading.Event()
        self.closing = threading.Event()
        self.port = 0

    @property
    def address(self) -> str:
        """Where the server listens, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def template(self) -> str:
        """The per-tag index address with ``{tag}`` in it."""
        return f"{self.address}/whl/{{tag}}"

    @property
    def default(self) -> str:
        """The default index, in the place of PyPI."""
        return f"{self.address}/simple"

    def publish(self, *files: Path, tag: str = "") -> None:
        """Offer wheels or sdists on the index of ``tag``, or on the default index."""
        for file in files:
            project = normalised(file.name.split("-")[0])
            folder = f"/whl/{tag}" if tag else "/simple"
            self.files.setdefault(f"{folder}/{project}/", {})[file.name] = file

    def publish_torch(self, tag: str, build: TorchBuild) -> None:
        """Offer a fake torch as PyTorch does: itself on the index of ``tag``, the rest on the default."""
        self.publish(build.torch, *build.ecosystem, tag=tag)
        self.publish(*build.ordinary)

    def misbehave(self, path: str, how: Trouble) -> None:
        """Answer every path that starts with ``path`` with ``how``, until ``behave`` is called.

        ``wait`` answers properly, but only after ``behave`` was called, ``hang`` accepts and never
        answers, ``trickle`` sends a byte a second (``pace``), ``cut-short``
        promises the whole and closes half-way, ``redirect-loop`` points at itself.
        """
        self.behaving.clear()
        self.troubles[path] = how

    def declare(self, name: str, content: bytes) -> None:
        """From now on say of the file ``name`` that its hash is that of ``content``."""
        self.declared[name] = content

    def behave(self) -> None:
        """Answer everything properly again."""
        self.troubles.clear()
        self.behaving.set()

    def require(self, user: str, password: str) -> None:
        """From now on answer 401 to whoever does not bring these credentials."""
        self.credentials = (user, password)

    def asked_for(self, project: str) -> list[Asked]:
        """The requests for the pages and files of ``project``, oldest first."""
        page = f"/{normalised(project)}/"
        file = f"/{normalised(project).replace('-', '_')}-"
        return [one for one in self.asked if page in one.path or file in one.path]

    def trouble_at(self, path: str) -> Trouble | None:
        """How ``path`` misbehaves, the longest matching prefix first; None where it does not.

        The path of a wheel means that file alone, not its metadata beside it.
        """
        fitting = [one for one in self.troubles if path.startswith(one) and path != f"{one}.metadata"]
        return self.troubles[max(fitting, key=len)] if fitting else None

    def page(self, path: str) -> str | None:
        """The PEP 503 page at ``path``; None where nothing was published there."""
        if path in self.files:
            return _page(self._link(path, name, file) for name, file in sorted(self.files[path].items()))
        projects = sorted({page[len(path) :].split("/")[0] for page in self.files if page.startswith(path)})
        if path.count("/") >= 2 and projects:
            return _page(f'<a href="{name}/">{name}</a>' for name in projects)
        return None

    def listing(self, path: str) -> bytes:
        """The PEP 691 page at ``path``; empty where nothing was published there."""
        files = [
            {
                "filename": name,
                "url": f"{self.shelf}{path.rstrip('/').rpartition('/')[0]}/{name}",
                "hashes": {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()},
                "size": file.stat().st_size,
                **({"core-metadata": True} if self.core_metadata and name.endswith(".whl") else {}),
                **({"upload-time": self.uploaded[name]} if name in self.uploaded else {}),
            }
            for name, file in sorted(self.files.get(path, {}).items())
        ]
        page = {"meta": {"api-version": "1.1"}, "name": path.split("/")[-2], "files": files}
        return json.dumps(page).encode() if files else b""

    def file(self, path: str) -> bytes | None:
        """The bytes of a published file, or of its metadata; None where there is no such file."""
        if not path.startswith(f"{self.shelf}/"):
            return None
        folder, _, name = path.removeprefix(self.shelf).rpartition("/")
        wanted = name.removesuffix(".metadata")
        for page, files in self.files.items():
            if page.startswith(f"{folder}/") and wanted in files:
                return read_metadata(files[wanted]) if name != wanted else files[wanted].read_bytes()
        return None

    def _link(self, page: str, name: str, file: Path) -> str:
        folder = page.rstrip("/").rpartition("/")[0]
        address = f"{self.shelf}{urllib.parse.quote(folder)}/{urllib.parse.quote(name)}"
        marks = ""
        if self.core_metadata and name.endswith(".whl"):
            digest = f"sha256={hashlib.sha256(read_metadata(file)).hexdigest()}"
            marks = f' data-dist-info-metadata="{digest}" data-core-metadata="{digest}"'
        digest = hashlib.sha256(self.declared.get(name) or file.read_bytes()).hexdigest()
        return f'<a href="{address}#sha256={digest}"{marks}>{html.escape(name)}</a>'


@contextlib.contextmanager
def serve_index(*, upstream: str = "", core_metadata: bool = True) -> Iterator[LocalIndex]:
    """Serve an empty index on a free port of 127.0.0.1 for as long as the context lasts."""
    index = LocalIndex(upstream=upstream, core_metadata=core_metadata)
    handler = type("Handler", (_Handler,), {"index": index})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        index.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield index
        finally:
            index.closing.set()
            index.behaving.set()
            server.shutdown()
            thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers from ``index``; one thread a connection."""

    index: LocalIndex
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name it has above)
        """Keep the test's output clean; the record is ``index.asked``."""

    def _answer(self, *, with_body: bool) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        user, password = _credentials(self.headers.get("Authorization", ""))
        self.index.asked.append(Asked(self.command, path, user))
        if self.index.onlooker:
            self.index.onlooker()
        trouble = self.index.trouble_at(path)
        if trouble == "wait":
            self.index.behaving.wait()
            trouble = None
        listing = self.index.json and path.startswith("/simple/") and self.index.listing(path)
        kind = "application/vnd.pypi.simple.v1+json" if listing else _content_type(path)
        body = listing or self.index.file(path) or (self.index.page(path) or "").encode()
        if trouble is not None:
            self._misbehave(trouble, body, kind)
        elif self.index.credentials not in (None, (user, password)):
            self._send(401, headers={"WWW-Authenticate": 'Basic realm="index"'})
        elif body:
            self._send(200, body, with_body=with_body, headers={"Content-Type": kind})
        elif self.index.upstream and path.startswith("/simple/"):
            project = path.removeprefix("/simple/")
            self._send(307, headers={"Location": f"{self.index.upstream.rstrip('/')}/{project}"})
        else:
            self._send(404)

    def _misbehave(self, trouble: Trouble, body: bytes, kind: str) -> None:
        self.close_connection = True
        if isinstance(trouble, int):
            self._send(trouble, b"<html>no</html>")
        elif trouble == "redirect-loop":
            self._send(302, headers={"Location": self.path})
        elif trouble == "hang":
            self.index.closing.wait()
        elif trouble == "cut-short":
            self._head(200, len(body), {"Content-Type": kind})
            self.wfile.write(body[: len(body) // 2])
        else:
            self._head(200, len(body), {"Content-Type": kind})
            for byte in body:
                self.wfile.write(bytes([byte]))
                if self.index.closing.wait(self.index.pace):
                    return

    def _send(
        self, status: int, body: bytes = b"", *, with_body: bool = True, headers: dict[str, str] | None = None
    ) -> None:
        self._head(status, len(body), headers or {})
        if with_body:
            with contextlib.suppress(ConnectionError):  # the client may have heard enough
                self.wfile.write(body)

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.send_header("Content-Length", str(length))
        self.send_header("Cache-Control", "no-cache")  # what is published may change within a test
        self.end_headers()


def _page(links: Iterator[str]) -> str:
    body = "".join(f"{link}<br>\n" for link in links)
    return f"<!DOCTYPE html><html><body>\n{body}</body></html>"


def _content_type(path: str) -> str:
    return "text/html; charset=utf-8" if path.endswith("/") else "application/octet-stream"


def _credentials(header: str) -> tuple[str, str]:
    kind, _, value = header.partition(" ")
    if kind.lower() != "basic":
        return "", ""
    user, _, password = base64.b64decode(value).decode().partition(":")
    return user, password
