"""The Jupyter servers of this user that run on this machine, and what they say of a notebook.

Servers write down where they are, with their token, where only their user can read it:
https://jupyter-server.readthedocs.io/en/latest/api/jupyter_server.serverapp.html
They are asked on the loopback interface and nowhere else: another host may share the home directory.
"""

from __future__ import annotations

import contextlib
import json
import os
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

from jupyter_core.paths import jupyter_runtime_dir

_WAIT = 8.0  # seconds for an answer that takes no work: of a busy server
_MOST = 8 << 20  # bytes of it


class NoAnswer(Exception):
    """A server runs and does not say; the message is why."""


class Server(NamedTuple):
    """A running server that has a notebook below its root: as ``path`` in its contents API."""

    url: str
    token: str
    path: str

    def ask(self, place: str, body: Mapping[str, object] | None = None, *, wait: float = _WAIT) -> Any:
        """GET, or POST a body; the answer's JSON.

        Raises NoAnswer where it refuses or does not answer in time, and URLError where nothing listens.
        """
        headers = {"Authorization": f"token {self.token}", "Content-Type": "application/json"}
        if not self.token:  # who has none is asked for this, as a browser would be
            headers.update({"Cookie": "_xsrf=overlay", "X-XSRFToken": "overlay"})
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}{place}", data, headers)  # noqa: S310 - this machine's own
        try:
            with _opener().open(request, timeout=wait) as answer:
                return json.loads(answer.read(_MOST))
        except HTTPError as error:
            raise NoAnswer(f"HTTP {error.code}: {error.reason}") from error
        except URLError:
            raise
        except (OSError, ValueError) as error:
            raise NoAnswer(str(error) or type(error).__name__) from error


def servers_of(notebook: Path) -> Iterator[Server]:
    """The servers in whose directories the notebook lies; what their files say, nobody is asked."""
    real = Path(os.path.realpath(notebook))
    for info in _running():
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            root = Path(os.path.realpath(info["root_dir"]))
            if real.is_relative_to(root):
                scheme = "https" if info.get("secure") else "http"
                url = f"{scheme}://127.0.0.1:{int(info['port'])}{info['base_url']}"
                yield Server(url, _token(info), real.relative_to(root).as_posix())


def _running() -> Iterator[dict[str, Any]]:
    with contextlib.suppress(OSError):
        for file in sorted(Path(jupyter_runtime_dir()).glob("jpserver-*.json")):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                info = json.loads(file.read_bytes())
                os.kill(int(info["pid"]), 0)
                yield info


def _token(info: Mapping[str, Any]) -> str:
    """A server's token; in a terminal of JupyterHub, its server takes that terminal's own."""
    hub = urlsplit(os.environ.get("JUPYTERHUB_SERVICE_URL", ""))
    if hub.port is not None and hub.port == info["port"]:
        return os.environ.get("JUPYTERHUB_API_TOKEN", "") or str(info["token"])
    return str(info["token"])


def _opener() -> Any:
    context = ssl.create_default_context()  # on this interface a certificate for a public name says nothing
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return build_opener(ProxyHandler({}), HTTPSHandler(context=context))
