"""What users install: the wheel, built for real, brings the plugin, the command and the kernel."""

from __future__ import annotations

import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import uv
from jupyter_client.kernelspec import KernelSpec

from kernel_provisioner.base.kernels import kernel_spec
from tests.support.environ import clean_environment

REPOSITORY = Path(__file__).parents[1]

pytestmark = [pytest.mark.network, pytest.mark.slow]  # the build fetches hatchling


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made by pip from this tree as a user's pip makes it."""
    home = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(home / "dist")]
    done = subprocess.run(
        [*command, str(REPOSITORY)],
        env=clean_environment(home),
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = (home / "dist").iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prefix of an environment that holds the wheel and nothing else."""
    home = tmp_path_factory.mktemp("installed")
    venv, install = ("venv", "--python", sys.executable), ("pip", "install", "--no-deps", "--offline")
    for command in ((*venv, home / "venv"), (*install, "--python", home / "venv/bin/python", wheel)):
        subprocess.run([uv.find_uv_bin(), *command], env=clean_environment(home), cwd=home, check=True)
    return home / "venv"


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel: Path) -> None:
    """Every file of the package, types marker and in-kernel side included; no tests, no docs."""
    package = REPOSITORY / "kernel_provisioner"
    expected = {
        file.relative_to(REPOSITORY).as_posix()
        for file in package.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        members = {
            name for name in archive.namelist() if not name.split("/")[0].endswith((".dist-info", ".data"))
        }
    assert members == expected
    assert {"kernel_provisioner/__init__.py", "kernel_provisioner/py.typed"} <= members
    assert any(name.startswith("kernel_provisioner/inkernel/") for name in members)


def test_jupyter_finds_the_provisioner(installed: Path, tmp_path: Path) -> None:
    """jupyter_client loads the class that the entry point names, from the wheel."""
    code = (
        "from jupyter_client.provisioning import KernelProvisionerFactory as Factory\n"
        "print(Factory.instance().provisioners['torch-overlay'].load().__name__)"
    )
    assert _python(installed, tmp_path, "-c", code) == "TorchOverlayProvisioner"


def test_jupyter_finds_the_command(installed: Path, tmp_path: Path) -> None:
    """``jupyter overlay`` looks for an executable ``jupyter-overlay``, which runs."""
    assert "base" in _python(installed, tmp_path, str(installed / "bin/jupyter-overlay"), "--help")


def test_the_kernel_that_chooses_by_itself_is_installed(installed: Path) -> None:
    """``torch (shared)`` is there after the install, with no further command."""
    spec = _kernel(installed)
    assert spec.display_name == "torch (shared)"
    assert spec.language == "python"
    assert spec.interrupt_mode == "signal"
    assert spec.metadata["kernel_provisioner"] == {"provisioner_name": "torch-overlay", "config": {}}
    assert spec.metadata["debugger"] is True
    assert spec.env == kernel_spec(None)["env"]


def test_the_kernel_may_be_spoken_to_in_secret(installed: Path) -> None:
    """jupyter_client's ``transport_encryption`` looks for this word in the metadata."""
    assert _kernel(installed).metadata["supported_encryption"] == "curve"


def test_a_file_beside_the_notebook_is_not_taken_for_the_launcher(installed: Path, tmp_path: Path) -> None:
    """Frontends without provisioners run argv in the notebook's folder, which may be hostile."""
    (tmp_path / "kernel_provisioner.py").write_text("print('hostile')\n")
    argv = _kernel(installed).argv
    assert argv[-2:] == ["-f", "{connection_file}"]
    code = argv[2].replace("main()", "print(main.__module__)")
    assert _python(installed, tmp_path, argv[1], code) == "kernel_provisioner.launch"


def test_the_kernel_has_its_pictures(installed: Path) -> None:
    """Two PNGs of the sizes that their names promise, and the drawing that they were made from."""
    folder = installed / "share/jupyter/kernels/torch"
    for size in (32, 64):
        head = (folder / f"logo-{size}x{size}.png").read_bytes()[:24]
        assert head.startswith(b"\x89PNG")
        assert struct.unpack(">II", head[16:24]) == (size, size)
    assert "<svg" in (folder / "logo-svg.svg").read_text()


def _kernel(installed: Path) -> KernelSpec:
    return KernelSpec.from_resource_dir(str(installed / "share/jupyter/kernels/torch"))


def _python(installed: Path, cwd: Path, *arguments: str) -> str:
    """What this Python prints in ``cwd``, with the installed wheel before anything of this tree."""
    (site,) = installed.glob("lib/python3.*/site-packages")
    env = clean_environment(cwd, index=None, inherited=None, PYTHONPATH=str(site))
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
