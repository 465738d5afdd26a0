"""Warm starts in tests: servers that are to start kernels so, and whether they did."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import psutil

from .waiting import patient, wait_for

if TYPE_CHECKING:
    from .server import JupyterServer

EVERYWHERE = "KERNEL_PROVISIONER_TEST_WARM"
"""Set by ``make test-warm``: every test's server starts its kernels warm, from the first one on."""

WARM = "--TorchOverlayProvisioner.warm=True"
"""The option of a server whose kernels start warm, once it has started one normally."""

AUTO = "--TorchOverlayProvisioner.warm=auto"
"""The option of a server as it is without one, for runs in which others start every kernel warm."""

NEVER = "--TorchOverlayProvisioner.warm=False"
"""The option of a server that has no fork server, whatever its kernels import."""

WARM_WITHIN = patient(60.0)
"""Seconds for a fork server to import torch on a busy machine, which takes two."""

_KERNEL = "torch-cpu"


def everywhere(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this run of the tests is one of warm starts."""
    return environ.get(EVERYWHERE) == "1"


def starts(server: JupyterServer) -> list[str]:
    """How each kernel has started: ``warm``, or ``normally: `` and the reason."""
    return re.findall(r"Kernel \S+ starts (.*)", server.log.read_text(encoding="utf-8"))


def warm_up(server: JupyterServer, kernel: str = _KERNEL) -> None:
    """Start kernels of no notebook until one starts warm, or it is said that none can."""
    if kernel not in server.request("GET", "api/kernelspecs")["kernelspecs"]:
        return
    with server.session("warm-up", kernel, kind="console") as session:

        def settled() -> bool:
            session.restart()
            return starts(server)[-1:] == ["warm"] or "there can be no" in "".join(starts(server)[-1:])

        wait_for(settled, "a fork server", within=WARM_WITHIN, poll=0.5)


def fork_server(server: JupyterServer) -> psutil.Process:
    """The process that a server's kernels are forks of; waits for it."""
    found: list[psutil.Process] = []

    def there() -> bool:
        children = psutil.Process(server.process.pid).children()
        found[:] = [child for child in children if "--fork-server" in child.cmdline()]
        return bool(found)

    wait_for(there, "a fork server", within=WARM_WITHIN)
    return found[0]
