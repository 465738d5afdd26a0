"""The real thing: a CUDA base with PyPI's own torch, several gigabytes of it.

``make test-cuda`` runs this; ``make test`` does not. No GPU is needed, and none is looked at:
what is shown is that torch and NVIDIA's libraries are fetched once, for the base, and never for
a notebook. PyTorch's index stands behind a local one here, which offers PyPI's torchvision on the
page of the base's tag, because PyPI's builds are the builds of that tag. Set
``KERNEL_PROVISIONER_TEST_CUDA_BASE`` to a Jupyter data directory that holds such a base already.

What was measured goes to ``test-artefacts/cuda.json``; docs/cuda.md tells it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kernel_provisioner.base import registry
from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.inkernel.shared.disk import usage
from kernel_provisioner.inkernel.shared.packages import packages
from tests.support.environ import clean_environment, default_index
from tests.support.index import LocalIndex, serve_index
from tests.support.notebooks import write_notebook
from tests.support.server import JupyterServer, jupyter_server
from tests.support.tree import tree_hash
from tests.support.waiting import patient

TAG = "cu130"
"""What PyPI's torch is from 2.11 to 2.14; the base gets the newest of these."""

KERNEL = f"torch-{TAG}"
EXTRAS = ["torchvision", "timm", "efficientnet-pytorch", "lightning", "bitsandbytes"]
IMPORTS = """
import json, bitsandbytes, efficientnet_pytorch, lightning, timm, torch, torchvision
boxes = torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
shape = timm.create_model("resnet18", num_classes=7)(torch.zeros(1, 3, 64, 64)).shape
efficientnet_pytorch.EfficientNet.from_name("efficientnet-b0")
lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
bitsandbytes.nn.Linear4bit(8, 8)
print(json.dumps({
    "torch": torch.__version__, "file": torch.__file__, "cuda": torch.version.cuda,
    "gpu": torch.cuda.is_available(), "boxes": boxes.tolist(), "shape": list(shape),
    "torchvision": torchvision.__version__, "versions": [timm.__version__, efficientnet_pytorch.__version__],
}))
"""
WITHIN = patient(3600.0)
"""Seconds for making an environment of this size."""

pytestmark = [pytest.mark.cuda, pytest.mark.network, pytest.mark.slow]


