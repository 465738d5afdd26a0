"""A ready overlay adds nothing to a kernel's start: no process, no network, no slow import, no new file."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_provisioner.overlay.store import Generation
from tests.conftest import TorchBase
from tests.support.audit import Audit, Seen
from tests.support.client import connected, launched
from tests.support.index import LocalIndex
from tests.support.launches import followed
from tests.support.notebooks import set_torch_env, write_notebook
from tests.support.server import JupyterServer, jupyter_server
from tests.support.tiny import serve_extras
from tests.support.warm import NEVER, everywhere

pytestmark = [pytest.mark.system, pytest.mark.torch, pytest.mark.network, pytest.mark.slow]

NORMALLY = () if everywhere() else (NEVER,)
"""What keeps a fork server, which begins by itself once torch was imported, from being seen as a launch's."""

TINY = {"accelerator": "cpu", "extras": ["tiny-extra"]}
SLOW = {
    "torch",
    "numpy",
    "uv",
    "rich",
    "nbformat",
    "pip",
    "requests",
    "asyncssh",
    "concurrent.futures.process",
}
"""Modules that no warm launch needs; each takes as long to import as the whole launch may."""


@pytest.fixture(scope="module")
def index(home: Path) -> Iterator[LocalIndex]:
    """An index that tells what it was asked."""
    with serve_extras(home / "wheels", "tiny-extra") as served:
        yield served


@pytest.fixture(scope="module")
def env(home: Path, index: LocalIndex, torch_base_home: TorchBase) -> dict[str, str]:
    """The environment of a user whose uv asks that index."""
    return torch_base_home.environment(home, UV_DEFAULT_INDEX=index.default)


@pytest.fixture(scope="module")
def watched(home: Path) -> Audit:
    """Sees what the servers do that are started with its directory on PYTHONPATH."""
    return Audit(home / "audit")


@pytest.fixture(scope="module")
def server(home: Path, env: dict[str, str], watched: Audit) -> Iterator[JupyterServer]:
    """A Jupyter server that is watched and in which the notebook's overlay has become ready."""
    told = {**env, "PYTHONPATH": str(home / "audit")}
    with jupyter_server(home / "work", told, options=NORMALLY) as running:
        write_notebook(running.root / "nb.ipynb", torch_env=TINY)
        watched.forget()
        start(running)
        (first,) = home.glob("cache/torch-overlays/nb-*/0001")
        followed(Generation(first))
        commands = [words for words in watched.seen.started if "kernel_provisioner.builder" in words]
        assert len(commands) == 1, "what is watched sees the builder of a cold start"
        start(running)
        yield running


def test_a_second_start_adds_nothing_to_the_server(
    server: JupyterServer, watched: Audit, index: LocalIndex
) -> None:
    """Between the request and the first cell's end the server starts the kernel, and does nothing else."""
    asked = len(index.asked)
    watched.forget()
    start(server)
    assert_only_the_kernel_starts(watched.seen)
    assert watched.seen.imported == ()
    assert len(index.asked) == asked


def test_the_first_start_in_a_new_server_adds_nothing_slow(
    home: Path, env: dict[str, str], server: JupyterServer, watched: Audit, index: LocalIndex
) -> None:
    """The day after: a new server starts the kernel at once, without uv, torch or anything slow to import."""
    asked = len(index.asked)
    told = {**env, "PYTHONPATH": str(home / "audit")}
    with jupyter_server(home / "work", told, options=NORMALLY) as new:
        watched.forget()
        start(new)
        seen = watched.seen
    assert_only_the_kernel_starts(seen)
    assert not SLOW & {name.split(".")[0] for name in seen.imported}
    assert not [
        name
        for name in seen.imported
        if name.startswith(("kernel_provisioner.builder", "kernel_provisioner.cli"))
    ]
    assert len(index.asked) == asked


def test_a_notebook_that_asks_for_nothing_starts_without_a_builder(
    server: JupyterServer, watched: Audit
) -> None:
    """Its very first start, with an overlay to be made, takes no process but the kernel either."""
    write_notebook(server.root / "plain.ipynb")
    watched.forget()
    start(server, "plain.ipynb", "import torch")
    assert_only_the_kernel_starts(watched.seen)


def test_the_kernel_does_what_a_bare_one_does(
    home: Path, env: dict[str, str], server: JupyterServer, torch_base_home: TorchBase
) -> None:
    """Compared with ipykernel in the base itself: the same processes, no connection, our own imports."""
    (site,) = home.glob("cache/torch-overlays/nb-*/0002/lib/python*/site-packages")
    ours = Audit(site)
    start(server)
    bare = Audit(home / "bare")
    (manifest,) = [path.read_text() for path in torch_base_home.data_dir.glob("torch-bases/*/base.json")]
    python = str(Path(json.loads(manifest)["prefix"], "bin/python"))
    spec = home / "bare-kernel"
    spec.mkdir()
    command = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": command}))
    told = {**env, "PYTHONPATH": str(home / "bare")}
    with launched(spec, server.root / "nb.ipynb", told) as (_, file), connected(file) as client:
        client.execute("1", reply=True)
    assert "ipykernel.kernelapp" in bare.seen.imported, "what is watched sees the bare kernel"
    assert ours.seen.started == (() if everywhere() else bare.seen.started)
    assert ours.seen.connected == bare.seen.connected == ()
    more = {name.split(".")[0] for name in set(ours.seen.imported) - set(bare.seen.imported)}
    assert more - sys.stdlib_module_names <= {"_torch_overlay", "tiny_extra"}


def test_an_unchanged_request_makes_no_new_overlay(server: JupyterServer, home: Path) -> None:
    """Neither a start nor what else is edited in the notebook: only a changed request builds again."""
    (directory,) = home.glob("cache/torch-overlays/nb-*")
    before = written(directory)
    start(server)
    assert written(directory) == before
    write_notebook(server.root / "nb.ipynb", "print('edited')", torch_env=dict(reversed(TINY.items())))
    start(server)
    assert written(directory) == before
    assert list(before)[2:] == ["0002/build.json", "0002/overlay.json"]
    set_torch_env(server.root / "nb.ipynb", {**TINY, "extras": ["tiny-extra>=1"]})
    start(server)
    assert list(written(directory))[4:] == ["0003/build.json", "0003/overlay.json"]


def start(server: JupyterServer, notebook: str = "nb.ipynb", cell: str = "import tiny_extra") -> None:
    """Open the notebook, run its first cell, shut the kernel down."""
    with server.session(notebook, "torch-cpu") as session:
        done = session.execute(cell)
        assert done.status == "ok", done.text


def assert_only_the_kernel_starts(seen: Seen) -> None:
    """One process, the kernel, and no connection; the server speaks to it by sockets of ZeroMQ's own.

    Not even that one where kernels are forked: the fork server was there before, and the server looks whether
    the kernel listens.
    """
    assert len(seen.started) == (0 if everywhere() else 1), seen.started
    assert all("inkernel/main.py" in words for words in seen.started)
    looks = "('127.0.0.1', " if everywhere() else None
    assert not [address for address in seen.connected if looks is None or not address.startswith(looks)]


def written(directory: Path) -> dict[str, int]:
    """The records of a notebook's overlays, and when each was written."""
    return {
        str(path.relative_to(directory)): path.stat().st_mtime_ns
        for path in sorted(directory.glob("*/*.json"))
    }
