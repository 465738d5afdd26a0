"""A real JupyterHub with real users of this machine: installed by root, started, and taken away whole.

Needs root: the hub starts each user's server as that user. All lies in one directory that every
user can enter, as the real places (``/opt``, ``/home``) are; pytest's own are root's alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .environ import clean_environment, default_index
from .index import LocalIndex, serve_index
from .parts import need
from .ports import free_port
from .server import JupyterServer, end_with_children
from .users import REPOSITORY, User, install, public_place, system_python, users
from .waiting import WITHIN, patient, wait_for

DEPLOYMENT = REPOSITORY / "docs/deploy/jupyterhub"
"""What the admin guide describes, and what is run here."""

PROXY = "configurable-http-proxy@4"
"""The newest that runs on the Node.js of Debian 12 (18) too."""

PASSWORD = secrets.token_urlsafe(12)
"""Of every user that is made here."""

ENDS_WITHIN = patient(600.0)  # seconds for any command; a base's takes the longest
STARTS_WITHIN = patient(120.0)  # seconds for the hub, or a user's server
_LAST_LINES = 60  # of a log, in a failure

_SITE = """\
load_subconfig({documented!r})
c.JupyterHub.bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.hub_port = {hub_port}
c.JupyterHub.db_url = "sqlite:///{state}/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = "{state}/cookie_secret"
c.ConfigurableHTTPProxy.pid_file = "{state}/proxy.pid"
c.ConfigurableHTTPProxy.command = [{proxy!r}]
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{proxy_port}"
c.PAMAuthenticator.allowed_groups = {{{group!r}}}
c.PAMAuthenticator.admin_groups = set()
c.Spawner.environment = {environment!r}
c.Spawner.start_timeout = c.Spawner.http_timeout = {patience}
c.JupyterHub.services = [{{"name": "test", "api_token": {token!r}}}]
c.JupyterHub.load_roles = [
    {{"name": "test", "services": ["test"], "scopes": ["admin:users", "admin:servers", "tokens"]}}
]
"""
"""What differs from the documented hub: its places, its ports, and that a test may speak to its API.

A server that is slow to answer, on a machine full of tests, is not given up after the usual 30 seconds.
"""

Done = subprocess.CompletedProcess[str]


@dataclasses.dataclass(frozen=True)
class Installation:
    """What an admin has set up: the environment that the hub and all users' servers run from."""

    root: Path
    prefix: Path
    proxy: Path

    @property
    def overlay(self) -> Path:
        """The command ``jupyter overlay``."""
        return self.prefix / "bin" / "jupyter-overlay"

    @property
    def bases(self) -> Path:
        """Where the bases are that all users share."""
        return self.prefix / "share/jupyter/torch-bases"

    def run(self, *words: str, check: bool = True, **more: str) -> Done:
        """``jupyter overlay`` with these words, as root; one output, as an admin sees it."""
        return _run(self.overlay, *words, check=check, env=clean_environment(self.root / "admin") | more)

    def script(self, path: Path, *words: str) -> Done:
        """A script of the guide as root runs it."""
        return _run(path, *words, env={"PATH": "/usr/sbin:/usr/bin", "JUPYTER_OVERLAY": str(self.overlay)})

    def configure(self, path: str, text: str) -> None:
        """Put a file where it counts for every user."""
        file = self.prefix / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@dataclasses.dataclass(frozen=True)
class Hub:
    """A running hub. ``api`` speaks to its REST API (``hub/api/…``) as an admin's service.

    ``index`` is where its users install from.
    """

    installation: Installation
    api: JupyterServer
    users: tuple[User, ...]
    index: LocalIndex

    def server(self, user: User) -> JupyterServer:
        """The user's own server, started through the hub's API where it is not running.

        It is spoken to through the hub's proxy, with a token of that user.
        """
        if not self._state(user).get("ready"):
            self.api.request("POST", f"hub/api/users/{user.name}/server", {}, timeout=STARTS_WITHIN)
        self._wait(lambda: self._is_ready(user), f"the server of {user.name}")
        return self.address(user)

    def address(self, user: User) -> JupyterServer:
        """The user's own server, running or not, as the user asks it."""
        theirs = dataclasses.replace(self.api, url=f"{self.api.url}user/{user.name}/", root=user.home)
        return self.seen_by(user, theirs)

    def seen_by(self, user: User, server: JupyterServer) -> JupyterServer:
        """Somebody's server, as ``user`` asks it."""
        made = self.api.request("POST", f"hub/api/users/{user.name}/tokens", {"note": "test"})
        return dataclasses.replace(server, token=str(made["token"]))

    def stop(self, user: User) -> None:
        """Stop the user's server, and with it all kernels."""
        self.api.request("DELETE", f"hub/api/users/{user.name}/server", timeout=STARTS_WITHIN)
        self._wait(lambda: not self._state(user), f"the end of the server of {user.name}")

    def _is_ready(self, user: User) -> object:
        state = self._state(user)
        assert state, f"the hub gave up the server of {user.name}"
        return state.get("ready")

    def _state(self, user: User) -> dict[str, Any]:
        servers: dict[str, dict[str, Any]] = self.api.request("GET", f"hub/api/users/{user.name}")["servers"]
        return servers.get("", {})

    def _wait(self, condition: Callable[[], object], what: str) -> None:
        with _telling(self.api.log):
            wait_for(condition, what, within=STARTS_WITHIN)


