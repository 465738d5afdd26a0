"""A kernel's ports are its own from the moment that they are chosen."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from jupyter_client.connect import port_names
from jupyter_client.manager import KernelManager

from kernel_provisioner.launch.prepare import Launch
from kernel_provisioner.provisioner import TorchOverlayProvisioner
from kernel_provisioner.system.ports import HeldPorts, hold
from tests.support.waiting import WITHIN

HERE = "127.0.0.1"
MANAGERS = 60
AT_A_TIME, TIMES = 300, 30


@pytest.fixture
def manager(tmp_path: Path) -> KernelManager:
    """The manager of a kernel that was never started."""
    return KernelManager(connection_file=str(tmp_path / "kernel.json"))


def ports_of(manager: KernelManager) -> list[int]:
    """The ports that a manager's kernel is to listen on."""
    return [getattr(manager, name) for name in port_names]


def given() -> set[int]:
    """Ports that the system gives to thousands who ask for any."""
    seen = set[int]()
    for _ in range(TIMES):
        with contextlib.ExitStack() as opened:
            for number in range(AT_A_TIME):
                one = opened.enter_context(socket.socket())
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, number % 2)
                one.bind((HERE, 0))
                seen.add(one.getsockname()[1])
    return seen


@pytest.fixture
def many() -> Iterator[list[HeldPorts]]:
    """Ports that are held for many kernels."""
    held = [hold(KernelManager(), again=False) for _ in range(MANAGERS)]
    yield held
    for one in held:
        one.close()


def test_nobody_else_is_given_them(many: list[HeldPorts]) -> None:
    """Before they are let go; as soon as they are, the system gives them to anybody."""
    ports = {port for held in many for port in held.numbers}
    assert len(ports) == MANAGERS * len(port_names)
    assert not ports & given()
    for held in many:
        held.close()
    assert ports & given()


def test_the_kernel_listens_on_them(manager: KernelManager) -> None:
    """As ipykernel does, by ZeroMQ; a client reaches it."""
    held = hold(manager, again=False)
    assert held.numbers == ports_of(manager)
    context = zmq.Context()
    try:
        kernel = [context.socket(zmq.ROUTER) for _ in held.numbers]
        for listening, port in zip(kernel, held.numbers, strict=True):
            listening.bind(f"tcp://{HERE}:{port}")
            socket.create_connection((HERE, port)).close()
    finally:
        context.destroy(linger=0)
        held.close()


def test_it_is_known_when_somebody_listens_on_all_of_them(manager: KernelManager) -> None:
    """As soon as that is so, and not before; and where whoever should has ended, or is late."""
    held = hold(manager, again=False)
    *most, last = held.numbers

    async def told(within: float, *, ended: bool = False) -> bool:
        return await held.until_listening(within, lambda: ended)

    async def told_of_the_last() -> bool:
        waiting = asyncio.ensure_future(told(WITHIN))
        await asyncio.wait([waiting], timeout=0.05)
        assert not waiting.done()
        with socket.create_server((HERE, last)):
            return await waiting

    with contextlib.ExitStack() as listening:
        for port in most:
            listening.enter_context(socket.create_server((HERE, port)))
        assert not asyncio.run(told(0.05))
        assert not asyncio.run(told(WITHIN, ended=True))
        assert asyncio.run(told_of_the_last())
    held.close()
    assert asyncio.run(told(0.0)), "nothing is waited for where nothing is held"


class Forking(TorchOverlayProvisioner):
    """Has a process that the test has started as each fork."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__()
        context: Any = object()
        self._launch, self._warmly = Launch([], {}, [], warm_context=context), True
        self._ports, self._process = hold(KernelManager(), again=False), process

    def _fork(self, *_: object) -> Any:
        return self._process


def test_a_warm_start_is_answered_once_its_kernel_listens() -> None:
    """Its ports are held no longer than that. One that is cancelled before leaves no process."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    provisioner = Forking(process)
    held = provisioner._ports

    async def starts(then: Callable[[asyncio.Future[Any]], object]) -> None:
        start = asyncio.ensure_future(provisioner.launch_kernel([]))
        await asyncio.wait([start], timeout=0.1)
        assert not start.done()
        then(start)
        await start

    def listens(_: object) -> None:
        for one in kernel:
            one.listen()

    with contextlib.ExitStack() as opened:
        kernel = [opened.enter_context(socket.socket()) for _ in held.numbers]
        for one, port in zip(kernel, held.numbers, strict=True):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((HERE, port))
        asyncio.run(starts(listens))
        assert not held._sockets
        provisioner._ports = hold(KernelManager(), again=False)
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(starts(lambda start: start.cancel()))
    assert process.wait(WITHIN) == -signal.SIGKILL
    provisioner._ports.close()


def test_its_next_life_has_them_again_but_for_what_somebody_took(manager: KernelManager) -> None:
    """And the connection file is written anew where one is another."""
    hold(manager, again=False).close()
    before = ports_of(manager)
    manager.write_connection_file()
    hold(manager, again=True).close()
    assert ports_of(manager) == before
    with socket.create_server((HERE, manager.iopub_port)):
        hold(manager, again=True).close()
    after = ports_of(manager)
    assert [now for then, now in zip(before, after, strict=True) if then != now] == [manager.iopub_port]
    manager.write_connection_file()
    assert json.loads(Path(manager.connection_file).read_text())["iopub_port"] == manager.iopub_port


def test_what_cannot_be_held_is_left_to_jupyter(manager: KernelManager) -> None:
    """A kernel that is not reached by TCP, an address that is none of this machine's, no manager at all."""
    assert hold(None, again=False).numbers == []
    manager.ip = "192.0.2.1"  # https://www.rfc-editor.org/rfc/rfc5737
    assert hold(manager, again=False).numbers == []
    manager.ip, manager.cache_ports = HERE, False
    assert hold(manager, again=False).numbers == []
    assert ports_of(manager) == [0] * len(port_names)
