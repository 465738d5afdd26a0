"""A real Jupyter server of a test's own: started, waited for, and ended with all that it started."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from .ports import free_port
from .session import Session
from .waiting import WITHIN, patient, wait_for
from .warm import AUTO, NEVER, WARM, everywhere, warm_up

STARTS_WITHIN = patient(90.0)
"""Seconds that a server may take to answer; JupyterLab on a busy machine takes ten."""

ENDS_WITHIN = patient(60.0)
"""Seconds between SIGTERM and SIGKILL; the server first asks its kernels to end."""


_OTHERS = (
    "jupyter_lsp", "jupyter_server_terminals", "jupyterlab", "notebook", "notebook_shim",
    "voila.server_extension",
)  # fmt: skip
"""Extensions that are installed here for other tests; a plain server would take two seconds for them."""

_PLAIN = f"--ServerApp.jpserver_extensions={dict.fromkeys(_OTHERS, False)}"
_PATIENT = "--ServerApp.tornado_settings={'ws_ping_interval': 0}"
"""No pings: a session that several tests share answers none while others run, and is let go after 90 s."""


class RequestFailed(AssertionError):
    """The server answered with an error: ``status``, and ``message`` as a frontend would show it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"HTTP {status}: {message}")
        self.status = status
        self.message = message


@dataclasses.dataclass(frozen=True)
class JupyterServer:
    """A running server: ``url`` ends with a slash, ``log`` is what it printed so far."""

    url: str
    token: str
    root: Path
    log: Path
    process: subprocess.Popen[bytes]

    def request(self, method: str, path: str, body: object = None, *, timeout: float = 60.0) -> Any:
        """Ask the REST API (``path`` as in ``api/kernels``); the answer's JSON, or None.

        Raises RequestFailed where the server answers with an error.
        """
        request = urllib.request.Request(
            urllib.parse.urljoin(self.url, urllib.parse.quote(path, safe="/?=&%")),
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {self.token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise RequestFailed(error.code, _message(error.read())) from error
        return json.loads(text) if text else None

    @contextlib.contextmanager
    def session(self, path: str, kernel: str, kind: str = "notebook") -> Iterator[Session]:
        """Open ``path`` with ``kernel``, as a frontend does on opening a file; deleted at the end.

        ``path`` is relative to the server's root; ``kind`` is ``notebook`` or ``console``.
        """
        model = {"path": path, "name": Path(path).name, "type": kind, "kernel": {"name": kernel}}
        created = self.request("POST", "api/sessions", model)
        kernel_id = created["kernel"]["id"]
        session = Session(created["id"], kernel_id, self.request, self._channels, self.token)
        try:
            session.connect()
            yield session
        finally:
            session.close()
            with contextlib.suppress(RequestFailed):  # the test may have ended it
                self.request("DELETE", f"api/sessions/{session.id}")

    @contextlib.contextmanager
    def kernel(self, path: str, name: str) -> Iterator[Session]:
        """A kernel that is started for ``path`` without a session, as agents do; it ends with the context."""
        kernel_id = self.request("POST", "api/kernels", {"name": name, "path": path})["id"]
        session = Session("", kernel_id, self.request, self._channels, self.token)
        try:
            session.connect()
            yield session
        finally:
            session.close()
            self.request("DELETE", f"api/kernels/{kernel_id}")

    def _channels(self, kernel_id: str, session_id: str) -> str:
        address = self.url.replace("http", "ws", 1)
        return f"{address}api/kernels/{kernel_id}/channels?session_id={session_id}"


@contextlib.contextmanager
def jupyter_server(
    root: Path,
    env: Mapping[str, str],
    *,
    app: str = "jupyter_server",
    python: str = sys.executable,
    options: Sequence[str] = (),
    port: int = 0,
    token: str = "",
) -> Iterator[JupyterServer]:
    """Run ``python -m APP`` (``jupyter_server``, ``jupyterlab`` or ``notebook``) on the folder ``root``.

    Ready when the context is entered. ``env`` comes from ``clean_environment``: the server's log
    goes beside its runtime files. ``port`` and ``token`` are its own unless they are given. Raises
    AssertionError with the log where it does not start.
    """
    root.mkdir(parents=True, exist_ok=True)
    runtime = Path(env["JUPYTER_RUNTIME_DIR"])
    runtime.mkdir(parents=True, exist_ok=True)
    token = token or secrets.token_hex(16)
    elsewhere = any(word.startswith("--gateway-url") for word in options)
    warmly = everywhere() and not elsewhere and not {AUTO, NEVER}.intersection(options)
    log = runtime / f"{app}-{secrets.token_hex(4)}.log"
    command = [
        python, "-m", app, "--no-browser", "--allow-root",
        f"--ServerApp.port={port or free_port()}", "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={root}", f"--IdentityProvider.token={token}", _PATIENT, *options,
        *([_PLAIN] if app == "jupyter_server" else []),
        *([] if any("--ServerApp.ip=" in word for word in options) else ["--ServerApp.ip=127.0.0.1"]),
        *([WARM] if warmly and WARM not in options else []),
    ]  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=root, env=dict(env), stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        url = _wait_until_ready(process, runtime, token, log)
        running = JupyterServer(url, token, root, log, process)
        if warmly:
            warm_up(running)
        yield running
    finally:
        end_with_children(process)


def _wait_until_ready(process: subprocess.Popen[bytes], runtime: Path, token: str, log: Path) -> str:
    """The server's address, as its runtime file tells it, once its API answers."""
    info = runtime / f"jpserver-{process.pid}.json"
    address: list[str] = []

    def ready() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}:\n{log.read_text()}")
        with contextlib.suppress(OSError, ValueError):  # no file yet, half a file, not listening yet
            url = json.loads(info.read_text())["url"]
            with urllib.request.urlopen(f"{url}api/status?token={token}", timeout=WITHIN):
                address.append(url)
        return bool(address)

    try:
        wait_for(ready, "the Jupyter server to answer", within=STARTS_WITHIN)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{log.read_text()}") from None
    return address[0]


def end_with_children(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the server, which ends its kernels; then SIGKILL to whatever is left of its children."""
    try:
        started = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        started = []
    process.terminate()
    try:
        process.wait(ENDS_WITHIN)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for child in started:
        with contextlib.suppress(psutil.NoSuchProcess):  # psutil compares start times: never another's pid
            child.kill()
    psutil.wait_procs(started, timeout=WITHIN)


def _message(body: bytes) -> str:
    try:
        answer = json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
    return str(answer.get("message") or answer)
