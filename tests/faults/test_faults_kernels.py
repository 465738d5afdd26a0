"""Rows 22, 26 and 29, where it takes real kernels on a real server to show them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.overlay.store import Generation
from kernel_provisioner.system import locks
from tests.conftest import TorchBase
from tests.support.index import LocalIndex
from tests.support.launches import followed
from tests.support.notebooks import write_notebook
from tests.support.oracle import Oracle
from tests.support.server import JupyterServer, jupyter_server
from tests.support.tiny import serve_extras
from tests.support.waiting import wait_for

from .lockless import Lockless

pytestmark = [pytest.mark.torch, pytest.mark.network, pytest.mark.slow]

WEEKS = 60 * 86400.0
DIES = """\
import os
from pathlib import Path
place = Path({place!r})
if (place / "die").exists():
    with (place / "died").open("a") as file:
        file.write(os.environ["VIRTUAL_ENV"] + "\\n")
    os._exit(3)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this module's servers keep everything; a startup file lets kernels die while ``die`` is there."""
    home = tmp_path_factory.mktemp("fault-kernels")
    startup = home / "ipython/profile_default/startup"
    startup.mkdir(parents=True)
    (startup / "00-dies.py").write_text(DIES.format(place=str(home)))
    return home


@pytest.fixture(scope="module")
def index(home: Path) -> Iterator[LocalIndex]:
    """An index in front of the registry that also has tiny packages."""
    with serve_extras(home / "wheels", "old-extra", "dying-extra", "lockless-extra") as served:
        yield served


@pytest.fixture(scope="module")
def env(home: Path, index: LocalIndex, torch_base_home: TorchBase) -> dict[str, str]:
    """The environment of a user whose uv asks that index."""
    return torch_base_home.environment(home, UV_DEFAULT_INDEX=index.default)


@pytest.fixture(scope="module")
def server(home: Path, env: dict[str, str]) -> Iterator[JupyterServer]:
    """A Jupyter server that soon sees when a kernel has died, and starts it again."""
    with jupyter_server(home / "work", env, options=["--KernelRestarter.time_to_dead=0.3"]) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def unharmed(home: Path, env: dict[str, str]) -> Iterator[None]:
    """After all these faults the base is what it was, and every overlay that says it is ready is whole."""
    bases = Path(env["JUPYTER_PATH"]) / "torch-bases"
    oracle = Oracle(bases=bases, overlays=home / "cache/torch-overlays", notebooks=home / "none")
    yield
    oracle.unharmed()


@pytest.mark.fault(22)
def test_a_kernel_that_has_run_for_weeks_keeps_its_overlay(
    server: JupyterServer, home: Path, env: dict[str, str]
) -> None:
    """The collector, asked for all that was not used for a month, passes over what is held."""
    write_notebook(server.root / "old.ipynb", torch_env=asking_for("old-extra"))
    with server.session("old.ipynb", "torch-cpu") as session:
        assert session.execute("import old_extra").status == "ok"
        overlay = followed(Generation(overlays(home, "old")[0])).path
        session.restart()
        assert session.execute("import old_extra").status == "ok"
        for path in (overlay, *overlay.iterdir()):
            started = path.lstat().st_mtime - WEEKS
            os.utime(path, (started, started), follow_symlinks=False)
        prune(env, "--all", "--older-than", "30")
        assert overlay.exists()
        assert session.execute("from old_extra import *; import torch, json").status == "ok"
        session.restart()
        assert session.execute("import old_extra").status == "ok"
    wait_for(lambda: not locks.is_held(overlay / layout.USE_LOCK), "the overlay to be let go")
    prune(env, "--all", "--older-than", "30")
    assert overlay.exists(), "it was used just now"


@pytest.mark.fault(29)
def test_a_kernel_that_dies_again_and_again_is_not_built_again_and_again(
    server: JupyterServer, home: Path, env: dict[str, str], index: LocalIndex
) -> None:
    """The server starts it again each time, in an overlay that is there; nothing is fetched twice."""
    write_notebook(server.root / "dying.ipynb", torch_env=asking_for("dying-extra"))
    (home / "die").touch()
    died = home / "died"
    body = {"path": "dying.ipynb", "name": "dying.ipynb", "type": "notebook", "kernel": {"name": "torch-cpu"}}
    created = server.request("POST", "api/sessions", body)
    try:
        wait_for(lambda: died.exists() and len(died.read_text().splitlines()) >= 4, "four deaths")
    finally:
        server.request("DELETE", f"api/sessions/{created['id']}")
        (home / "die").unlink()
    first = overlays(home, "dying")[0]
    following = followed(Generation(first)).path
    assert set(died.read_text().splitlines()) <= {str(first), str(following)}
    with server.session("dying.ipynb", "torch-cpu") as session:
        done = session.execute("import dying_extra; print(dying_extra.__file__)")
        assert done.stdout.startswith(str(following)), done.text
    assert overlays(home, "dying") == [first, following]
    assert len([one for one in index.asked_for("dying-extra") if one.path.endswith(".whl")]) == 1


@pytest.mark.fault(26)
@pytest.mark.parametrize("error", [errno.ENOLCK, 0], ids=["no lock daemon", "no exclusion"])
def test_a_kernel_waits_for_its_packages_on_a_disk_that_keeps_no_locks(
    tmp_path: Path, env: dict[str, str], index: LocalIndex, error: int
) -> None:
    """The first cell waits for the builder, though no lock tells of it, and says when it has died."""
    disk = tmp_path / "disk"
    lockless = Lockless(tmp_path / "lockless", disk, error)
    own = {**env, "TORCH_OVERLAY_ROOT": str(disk / "overlays")}
    with jupyter_server(disk / "work", own, python=lockless.python) as server:
        write_notebook(server.root / "a.ipynb", torch_env=asking_for("lockless-extra"))
        index.misbehave("/simple/lockless-extra/", "hang")
        with server.session("a.ipynb", "torch-cpu") as session:
            waiting = session.begin("import lockless_extra")
            waiting.until(lambda seen: bool(seen.outputs))
            (overlay,) = (disk / "overlays").glob("a-*/0001")
            for builder in _builders(overlay):
                builder.kill()
            assert waiting.result().error.startswith("BuildFailed"), "its builder was killed"
            index.behave()
            session.restart()
            done = session.execute("import lockless_extra; print(lockless_extra.__file__)")
            assert done.stdout.startswith(str(overlay.with_name("0002"))), done.text


def asking_for(extra: str) -> dict[str, object]:
    """The metadata of a notebook with one extra on the cpu base."""
    return {"accelerator": "cpu", "extras": [extra]}


def overlays(home: Path, notebook: str) -> list[Path]:
    """The generations of a notebook, by its name without suffix."""
    return sorted(home.glob(f"cache/torch-overlays/{notebook}-*/[0-9]*"))


def prune(env: dict[str, str], *words: str) -> str:
    """What ``jupyter overlay prune`` prints."""
    command = [sys.executable, "-m", "kernel_provisioner.cli.app", "prune", *words]
    return subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, check=True).stdout


def _builders(overlay: Path) -> list[psutil.Process]:
    return [one for one in psutil.process_iter() if str(overlay) in _words(one) and "builder" in _words(one)]


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
