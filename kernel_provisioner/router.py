"""PyTorch's packages from PyTorch's index, everything else from the normal one.

uv can send one package to one index only where a requirement names it, which transitive ones
never are, and its own ``--torch-backend`` knows one host only (astral-sh/uv 19569). So while a
plan is made, uv is given this index first, on the loopback address: it answers for the
packages that live on PyTorch's index, with links to the real files, and says "not here" for
all others, which uv then takes from the normal index. Files never pass through it.
"""

from __future__ import annotations

import base64
import contextlib
import html
import netrc
import os
import re
import secrets
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Collection, Iterable, Mapping
from http.client import HTTPException, HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import IO, Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from .accelerators import ECOSYSTEM

_TIMEOUT = 20.0  # seconds for one page of the index
_POLL = 0.01  # seconds; how long the end may take
_EMPTY = "<!DOCTYPE html><html><body></body></html>"
_NOT_THERE = (403, 404)  # PyTorch's index answers 403 for a project that it does not have
_FAILED = 424  # "failed dependency": uv ends at once, where a 5xx makes it ask again and again


class Router:
    """A running index of ``upstream`` (a PEP 503 root such as ``…/whl/cpu``); use with ``with``.

    Of ``held``, the packages that the base has and no overlay may replace, it knows no files: uv
    asks for their page even where the installed one will do, and must find nothing better.
    ``timeout`` is in seconds, for the whole of one page; each page is fetched once.
    """

    def __init__(self, upstream: str, held: Collection[str] = (), *, timeout: float = _TIMEOUT) -> None:
        self.upstream = upstream.rstrip("/") + "/"
        self.held = held
        self.asked: set[str] = set()
        self.failures: dict[str, str] = {}
        self._timeout = timeout
        self._pages: dict[str, tuple[int, str]] = {}
        self._secret = secrets.token_urlsafe(12)  # other users of the machine get no answers
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL,), daemon=True)

    @property
    def url(self) -> str:
        """The index to give to uv."""
        return f"http://127.0.0.1:{self._server.server_port}/{self._secret}"

    def __enter__(self) -> Router:  # noqa: PYI034 - typing.Self is Python 3.11's
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def real(self, text: str) -> str:
        """``text`` with this index's own address replaced by the real one, and without credentials."""
        return without_credentials(text.replace(self.url, self.upstream.rstrip("/")))

    def page(self, project: str) -> tuple[int, str]:
        """Status and page for one project: the upstream's page with absolute links."""
        if project in self.held:
            return 200, _EMPTY
        if project not in ECOSYSTEM:
            return 404, ""
        if project not in self._pages:
            self.asked.add(project)
            self._pages[project] = self._fetched(project)
        return self._pages[project]

    def _fetched(self, project: str) -> tuple[int, str]:
        source = urljoin(self.upstream, project + "/")
        private = "@" in urlsplit(self.upstream).netloc  # there, 403 says that we may not look
        try:
            return 200, absolute_links(*fetch(source, timeout=self._timeout))
        except urllib.error.HTTPError as error:
            if error.code == 404 or (error.code in _NOT_THERE and not private):
                # An empty page: this index alone may have it, and has not.
                self.failures[project] = f"{self.upstream} has no {project}"
                return 200, _EMPTY
            self.failures[project] = f"{source} answered {error.code} {error.reason}"
        except (OSError, ValueError, HTTPException) as error:
            self.failures[project] = f"{source} cannot be reached: {getattr(error, 'reason', error)}"
        return _FAILED, ""

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

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
                """Requests are recorded in ``asked`` and ``failures``, not on stderr."""

        return Handler


def without_credentials(text: str) -> str:
    """``text`` with ``user:password@`` taken out of every URL in it."""
    return re.sub(r"(?<=://)[^/?#\s'\"]+@", "", text)


def foreign(packages: Iterable[Mapping[str, Any]], tag: str, upstream: str) -> list[Mapping[str, Any]]:
    """The packages of a lock that live on PyTorch's index ``upstream`` but come from somewhere else.

    uv's own settings may prefer another index. A file that is labelled with the tag is right
    wherever it lies, and so is one from a directory that somebody named.
    """
    upstream = without_credentials(upstream).rstrip("/")
    return [
        package
        for package in packages
        if package["name"] in ECOSYSTEM
        and not str(package.get("index", "")).startswith((upstream + "/", "file:"))
        and str(package.get("index", "")) != upstream
        and str(package.get("version", "")).partition("+")[2] != tag
    ]


def fetch(url: str, *, timeout: float = _TIMEOUT, environ: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """The page at ``url`` and the address it came from in the end.

    Uses the credentials that the URL carries, or netrc's, as uv does. ``timeout`` is in seconds
    for all of it, names, redirects and trickling servers included. Raises OSError, ValueError or
    HTTPException.
    """
    answer: list[tuple[str, str]] = []
    error: list[Exception] = []

    def work() -> None:
        try:
            answer.append(_fetch(url, timeout, environ))
        except Exception as problem:
            error.append(problem)

    # A socket's own timeout begins anew with every byte, and a look-up of a name has none.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout)
    if error:
        raise error[0]
    if not answer:
        raise TimeoutError(f"no answer within {timeout:g} seconds")
    return answer[0]


def absolute_links(page: str, source: str) -> str:
    """The page with each ``href`` absolute; links to the source's own host keep its credentials."""
    base = urlsplit(source)

    def absolute(match: re.Match[str]) -> str:
        target = urlsplit(urljoin(source, html.unescape(match.group(2))))
        if "@" in base.netloc and target.netloc == _host(base.netloc):
            target = target._replace(netloc=base.netloc)
        return f"{match.group(1)}{html.escape(urlunsplit(target))}{match.group(3)}"

    return re.sub(r"""(href\s*=\s*["'])([^"']*)(["'])""", absolute, page)


def _fetch(url: str, timeout: float, environ: Mapping[str, str]) -> tuple[str, str]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{parts.scheme or 'a path'} is not http or https")
    request = urllib.request.Request(  # noqa: S310 - checked above
        urlunsplit(parts._replace(netloc=_host(parts.netloc))),
        headers={"Accept": "text/html", "User-Agent": "kernel-provisioner"},
    )
    if user := unquote(parts.netloc.rpartition("@")[0]) or _netrc(parts.hostname or "", environ):
        request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
    opener = urllib.request.build_opener(
        _Redirects(), urllib.request.HTTPSHandler(context=ssl.create_default_context())
    )
    with opener.open(request, timeout=timeout) as answer:
        text = answer.read().decode("utf-8", "replace")
        final = urlsplit(answer.url)
    if final.netloc == _host(parts.netloc):
        final = final._replace(netloc=parts.netloc)
    return text, urlunsplit(final)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects as ever, but hands credentials to no other host."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """See the base class."""
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and request.host != req.host:
            request.remove_header("Authorization")
        return request


def _netrc(host: str, environ: Mapping[str, str]) -> str:
    """``user:password`` for a host, from the file NETRC or ~/.netrc; empty where there is none."""
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        known = netrc.netrc(environ.get("NETRC")).authenticators(host)
        if known:
            return f"{known[0]}:{known[2]}"
    return ""


def _host(netloc: str) -> str:
    return netloc.rpartition("@")[2]
