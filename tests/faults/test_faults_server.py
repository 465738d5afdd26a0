"""Rows 5, 7 and 8: a server or a kernel ends while an overlay is built; nobody builds for nobody."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_provisioner.overlay import store
from kernel_provisioner.system import locks
from tests.conftest import TorchBase
from tests.support.index import LocalIndex
from tests.support.notebooks import write_notebook
from tests.support.oracle import Oracle
from tests.support.server import JupyterServer, jupyter_server
from tests.support.tiny import serve_extras
from tests.support.waiting import WITHIN, wait_for

from .scene import GONE_WITHIN, builders, installers, nobody_left, processes

pytestmark = [pytest.mark.torch, pytest.mark.network, pytest.mark.slow]

ENDS_WITHIN = {signal.SIGTERM: 5.0, signal.SIGKILL: 30.0}
"""Seconds after the server's end in which all that it has started is to be gone."""


class Desk:
    """A user's folder, and an index whose package never comes until it behaves."""

    def __init__(self, base: TorchBase, home: Path, index: LocalIndex) -> None:
        self.index, self.root = index, home / "cache/torch-overlays"
        # uv itself would wait for a quarter of an hour.
        self.env = base.environment(home, UV_DEFAULT_INDEX=index.default, UV_HTTP_TIMEOUT="900")
        self.folder = home / "work"
        told = {"accelerator": "cpu", "extras": ["awaited"]}
        write_notebook(self.folder / "book.ipynb", torch_env=told)
        self.oracle = Oracle(bases=base.data_dir / "torch-bases", overlays=self.root, notebooks=self.folder)

    @property
    def generations(self) -> list[store.Generation]:
        """The overlays, the oldest first."""
        return [store.Generation(path) for path in sorted(self.root.glob("book-*/[0-9]*"))]

    def wait_for_the_build(self) -> None:
        """Until the builder's uv has asked for the package."""
        wait_for(lambda: self.index.asked_for("awaited"), "the builder to ask for the package")

    def release(self) -> None:
        """Nobody holds a lock among the overlays, nor works there, but for what forks a server's kernels.

        A process that was killed has no command line any more when it lets go of its locks.
        """
        files = [path for path in self.root.rglob("*.lock") if path.is_file()]
        ours = [path for path in files if "scratch-warm" not in str(path)]
        wait_for(lambda: not any(map(locks.is_held, ours)), "the locks to be let go")
        assert not [one for one in processes(self.root) if "--fork-server" not in one.cmdline()]

    def works_again(self, server: JupyterServer) -> None:
        """With an index that answers, the notebook is opened and runs."""
        self.index.behave()
        with server.session("book.ipynb", "torch-cpu") as session:
            done = session.execute("import awaited; print('here')")
            assert "here" in done.stdout, done.text
        self.oracle.unharmed()


@pytest.fixture
def desk(torch_base_home: TorchBase, tmp_path: Path) -> Iterator[Desk]:
    """With an index in front of the registry, for a kernel on the real base."""
    with serve_extras(tmp_path / "wheels", "awaited") as index:
        index.misbehave("/simple/awaited/", "wait")
        desk = Desk(torch_base_home, tmp_path, index)
        yield desk
        for process in processes(desk.root):
            process.kill()


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(signal.SIGKILL, marks=pytest.mark.fault(5)),
        pytest.param(signal.SIGTERM, marks=pytest.mark.fault(7)),
    ],
    ids=lambda how: how.name,
)
def test_a_server_that_ends_during_a_build_leaves_nobody_behind(desk: Desk, how: signal.Signals) -> None:
    """Kernel, builder and uv are gone soon after it, with their locks; a new server builds again."""
    with (
        jupyter_server(desk.folder, desk.env) as server,
        contextlib.suppress(OSError),  # the session cannot be deleted then
        server.session("book.ipynb", "torch-cpu") as session,
    ):
        desk.wait_for_the_build()
        assert builders(desk.root)
        os.kill(server.process.pid, how)
        server.process.wait(WITHIN)
        nobody_left(desk.root, within=ENDS_WITHIN[how])
        session.close()
    desk.release()
    assert [one.state() for one in desk.generations] == [store.State.ABANDONED]
    desk.oracle.unharmed()
    with jupyter_server(desk.folder, desk.env) as again:
        desk.works_again(again)
    assert [one.path.name for one in desk.generations][:2] == ["0001", "0002"]


@pytest.mark.fault(8)
def test_a_kernel_that_is_shut_down_stops_its_build_and_one_that_restarts_does_not(desk: Desk) -> None:
    """Restarted, it waits for the same builder; shut down, it needs none, and the next start begins again."""
    with jupyter_server(desk.folder, desk.env) as server:
        with server.session("book.ipynb", "torch-cpu") as session:
            desk.wait_for_the_build()
            (builder,) = builders(desk.root)
            session.restart()
            assert builders(desk.root) == [builder]
        # A server that starts kernels warm keeps the process that it forks them from.
        wait_for(lambda: not [*builders(desk.root), *installers(desk.root)], "it ends", within=GONE_WITHIN)
        desk.release()
        desk.oracle.unharmed()
        desk.works_again(server)
        states = [one.state() for one in desk.generations]
        assert states[:2] == [store.State.ABANDONED, store.State.READY]
