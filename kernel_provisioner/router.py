"""PyTorch's packages from PyTorch's index, everything else from the normal one.

uv can send one package to one index only where a requirement names it, which transitive ones
never are, and its own ``--torch-backend`` knows one host only (astral-sh/uv 19569). So while a
plan is made, uv is given this index first, on the loopback address: it answers for the
packages that live on PyTorch's index, with links to the real files, and says "not here" for
all others, which uv then takes from the normal index. Files never pass through it.
"""

from __future__ import annotations

import base64
import html
import re
import secrets
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Collection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urljoin, urlsplit, urlunsplit

from .accelerators import ECOSYSTEM

_TIMEOUT = 20.0  # seconds for one page of the index
_EMPTY = "<!DOCTYPE html><html><body></body></html>"
_NOT_THERE = (403, 404)  # PyTorch's index answers 403 for a project that it does not have


class Router:
    """A running index of ``upstream`` (a PEP 503 root such as ``…/whl/cpu``); use with ``with``.

    Of ``held``, the packages that the base has and no overlay may replace, it knows no files: uv
    asks for their page even where the installed one will do, and must find nothing better.
    """

    def __init__(self, upstream: str, held: Collection[str] = ()) -> None:
        self.upstream = upstream.rstrip("/") + "/"
        self.held = held
        self.asked: set[str] = set()
        self.failures: dict[str, str] = {}
        self._secret = secrets.token_urlsafe(12)  # other users of the machine get no answers
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """The index to give to uv."""
        return f"http://127.0.0.1:{self._server.server_port}/{self._secret}"

    def __enter__(self) -> Router:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def real(self, text: str) -> str:
        """``text`` with this index's own address replaced by the real one."""
        return text.replace(self.url, self.upstream.rstrip("/"))

    def page(self, project: str) -> tuple[int, str]:
        """Status and page for one project: the upstream's page with absolute links."""
        if project in self.held:
            return 200, _EMPTY
        if project not in ECOSYSTEM:
            return 404, ""
        self.asked.add(project)
        source = urljoin(self.upstream, project + "/")
        try:
            return 200, absolute_links(fetch(source), source)
        except urllib.error.HTTPError as error:
            if error.code in _NOT_THERE:  # an empty page: this index alone may have it, and has not
                self.failures[project] = f"{self.upstream} has no {project}"
                return 200, _EMPTY
            self.failures[project] = f"{source} answered {error.code} {error.reason}"
        except (OSError, ValueError) as error:
            self.failures[project] = f"{source} cannot be reached: {getattr(error, 'reason', error)}"
        return 502, ""

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        router = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = self.path.strip("/").split("/")
                known = len(parts) == 2 and secrets.compare_digest(parts[0], router._secret)
                status, body = router.page(parts[1]) if known else (404, "")
                data = body.encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                """Requests are recorded in ``asked`` and ``failures``, not on stderr."""

        return Handler


def fetch(url: str) -> str:
    """The page at ``url``, with the credentials that the URL carries; raises OSError."""
    parts = urlsplit(url)
    request = urllib.request.Request(
        urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])),
        headers={"Accept": "text/html", "User-Agent": "kernel-provisioner"},
    )
    if "@" in parts.netloc:
        user = urllib.request.unquote(parts.netloc.rpartition("@")[0])
        request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
    context = ssl.create_default_context() if parts.scheme == "https" else None
    with urllib.request.urlopen(request, timeout=_TIMEOUT, context=context) as answer:
        return str(answer.read().decode("utf-8", "replace"))


def absolute_links(page: str, source: str) -> str:
    """The page with each ``href`` absolute; links to the source's own host keep its credentials."""
    base = urlsplit(source)

    def absolute(match: re.Match[str]) -> str:
        target = urlsplit(urljoin(source, html.unescape(match.group(2))))
        if "@" in base.netloc and target.netloc == base.netloc.rpartition("@")[2]:
            target = target._replace(netloc=base.netloc)
        return f"{match.group(1)}{html.escape(urlunsplit(target))}{match.group(3)}"

    return re.sub(r"""(href\s*=\s*["'])([^"']*)(["'])""", absolute, page)
