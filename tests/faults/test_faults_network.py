"""Rows 14 and 15: an index that is down, silent, slow, closed or confused."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import psutil
import pytest

from kernel_provisioner.builder.limits import deadline
from kernel_provisioner.errors import InstallFailed
from kernel_provisioner.overlay import store
from kernel_provisioner.system import processes
from tests.support.index import Trouble
from tests.support.oracle import explains
from tests.support.ports import free_port

from .scene import Scene

SECRET = "s3cr3t-of-the-index"


def secrets_in(root: Path) -> list[Path]:
    """The files of a tree in which the secret stands."""
    return [path for path in root.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


@pytest.mark.fault(14)
def test_what_is_ready_or_known_asks_no_index(scene: Scene) -> None:
    """The overlay that is there, and one with packages resolved before: not one request."""
    scene.bench.publish("known")
    first, second = scene.notebook("known"), scene.notebook("known", name="second")
    oracle = scene.oracle()
    overlay = scene.entered(first)
    scene.index.misbehave("/", 503)
    scene.index.asked.clear()
    scene.serves(first, overlay, "known")
    oracle.next_try(second, scene.env)
    assert scene.index.asked == []


@pytest.mark.fault(14)
def test_an_index_that_is_down_is_named(scene: Scene) -> None:
    """Nobody listens there: the address, and that the network should be looked at."""
    address = f"http://127.0.0.1:{free_port()}"
    scene.bench.publish("unknown")
    notebook = scene.notebook("unknown")
    oracle = scene.oracle()
    down = {"UV_DEFAULT_INDEX": f"{address}/simple", "TORCH_OVERLAY_INDEX": f"{address}/whl/{{tag}}"}
    told = scene.launch(notebook, **down)
    assert told["state"] == store.State.FAILED.value
    explains(
        told["build"], cause="error sending request|could not be looked up", path=address, step="network"
    )
    oracle.unharmed()
    oracle.next_try(notebook, scene.env)


@pytest.mark.fault(15)
@pytest.mark.parametrize("place", ["page", "wheel"])
@pytest.mark.parametrize(
    ("trouble", "cause", "step"),
    [
        pytest.param("hang", "timed out|did not end within", "network|UV_HTTP_TIMEOUT", id="never answers"),
        pytest.param(401, "401", "credentials", id="401"),
        pytest.param(503, "503", "check the network and the index", id="503"),
        # uv takes the last redirect for an answer, an empty one.
        pytest.param("redirect-loop", "Content-Type|0 bytes", "the index", id="redirect loop"),
    ],
)
def test_an_index_in_trouble_is_told_in_time_and_without_credentials(
    scene: Scene, place: str, trouble: Trouble, cause: str, step: str
) -> None:
    """The error says what the index did; the password in its address is nowhere."""
    name = f"troubled-{place}"
    wheel = scene.bench.publish(name)
    notebook = scene.notebook(name)
    oracle = scene.oracle()
    scene.index.misbehave(f"/simple/{name}/" if place == "page" else f"/simple/{wheel.name}", trouble)
    address = scene.index.default.replace("://", f"://somebody:{SECRET}@")
    # No cache: another test's answer would do where only the hang's deadline or the 401 is asked for.
    slow = {"UV_HTTP_TIMEOUT": "1", "UV_CACHE_DIR": str(scene.home / "cache"), "UV_DEFAULT_INDEX": address}
    told = scene.launch(notebook, **slow)
    assert told["state"] == store.State.FAILED.value, told
    explains(told["build"], cause=cause, path=name, step=step)
    assert SECRET not in str(told)
    assert not secrets_in(scene.root)
    oracle.unharmed()
    scene.index.behave()
    oracle.next_try(notebook, {**scene.env, **slow})
    assert not secrets_in(scene.root)


@pytest.mark.slow
@pytest.mark.fault(15)
def test_an_index_that_trickles_is_given_up(scene: Scene) -> None:
    """A byte now and then keeps uv's own patience for ever; a look-up has a deadline of its own."""
    scene.bench.publish("trickling")
    notebook = scene.notebook("trickling")
    oracle = scene.oracle()
    scene.index.pace = 0.4
    scene.index.misbehave("/simple/trickling/", "trickle")
    told = scene.launch(notebook, UV_HTTP_TIMEOUT="1")
    explains(told["build"], cause="did not end within 20 seconds", step="UV_HTTP_TIMEOUT to more than 1")
    scene.index.behave()
    oracle.next_try(notebook, scene.env)


@pytest.mark.fault(15)
def test_all_that_a_build_fetches_has_one_deadline() -> None:
    """However many commands it is made of, and whatever is done about their errors; the last one is ended."""
    commands = []

    def build() -> None:
        with deadline(3):
            for seconds in ("0", "600", "600"):
                commands.append(seconds)
                with contextlib.suppress(Exception):  # as one may, who then tries something else
                    processes.run(["/bin/sleep", seconds], env={})

    with pytest.raises(InstallFailed, match="was not built within 0 minutes") as caught:
        build()
    assert commands == ["0", "600"]
    assert not [one for one in psutil.Process().children() if one.name() == "sleep"]
    explains(caught.value.as_dict(), cause="too slow", step="UV_HTTP_TIMEOUT")
    with deadline(0.05):
        pass
    subprocess.run(["/bin/sleep", "0.1"], check=True)  # and nothing rings later
