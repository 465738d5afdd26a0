"""What users install: the wheel, built for real, brings the plugin, the command and the kernel."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import uv
from jupyter_client.kernelspec import KernelSpec

from kernel_provisioner.base.kernels import kernel_spec
from tests.support.environ import clean_environment

REPOSITORY = Path(__file__).parents[1]

pytestmark = [pytest.mark.system, pytest.mark.network, pytest.mark.slow]  # the build fetches hatchling


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


def test_a_package_index_takes_both_archives(tmp_path: Path) -> None:
    """``make dist``: the sdist holds what is in version control; twine accepts both."""
    shutil.copytree(REPOSITORY, tmp_path / "tree", ignore=shutil.ignore_patterns(".venv*", "node_modules"))
    stray = tmp_path / "tree/labextension/node_modules/stray.js"
    stray.parent.mkdir()
    stray.write_text("")
    env, out = clean_environment(tmp_path), tmp_path / "dist"
    for command in (
        [uv.find_uv_bin(), "build", "--quiet", "--out-dir", str(out), str(tmp_path / "tree")],
        [
            sys.executable,
            "-m",
            "twine",
            "check",
            "--strict",
            *(str(out / name) for name in ("*.whl", "*.gz")),
        ],
    ):
        subprocess.run(command, env=env, cwd=tmp_path, check=True)
    (archive,) = out.glob("*.tar.gz")
    with tarfile.open(archive) as sdist:
        members = {member.name.split("/", 1)[1] for member in sdist.getmembers()}
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    kept = subprocess.run(listing, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert members == {*kept.stdout.splitlines(), "PKG-INFO"}


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


def test_jupyterlab_finds_the_extension(installed: Path) -> None:
    """It is installed as it was built, with the word on who installed it."""
    folder = installed / "share/jupyter/labextensions/kernel-provisioner"
    load = json.loads((folder / "package.json").read_text())["jupyterlab"]["_build"]["load"]
    assert (folder / load).is_file()
    assert json.loads((folder / "install.json").read_text())["packageName"] == "kernel-provisioner"


def test_jupyter_server_loads_the_extension(installed: Path) -> None:
    """No command has to be given for it."""
    file = installed / "etc/jupyter/jupyter_server_config.d/kernel_provisioner.json"
    extensions = json.loads(file.read_text())["ServerApp"]["jpserver_extensions"]
    assert extensions == {"kernel_provisioner.server": True}


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
