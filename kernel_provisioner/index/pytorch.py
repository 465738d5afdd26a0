"""PyTorch's packages from PyTorch's index, everything else from the normal one.

uv can send one package to one index only where a requirement names it, which transitive ones
never are, and its own ``--torch-backend`` knows one host only (astral-sh/uv 19569). So while a
plan is made, uv is given this index first, on the loopback address: it answers for the
packages that live on PyTorch's index, with links to the real files, and says "not here" for
all others, which uv then takes from the normal index. Files never pass through it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from hmac import compare_digest
from types import TracebackType
from typing import Any
from urllib.parse import urljoin, urlsplit

from ..errors import without_credentials
from ..model.accelerators import ECOSYSTEM
from .server import Loopback

_TIMEOUT = 20.0  # seconds for one page of the index
_EMPTY = "<!DOCTYPE html><html><body></body></html>"
_NOT_THERE = (403, 404)  # PyTorch's index answers 403 for a project that it does not have
_FAILED = 424  # "failed dependency": uv ends at once, where a 5xx makes it ask again and again


class Router:
    """A running index of ``upstream`` (a PEP 503 root such as ``…/whl/cpu``, or none); use with ``with``.

    Of ``held``, the packages that the base has and no overlay may replace, it knows no files: uv
    asks for their page even where the installed one will do, and must find nothing better.
    ``timeout`` is in seconds, for the whole of one page; each page is fetched once.
    """

    def __init__(self, upstream: str, held: Collection[str] = (), *, timeout: float = _TIMEOUT) -> None:
        self.upstream = upstream.rstrip("/") + "/" if upstream else ""
        self.held = held
        self.asked: set[str] = set()
        self.failures: dict[str, str] = {}
        self._timeout = timeout
        self._pages: dict[str, tuple[int, str]] = {}
        self._secret = os.urandom(12).hex()  # other users of the machine get no answers
        self._server = Loopback(self._answer)

    @property
    def url(self) -> str:
        """The index to give to uv."""
        return f"http://127.0.0.1:{self._server.port}/{self._secret}"

    def __enter__(self) -> Router:  # noqa: PYI034 - typing.Self is Python 3.11's
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()

    def real(self, text: str) -> str:
        """``text`` with this index's own address replaced by the real one, and without credentials."""
        return without_credentials(text.replace(self.url, self.upstream.rstrip("/")))

    def page(self, project: str) -> tuple[int, str]:
        """Status and page for one project: the upstream's page with absolute links."""
        if project in self.held:
            return 200, _EMPTY
        if project not in ECOSYSTEM or not self.upstream:
            return 404, ""
        if project not in self._pages:
            self.asked.add(project)
            self._pages[project] = self._fetched(project)
        return self._pages[project]

    def _fetched(self, project: str) -> tuple[int, str]:
        # Not before there is a page to fetch: it brings TLS along, and a cell waits for a plan.
        from http.client import HTTPException
        from urllib.error import HTTPError

        from .pages import absolute_links, fetch

        source = urljoin(self.upstream, project + "/")
        private = "@" in urlsplit(self.upstream).netloc  # there, 403 says that we may not look
        try:
            return 200, absolute_links(*fetch(source, timeout=self._timeout))
        except HTTPError as error:
            if error.code == 404 or (error.code in _NOT_THERE and not private):
                # An empty page: this index alone may have it, and has not.
                self.failures[project] = f"{self.upstream} has no {project}"
                return 200, _EMPTY
            self.failures[project] = f"{source} answered {error.code} {error.reason}"
        except (OSError, ValueError, HTTPException) as error:
            self.failures[project] = f"{source} cannot be reached: {getattr(error, 'reason', error)}"
        return _FAILED, ""

    def _answer(self, path: str) -> tuple[int, str]:
        parts = path.strip("/").split("/")
        known = len(parts) == 2 and compare_digest(parts[0].encode(), self._secret.encode())
        return self.page(parts[1]) if known else (404, "")


def wrong_origin(packages: Iterable[Mapping[str, Any]], tag: str, upstream: str) -> list[Mapping[str, Any]]:
    """The packages of a lock that live on PyTorch's index ``upstream`` but come from somewhere else.

    uv's own settings may prefer another index. A file that is labelled with the tag is right
    wherever it lies, and so is one from a directory that somebody named. Without an upstream all are.
    """
    if not upstream:
        return []
    upstream = without_credentials(upstream).rstrip("/")
    return [
        package
        for package in packages
        if package["name"] in ECOSYSTEM
        and not str(package.get("index", "")).startswith((upstream + "/", "file:"))
        and str(package.get("index", "")) != upstream
        and str(package.get("version", "")).partition("+")[2] != tag
    ]
