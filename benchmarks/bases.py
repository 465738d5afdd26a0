"""The base that a benchmark runs on."""

from __future__ import annotations

import subprocess
import sys

from kernel_provisioner.base import registry
from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.errors import BaseNotFound


def find_base(name: str) -> RegisteredBase:
    """The base of that id or tag, or the first there is; a cpu base is made where there is none at all.

    Raises BaseNotFound.
    """
    register = registry.read_register()
    if not register.bases and not name:
        print("no base is registered yet, making one for the CPU (minutes, once)", flush=True)
        command = [sys.executable, "-m", "kernel_provisioner.cli.app", "base", "create", "cpu"]
        if subprocess.run(command, check=False).returncode != 0:
            raise BaseNotFound("there is no base to measure on", fix="jupyter overlay base create cpu")
        register = registry.read_register()
    return register.get(name or next(iter(register.aliases), ""))