@contextlib.contextmanager
def deployed(*names: str) -> Iterator[Hub]:
    """The whole deployment of the guide, with these users: one base with the real torch, a running hub."""
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(public_place())
        group, people = stack.enter_context(real_users(root, *names))
        installation = set_up(root, system_python(people[0]))
        index = stack.enter_context(serve_index(upstream=default_index()))
        reach = {
            "TORCH_OVERLAY_INDEX": index.template,
            "UV_DEFAULT_INDEX": index.default,
            "UV_NO_CONFIG": "1",
        }
        api = stack.enter_context(running_hub(installation, group, people, reach))
        yield Hub(installation, api, people, index)


def set_up(root: Path, python: Path) -> Installation:
    """What the first steps of the guide do, up to the first base."""
    installation = Installation(root, root / "jupyterhub", install_proxy(root))
    install(installation.prefix, python, "jupyterhub", "jupyterlab")
    for name in ("jupyter_overlay_config.py", "jupyter_server_config.py"):
        installation.configure(f"etc/jupyter/{name}", (DEPLOYMENT / name).read_text())
    installation.run("base", "create", "cpu", "--sys-prefix")
    return installation


def install_proxy(root: Path) -> Path:
    """The hub's proxy, of which npm makes a directory below ``root``."""
    need(shutil.which("npm"), "no npm on PATH, to install the hub's proxy; on Debian: apt install nodejs npm")
    _run("npm", "install", "--silent", "--prefix", root / "proxy", PROXY)
    return root / "proxy/node_modules/.bin/configurable-http-proxy"


@contextlib.contextmanager
def real_users(root: Path, *names: str) -> Iterator[tuple[str, tuple[User, ...]]]:
    """The name of a group, and its members, who can log in with ``PASSWORD``; gone at the end.

    Their homes can be read by everybody, as on many machines: what is private must be so by itself.
    """
    group = f"hub-{secrets.token_hex(3)}"
    with users(root, *names) as people:
        _run("groupadd", group)
        try:
            for user in people:
                user.home.chmod(0o755)
                _run("usermod", "--shell", "/bin/bash", "--append", "--groups", group, user.name)
                _run("chpasswd", input=f"{user.name}:{PASSWORD}\n")
            yield group, people
        finally:
            _run("groupdel", group)


@contextlib.contextmanager
def running_hub(
    installation: Installation, group: str, people: Sequence[User], environment: Mapping[str, str],
    documented: Path = DEPLOYMENT / "jupyterhub_config.py",
) -> Iterator[JupyterServer]:  # fmt: skip
    """A documented hub on ports of its own, and its API; ``environment`` is what users' servers get."""
    state = installation.root / "state"
    state.mkdir(mode=0o700)
    token = secrets.token_hex(16)
    port = free_port()
    site, log = state / "site_config.py", state / "hub.log"
    site.write_text(_SITE.format(
        documented=str(documented), port=port, hub_port=free_port(),
        proxy_port=free_port(), state=state, proxy=str(installation.proxy), group=group,
        environment=dict(environment), token=token, patience=int(STARTS_WITHIN),
    ))  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen(
            [installation.prefix / "bin/jupyterhub", "--config", site], cwd=state,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(state)},
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        api = JupyterServer(f"http://127.0.0.1:{port}/", token, state, log, process)
        with _telling(log):
            wait_for(lambda: _answers(api), "the hub to answer through its proxy", within=STARTS_WITHIN)
        for user in people:
            api.request("POST", f"hub/api/users/{user.name}")
        yield api
    finally:
        end_with_children(process)


def _answers(api: JupyterServer) -> bool:
    assert api.process.poll() is None, f"the hub ended with {api.process.returncode}"
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{api.url}hub/api", timeout=WITHIN):
        return True
    return False


@contextlib.contextmanager
def _telling(log: Path) -> Iterator[None]:
    """Add what a log says, but for requests that went well, to whatever fails here."""
    try:
        yield
    except AssertionError as error:
        told = [line for line in log.read_text().splitlines() if " 200 GET " not in line]
        raise AssertionError("\n".join([str(error), *told[-_LAST_LINES:]])) from None


def _run(*command: str | Path, check: bool = True, **options: Any) -> Done:
    """A command to its end; raises AssertionError with what it said where ``check`` and it failed."""
    done = subprocess.run(command, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=ENDS_WITHIN, check=False, **options)  # fmt: skip
    assert done.returncode == 0 or not check, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done
