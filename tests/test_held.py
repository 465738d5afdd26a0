"""Installs by hand are held, whatever their kind: no second torch, no harm to the base, a clear refusal."""

from __future__ import annotations

import dataclasses
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_provisioner.base.registry import RegisteredBase, read_register
from kernel_provisioner.inkernel.shared.packages import packages
from kernel_provisioner.model.accelerators import DEFAULT_INDEX_TEMPLATE
from kernel_provisioner.overlay.environment import kernel_environment
from kernel_provisioner.overlay.guards import Terms
from kernel_provisioner.overlay.skeleton import write_skeleton
from kernel_provisioner.uv.discovery import uv_path
from tests.conftest import TorchBase
from tests.support.bases import Workshop
from tests.support.environ import clean_environment
from tests.support.index import LocalIndex, serve_index
from tests.support.tree import tree_hash
from tests.support.wheels import build_sdist

NEEDS_TORCH = "torchmetrics"
"""A real package that requires torch, and is small."""

OURS = {"torch", "torchgen", "functorch", "triton", "nvidia"}
"""What lies in site-packages of an environment with a torch of its own."""


@dataclasses.dataclass(frozen=True)
class Overlay:
    """An overlay without extras, and the environment of a kernel in it."""

    path: Path
    base: RegisteredBase
    env: dict[str, str]

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        """A command line as a cell would have it; one output, as people see it."""
        return subprocess.run(shlex.split(line), env=self.env, cwd=self.path, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)  # fmt: skip

    @property
    def second_torch(self) -> list[str]:
        """What it holds of torch and its libraries itself; receipts are none of it."""
        return [
            entry.name
            for site in self.path.glob("lib*/python*/site-packages")
            for entry in site.iterdir()
            if entry.name.split(".")[0] in OURS
        ]

    @property
    def bases_torch(self) -> str:
        """Where its Python imports torch from, and which."""
        done = self.run("python -c 'import torch; print(torch.__version__, torch.__file__)'")
        return done.stdout.strip()


def overlay_on(
    base: RegisteredBase, path: Path, environ: dict[str, str], index_template: str = DEFAULT_INDEX_TEMPLATE
) -> Overlay:
    """A new overlay on ``base`` at ``path``, which is made."""
    path.mkdir(parents=True)
    write_skeleton(path, base, Terms(index_template=index_template), uv=uv_path())
    return Overlay(path, base, kernel_environment(environ, path))


# --- with the real torch -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_base(torch_base_home: TorchBase) -> Iterator[RegisteredBase]:
    """The shared real base, which is as it was when this module is done with it."""
    base = read_register([torch_base_home.data_dir / "torch-bases"]).bases[0]
    before = tree_hash(base.directory)
    yield base
    assert tree_hash(base.directory) == before


@pytest.fixture
def overlay(real_base: RegisteredBase, tmp_path: Path) -> Overlay:
    """An overlay on it, with this machine's own registry."""
    env = clean_environment(tmp_path / "home", index=None, inherited=None, UV_NO_PROGRESS="1")
    return overlay_on(real_base, tmp_path / "overlay", env)


def assert_held(overlay: Overlay) -> None:
    """The one torch is the base's, as a module, and as a receipt where there is one."""
    version = overlay.base.manifest.torch
    assert overlay.second_torch == []
    assert overlay.bases_torch.startswith(f"{version} {overlay.base.manifest.prefix}/")
    listed = overlay.run("uv pip list --format freeze").stdout.splitlines()
    assert {line for line in listed if line.startswith("torch==")} <= {f"torch=={version}"}


@pytest.mark.system
@pytest.mark.torch
@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        f"uv pip install {NEEDS_TORCH}",
        f"python -m pip install -q {NEEDS_TORCH}",
        "uv pip install --offline --reinstall torch",
        "uv pip install --reinstall einops",
        "python -m pip install -q --force-reinstall einops",
        "python -m pip install -q -U torch",
        "python -m pip install -q --force-reinstall torch",
        f"python -m pip install -q -U {NEEDS_TORCH}",
        f"python -m pip install -q --force-reinstall {NEEDS_TORCH}",
    ],
)
def test_an_install_that_can_be_held_works(overlay: Overlay, line: str) -> None:
    """It does what it was typed for, on the base's torch."""
    done = overlay.run(line)
    assert done.returncode == 0, done.stdout
    assert_held(overlay)
    assert "torch" not in [package.name for package in packages(overlay.path)], (
        "a receipt is nobody's package"
    )
    wanted = line.rsplit(maxsplit=1)[-1]
    assert overlay.run(f"python -c 'import {wanted}; print({wanted}.__file__)'").returncode == 0


@pytest.mark.system
@pytest.mark.torch
@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    ["uv pip install --offline torch==1.13.1", "python -m pip install -q torch==1.13.1",
     "uv pip install --offline 'torch<2'", "python -m pip install -q 'torch>=99'"],
)  # fmt: skip
def test_another_torch_is_refused_with_a_clear_line(overlay: Overlay, line: str) -> None:
    """It names torch and what was asked for, and changes nothing."""
    before = overlay.run("uv pip list").stdout
    done = overlay.run(line)
    assert done.returncode != 0, done.stdout
    asked = shlex.split(line)[-1]
    assert asked in done.stdout
    assert "Traceback" not in done.stdout
    assert len(done.stdout.splitlines()) < 20
    assert overlay.run("uv pip list").stdout == before
    assert_held(overlay)


