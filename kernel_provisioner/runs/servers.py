"""The Jupyter servers of this user that run on this machine, and what they say of a notebook.

Servers write down where they are, with their token, where only their user can read it:
https://jupyter-server.readthedocs.io/en/latest/api/jupyter_server.serverapp.html
They are asked on addresses of this machine and nowhere else: another host may share the home directory.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
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
_EVERYWHERE = ("", "localhost", "*", "0.0.0.0", "::")  # noqa: S104 - addresses that the loopback one is among


class NoAnswer(Exception):
    """A server runs and does not say; the message is why."""


class Server(NamedTuple):
    """A running server that has a notebook below its root: as ``path`` in its contents API.

    ``unasked`` is why it cannot be asked, where that is known.
    """

    url: str
    token: str
    path: str
    unasked: str = ""

    def ask(self, place: str, body: Mapping[str, object] | None = None, *, wait: float = _WAIT) -> Any:
        """GET, or POST a body; the answer's JSON.

        Raises NoAnswer where it refuses or does not answer in time, and URLError where nothing listens.
        """
        if self.unasked:
            raise NoAnswer(self.unasked)
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
                yield _server(info, real.relative_to(root).as_posix())


def _running() -> Iterator[dict[str, Any]]:
    with contextlib.suppress(OSError):
        for file in sorted(Path(jupyter_runtime_dir()).glob("jpserver-*.json")):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                info = json.loads(file.read_bytes())
                os.kill(int(info["pid"]), 0)
                yield info


def _server(info: Mapping[str, Any], path: str) -> Server:
    if info.get("sock"):
        return Server(str(info["sock"]), "", path, "it listens on a socket file, which is not asked")
    named = str(info.get("hostname") or "")
    host = "127.0.0.1" if named in _EVERYWHERE else named
    scheme = "https" if info.get("secure") else "http"
    netloc = f"[{host}]" if ":" in host else host
    url = f"{scheme}://{netloc}:{int(info['port'])}{info['base_url']}"
    return Server(url, _token(info), path, "" if _is_ours(host) else f"{host} is not on this machine")


def _is_ours(host: str) -> bool:
    """Whether a host is this machine: nobody can listen on the addresses of another."""
    with contextlib.suppress(OSError):
        family, kind, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as one:
            one.bind(address)
            return True
    return False


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
