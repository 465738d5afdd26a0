"""Pages of an index on the web: fetched with the user's credentials, their links made absolute."""

from __future__ import annotations

import base64
import contextlib
import html
import netrc
import os
import re
import ssl
import threading
import urllib.request
from collections.abc import Mapping
from http.client import HTTPMessage
from typing import IO
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

_TIMEOUT = 20.0  # seconds for one page


def fetch(url: str, *, timeout: float = _TIMEOUT, environ: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """The page at ``url`` and the address it came from in the end.

    Uses the credentials that the URL carries, or netrc's, as uv does. ``timeout`` is in seconds
    for all of it, names, redirects and trickling servers included. Raises TimeoutError, another OSError,
    ValueError or HTTPException.
    """
    answer: list[tuple[str, str]] = []
    error: list[Exception] = []
    late = TimeoutError(f"no answer within {timeout:g} seconds")

    def work() -> None:
        try:
            answer.append(_fetch(url, timeout, environ))
        except Exception as problem:
            error.append(problem)

    # A socket's own timeout begins again with every byte, and a look-up of a name has none.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout)
    if error:
        raise late if isinstance(getattr(error[0], "reason", error[0]), TimeoutError) else error[0]
    if not answer:
        raise late
    return answer[0]


def absolute_links(page: str, source: str) -> str:
    """The page with each ``href`` absolute; links to the source's own host keep its credentials."""

    def absolute(match: re.Match[str]) -> str:
        target = _with_credentials(urljoin(source, html.unescape(match.group(2))), source)
        return f"{match.group(1)}{html.escape(target)}{match.group(3)}"

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
    opener = urllib.request.build_opener(Redirects(), urllib.request.HTTPSHandler(context=_trust()))
    with opener.open(request, timeout=timeout) as answer:
        return answer.read().decode("utf-8", "replace"), _with_credentials(answer.url, url)


def _trust() -> ssl.SSLContext:
    """The system's certificates, also where Python knows of none: uv's Pythons look where they were built.

    SSL_CERT_FILE and SSL_CERT_DIR count, as for uv. https://truststore.readthedocs.io
    """
    import truststore

    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects as ever, but hands credentials to no other host, and to nobody in the clear."""

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
        if request is not None and not _may_know(request.full_url, req.full_url):
            request.remove_header("Authorization")
        return request


def _with_credentials(url: str, source: str) -> str:
    """``url`` with the credentials of ``source``, where it may know them."""
    login, at, _ = urlsplit(source).netloc.rpartition("@")
    parts = urlsplit(url)
    if not at or "@" in parts.netloc or not _may_know(url, source):
        return url
    return urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc}"))


def _may_know(url: str, source: str) -> bool:
    """Whether what was meant for ``source`` may go to ``url``: the same host, over nothing less safe."""
    to, of = urlsplit(url), urlsplit(source)
    return _host(to.netloc) == _host(of.netloc) and to.scheme in (of.scheme, "https")


def _netrc(host: str, environ: Mapping[str, str]) -> str:
    """``user:password`` for a host, from the file NETRC or ~/.netrc; empty where there is none."""
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        known = netrc.netrc(environ.get("NETRC")).authenticators(host)
        if known:
            return f"{known[0]}:{known[2]}"
    return ""


def _host(netloc: str) -> str:
    return netloc.rpartition("@")[2]
