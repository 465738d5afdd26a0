"""Where Python keeps compiled packages in ``lib64`` (Fedora, RHEL), an overlay's are found all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel_provisioner.inkernel.shared.packages import packages
from tests.support.bases import Workshop
from tests.support.index import LocalIndex
from tests.support.lib64 import python_of_lib64
from tests.support.wheels import build_wheel

pytestmark = pytest.mark.slow

COMPILED = "py3-none-linux_x86_64.manylinux_2_17_x86_64"


def test_compiled_and_pure_packages_lie_together(tmp_path: Path, index: LocalIndex) -> None:
    """Both can be imported, and uv and we list both, once."""
    shop = Workshop(tmp_path, index)
    shop.stock("cpu")
    python = python_of_lib64(tmp_path / "fedora")
    base = shop.create("cpu", python=str(python)).base
    shop.publish("pure")
    index.publish(build_wheel(shop.wheels, "compiled", tag=COMPILED))
    built = shop.overlay(base, "pure", "compiled")
    assert built.installed == {"pure": "1.0", "compiled": "1.0"}
    shop.enter(built)
    assert built.python("import sysconfig; print(sysconfig.get_path('platlib'))").endswith(
        f"lib64/{built.python('import os; print(os.__file__)').split('/')[-2]}/site-packages"
    )
    assert built.python("import pure, compiled; print(pure.__version__, compiled.__version__)") == "1.0 1.0"
    assert [package.name for package in packages(built.path)] == ["compiled", "pure"]
    assert (built.path / "lib64").readlink() == Path("lib")
    listed = shop.pip(built, "list", "--format", "freeze").splitlines()
    assert [line for line in listed if line.startswith(("pure", "compiled"))] == [
        "compiled==1.0",
        "pure==1.0",
    ]