@pytest.mark.system
@pytest.mark.torch
@pytest.mark.network
@pytest.mark.slow
def test_torch_can_be_uninstalled_and_comes_back_as_a_receipt(overlay: Overlay) -> None:
    """The base is not touched and torch can still be imported; pip sees the base's, uv takes a receipt."""
    assert overlay.run("uv pip uninstall torch").returncode == 0
    assert overlay.bases_torch.startswith(overlay.base.manifest.torch)
    done = overlay.run(f"python -m pip install -q {NEEDS_TORCH}")
    assert done.returncode == 0, done.stdout
    assert_held(overlay)
    done = overlay.run("uv pip install --offline torch")
    assert done.returncode == 0, done.stdout
    assert f"+ torch=={overlay.base.manifest.torch}" in done.stdout
    assert_held(overlay)


@pytest.mark.system
@pytest.mark.torch
@pytest.mark.network
@pytest.mark.slow
def test_a_sync_takes_away_receipts_and_nothing_else(overlay: Overlay, tmp_path: Path) -> None:
    """``uv pip sync`` removes what its file does not name; the next install puts back what it needs."""
    (tmp_path / "sync.txt").write_text("einops==0.8.1\n")
    done = overlay.run(f"uv pip sync {tmp_path}/sync.txt")
    assert done.returncode == 0, done.stdout
    assert "einops==0.8.1" in overlay.run("uv pip list --format freeze").stdout
    assert overlay.second_torch == []
    assert overlay.bases_torch.startswith(overlay.base.manifest.torch)
    done = overlay.run(f"python -m pip install -q {NEEDS_TORCH}")
    assert done.returncode == 0, done.stdout
    assert_held(overlay)


@pytest.mark.system
@pytest.mark.torch
@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("tool", ["uv pip install --offline", "python -m pip install -q --no-index"])
def test_a_build_in_isolation_sees_the_bases_torch(overlay: Overlay, tmp_path: Path, tool: str) -> None:
    """A source package whose build imports torch and setuptools: its environment is made of receipts."""
    sdist = build_sdist(tmp_path, "compiles", mark=tmp_path / "mark", build_requires=["setuptools", "torch"])
    source = tmp_path / "source"
    source.mkdir()
    subprocess.run(["tar", "xf", sdist, "-C", source, "--strip-components=1"], check=True)
    backend = source / "backend.py"
    told = tmp_path / "told"
    backend.write_text(
        "import setuptools, torch\n"
        f"open({str(told)!r}, 'w').write(torch.__version__ + ' ' + torch.__file__)\n" + backend.read_text()
    )
    done = overlay.run(f"{tool} {source}")
    assert done.returncode == 0, done.stdout
    assert told.read_text().startswith(f"{overlay.base.manifest.torch} {overlay.base.manifest.prefix}/")
    assert_held(overlay)


# --- where PyTorch's own host is given, and cannot be reached ------------------------------------------


@pytest.fixture
def cut_off(tmp_path: Path) -> Iterator[tuple[Workshop, Overlay]]:
    """An overlay on a base that uv made from PyTorch's index; that host cannot be reached, PyPI can.

    uv's torch backend knows one host only.
    """
    with serve_index() as index:
        yield _cut_off(tmp_path, index)


def _cut_off(home: Path, index: LocalIndex) -> tuple[Workshop, Overlay]:
    nowhere = "http://127.0.0.1:9"
    shop = Workshop(home, index)
    shop.stock("cpu")
    shop.tempt()
    shop.publish("needs-torch", requires=["torch"])
    shop.publish("plain")
    base = shop.create("cpu").base
    env = {**shop.env, "HTTPS_PROXY": nowhere, "https_proxy": nowhere, "NO_PROXY": "127.0.0.1"}
    return shop, overlay_on(base, home / "overlay", env)


def test_what_needs_no_look_at_torch_works_cut_off(cut_off: tuple[Workshop, Overlay]) -> None:
    """A package that has nothing to do with torch, again and again."""
    _, overlay = cut_off
    for line in ("uv pip install plain", "uv pip install -U plain", "uv pip install --reinstall plain"):
        assert overlay.run(line).returncode == 0, line
    assert_held(overlay)


@pytest.mark.parametrize("line", ["uv pip install --reinstall torch", "uv pip install -U needs-torch"])
def test_what_looks_torch_up_says_which_host_it_cannot_reach(
    cut_off: tuple[Workshop, Overlay], line: str
) -> None:
    """Nothing is changed, nothing wrong is taken; where another index is set, or offline, it works."""
    shop, overlay = cut_off
    done = overlay.run(line)
    assert done.returncode != 0
    assert "https://download.pytorch.org/whl/cpu/torch/" in done.stdout
    assert_held(overlay)
    mirrored = overlay_on(overlay.base, shop.home / "mirrored", shop.env, shop.index.template)
    done = mirrored.run(line)
    assert done.returncode == 0, done.stdout
    assert_held(mirrored)


@pytest.mark.parametrize(
    "line", ["uv pip install --offline --reinstall torch", "uv pip install --offline torch==2.6.0"]
)
def test_offline_a_receipt_is_reinstalled(cut_off: tuple[Workshop, Overlay], line: str) -> None:
    """``--offline`` is the way where PyTorch's host cannot be reached."""
    _, overlay = cut_off
    done = overlay.run(line)
    assert done.returncode == 0, done.stdout
    assert_held(overlay)
