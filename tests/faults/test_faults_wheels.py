"""Rows 16 and 17: what an index delivers is not what it should be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kernel_provisioner.inkernel.shared import layout
from tests.support.launches import launches
from tests.support.oracle import explains
from tests.support.wheels import build_wheel

from .scene import Scene

pytestmark = pytest.mark.slow

DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda good: good[: len(good) // 2],
    "bit-flipped": lambda good: good[:60] + bytes([good[60] ^ 4]) + good[61:],
    "empty": lambda _: b"",
    "a-page": lambda _: b"<html>please log in</html>",
}


@pytest.mark.fault(16)
@pytest.mark.parametrize("told", [False, True], ids=["hash of the damaged file", "hash of the good file"])
def test_a_damaged_wheel_is_rejected_and_nothing_of_it_is_kept(scene: Scene, *, told: bool) -> None:
    """On its way or in the index: the message names the package; once it is corrected, the next try works."""
    wheels, notebooks = {}, []
    for how, damage in DAMAGED.items():
        name = f"{how}-{told}".lower()
        wheel = scene.bench.publish(name)
        wheels[wheel] = wheel.read_bytes()
        if told:
            scene.index.declare(wheel.name, wheels[wheel])
        wheel.write_bytes(damage(wheels[wheel]))
        notebooks.append(scene.notebook(name, name=name))
    oracle = scene.oracle()
    for outcome, notebook in zip(launches(notebooks, scene.env), notebooks, strict=True):
        assert outcome["state"] == "failed", notebook
        explains(outcome["build"], cause=notebook.stem.replace("-", "[-_]"), step="try again")
        assert not Path(outcome["overlay"], layout.OVERLAY).exists()
    oracle.unharmed()
    for wheel, good in wheels.items():
        wheel.write_bytes(good)
    for outcome in launches(notebooks, scene.env):
        assert outcome["state"] == "ready", outcome["build"]
    oracle.unharmed()


@pytest.mark.fault(17)
def test_a_wheel_whose_record_lies_is_rejected_by_our_own_check(scene: Scene) -> None:
    """uv installs it; it is never published, and the file is named."""
    name = "liar-of-all"
    wheel = scene.bench.publish(name, record="wrong-hash")
    notebook, oracle = scene.notebook(name), scene.oracle()
    outcome = scene.launch(notebook)
    assert outcome["state"] == "failed"
    explains(outcome["build"], cause="RECORD", step="uv cache clean", path="liar")
    assert not Path(outcome["overlay"], layout.OVERLAY).exists()
    oracle.unharmed()
    wheel.write_bytes(build_wheel(scene.home, name).read_bytes())
    scene.bench.uv.run("cache", "clean", name).check("no cache")
    oracle.next_try(notebook, scene.env)