@dataclasses.dataclass
class Place:
    """Everything that these tests share: where they work, the index in front, the base."""

    home: Path
    index: LocalIndex
    data_dir: Path
    measured: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def base(self) -> RegisteredBase:
        """The CUDA base."""
        return registry.read_register([self.data_dir / registry.DIRECTORY]).get(TAG)

    def environment(self, data_dir: Path | None = None) -> dict[str, str]:
        """An environment that sees the base, no GPU, and the index alone, with caches of its own."""
        return clean_environment(
            self.home,
            index=self.index,
            JUPYTER_PATH=str(data_dir or self.data_dir),
            CUDA_VISIBLE_DEVICES="",
        )

    def overlay(self, notebook: str) -> Path:
        """The newest overlay of a notebook in the server's folder."""
        return max((self.home / "cache/torch-overlays").glob(f"{notebook}-*/[0-9]*"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The base, made by the command that a user types, and an index that keeps a record."""
    home = tmp_path_factory.mktemp("cuda")
    with serve_index(upstream=default_index()) as index:
        if ready := os.environ.get("KERNEL_PROVISIONER_TEST_CUDA_BASE"):
            place = Place(home, index, Path(ready))
        else:
            place = Place(home, index, home / "jupyter-data")
            env = clean_environment(home)
            began = time.monotonic()
            _run(_command("base", "create", TAG, "--installer", "pip", "--user", "--json"), env)
            place.measured["base, seconds"] = round(time.monotonic() - began, 1)
        torch = place.base.manifest.torch
        for wheel in _fitting_torchvision(torch, home / "wheels"):
            index.publish(wheel, tag=TAG)
        yield place
    artefacts = Path("test-artefacts")
    artefacts.mkdir(exist_ok=True)
    (artefacts / "cuda.json").write_text(json.dumps(place.measured, indent=1) + "\n", encoding="utf-8")
    for folder, _, _ in os.walk(home):  # a base is read-only, and gigabytes
        Path(folder).chmod(0o700)
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def server(place: Place) -> Iterator[JupyterServer]:
    """One Jupyter server for this module, which sees the base and no GPU."""
    with jupyter_server(place.home / "work", place.environment()) as running:
        yield running


def test_extras_come_to_a_cuda_base_without_a_second_torch(place: Place, server: JupyterServer) -> None:
    """What people put beside a CUDA torch installs and works; not one byte of NVIDIA's is fetched."""
    base = place.base.manifest
    write_notebook(server.root / "vision.ipynb", torch_env={"extras": EXTRAS})
    with server.session("vision.ipynb", KERNEL) as session:
        done = session.execute(IMPORTS)
        assert done.status == "ok", done.text
        answer = json.loads(done.stdout)
    assert answer["torch"] == f"{base.torch}+{TAG}", "PyPI's wheel bears no label, torch itself does"
    assert answer["file"].startswith(base.prefix)
    assert answer["cuda"] == "13.0"
    assert answer["gpu"] is False
    assert (answer["boxes"], answer["shape"]) == ([0], [1, 7])
    overlay = place.overlay("vision")
    added = {package.name: package.version for package in packages(overlay)}
    assert set(EXTRAS) <= added.keys()
    assert not added.keys() & base.fixed
    (site,) = overlay.glob("lib/python*/site-packages")
    there = {entry.name for entry in site.iterdir()}
    assert not there & {"torch", "nvidia", "triton", "cuda", "functorch", "torchgen"}
    asked = {one.path.split("/")[-2] for one in place.index.asked if one.path.endswith("/")}
    assert asked, "the index was asked for the extras"
    assert not asked & base.fixed, "a page that nobody asks for is a file that nobody fetches"
    cached = _files(place.home / "uv-cache")
    assert not [path for path in cached if "nvidia" in path.parts or path.name.startswith("libtorch")]
    place.measured["extras"] = {
        "added": added,
        "fetched, bytes": sum(path.lstat().st_size for path in cached),
        "largest file fetched": max((path.lstat().st_size, path.name) for path in cached),
        "index pages asked for": len(place.index.asked),
        "of them for the base's fixed packages": len(asked & base.fixed),
    }


def test_a_newer_torch_on_the_index_stays_there(place: Place, server: JupyterServer) -> None:
    """PyPI has a newer torch: upgrading, reinstalling or removing it in a notebook fetches nothing big."""
    base, before = place.base, tree_hash(Path(place.base.manifest.prefix))
    write_notebook(server.root / "upgrade.ipynb", torch_env={})
    with server.session("upgrade.ipynb", KERNEL) as session:
        for cell in (
            "!uv pip install -U torch",
            "!uv pip install --reinstall torch",
            "!uv pip uninstall torch",
            "%pip install -q -U torch",
            "%pip install -q --force-reinstall torch",
        ):
            session.execute(cell, timeout=patient(280))
        session.restart()
        done = session.execute("import torch; print(torch.__version__, torch.__file__)")
        assert done.stdout.startswith(f"{base.manifest.torch}+{TAG} {base.manifest.prefix}"), done.text
    (site,) = place.overlay("upgrade").glob("lib/python*/site-packages")
    assert not (site / "torch").exists()
    assert not (site / "nvidia").exists()
    fetched = [*_files(place.home / "uv-cache"), *_files(place.home / "pip-cache")]
    largest = max(path.lstat().st_size for path in fetched)
    assert largest < 100_000_000, "torch's wheel is five times as large"
    assert tree_hash(Path(base.manifest.prefix)) == before


def test_an_adopted_environment_gives_the_same_answers(place: Place) -> None:
    """The same environment, adopted instead of created: the same manifest, and the same extras fit."""
    created = place.base
    data_dir = place.home / "adopted"
    env = place.environment(data_dir) | {"JUPYTER_DATA_DIR": str(data_dir)}
    _run(_command("base", "adopt", created.manifest.prefix, "--user", "--json"), env)
    adopted = registry.read_register([data_dir / registry.DIRECTORY]).get(TAG)
    differs = {"id", "adopted", "fingerprint", "installer", "created", "bytes"}
    ours, theirs = created.manifest.as_dict(), adopted.manifest.as_dict()
    assert {key for key in ours if ours[key] != theirs[key]} <= differs
    assert theirs["bytes"] == pytest.approx(ours["bytes"], rel=1e-4), "file systems allot blocks late"
    assert adopted.manifest.adopted
    assert adopted.skeleton_path.read_bytes() == created.skeleton_path.read_bytes()
    with jupyter_server(place.home / "work-adopted", env) as server:
        write_notebook(server.root / "adopted.ipynb", torch_env={"extras": EXTRAS})
        with server.session("adopted.ipynb", KERNEL) as session:
            done = session.execute(IMPORTS)
            assert done.status == "ok", done.text
            assert json.loads(done.stdout)["file"].startswith(created.manifest.prefix)
    state = _state(place.overlay("adopted"))
    assert state["base"] == adopted.manifest.id
    assert state["installed"] == _state(place.overlay("vision"))["installed"]
    place.measured["adopted"] = {"id": adopted.manifest.id, "installed": len(state["installed"])}


def test_the_picked_kernel_starts_without_a_gpu_and_says_so(server: JupyterServer) -> None:
    """Who picks the CUDA kernel gets it, also where there is no GPU; one line tells."""
    write_notebook(server.root / "picked.ipynb", torch_env={})
    with server.session("picked.ipynb", KERNEL) as session:
        done = session.execute("import torch; print(torch.version.cuda, torch.cuda.is_available())")
        assert done.status == "ok", done.text
        assert done.stdout == "13.0 False\n"
        assert "GPU" in done.text.replace(done.stdout, ""), "the notice"


def test_cuda_is_refused_where_there_is_no_gpu(place: Place, server: JupyterServer) -> None:
    """A notebook that asks for cuda never gets the cpu silently: the cell tells the reason and the fix."""
    write_notebook(server.root / "asks.ipynb", torch_env={"accelerator": "cuda"})
    with server.session("asks.ipynb", "torch") as session:
        done = session.execute("print('ran')")
        assert done.status == "error"
        assert done.stdout == ""
        assert place.base.manifest.id in done.text
        assert "GPU" in done.text
        assert "fix" in done.text


def test_an_overlay_takes_next_to_nothing_beside_the_base(place: Place, server: JupyterServer) -> None:
    """Bytes and files of the base, of overlays, and of a private environment with the same packages."""
    base = place.base.manifest
    write_notebook(server.root / "plain.ipynb", torch_env={})
    with server.session("plain.ipynb", KERNEL) as session:
        assert session.execute("import torch").status == "ok"
    private = place.home / "private"
    began = time.monotonic()
    _make_private(place, private)
    seconds = round(time.monotonic() - began, 1)
    held = usage(base.site_dirs)
    plain, vision = usage([place.overlay("plain")]), usage([place.overlay("vision")])
    alone = usage([private])
    place.measured["on disk"] = {
        "base": dataclasses.asdict(held) | {"distributions": len(base.distributions)},
        "overlay without extras": dataclasses.asdict(plain),
        "overlay with the extras": dataclasses.asdict(vision),
        "private environment with the same": dataclasses.asdict(alone) | {"seconds": seconds},
    }
    shutil.rmtree(private)
    assert plain.own_bytes <= 1_500_000
    assert plain.own_files <= 400
    assert (vision.own_bytes + vision.linked_bytes) * 50 < alone.own_bytes


def _make_private(place: Place, private: Path) -> None:
    """The environment that each notebook would need without this package, as pip makes it."""
    env = clean_environment(place.home)
    added = [f"{package.name}=={package.version}" for package in packages(place.overlay("vision"))]
    wanted = place.home / "private.txt"
    wanted.write_text("\n".join([*place.base.manifest.constraints, *added]) + "\n", encoding="utf-8")
    _run([sys.executable, "-m", "venv", str(private)], env)
    _run([str(private / "bin/pip"), "install", "--quiet", "--no-deps", "-r", str(wanted)], env)


def _fitting_torchvision(torch: str, folder: Path) -> list[Path]:
    """PyPI's own torchvision for this torch, fetched as pip would."""
    pip = [sys.executable, "-m", "pip"]
    wheels = ["--quiet", "--only-binary", ":all:"]
    resolve = ["install", "--dry-run", "--ignore-installed", *wheels, "--report", "-"]
    report = json.loads(_run([*pip, *resolve, "torchvision", f"torch=={torch}"], dict(os.environ)))
    (version,) = (
        item["metadata"]["version"] for item in report["install"] if item["metadata"]["name"] == "torchvision"
    )
    download = ["download", "--no-deps", *wheels, "--dest", str(folder)]
    _run([*pip, *download, f"torchvision=={version}"], dict(os.environ))
    return sorted(folder.glob("torchvision-*.whl"))


def _state(overlay: Path) -> dict[str, Any]:
    return dict(json.loads((overlay / "overlay.json").read_bytes()))


def _files(tree: Path) -> list[Path]:
    return [Path(folder, name) for folder, _, names in os.walk(tree) for name in names]


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "kernel_provisioner.cli.app", *words]


def _run(command: list[str], env: Mapping[str, str]) -> str:
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=WITHIN, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout
