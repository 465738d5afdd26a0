"""A GPU in the panel: its name, and its free memory as it changes.

NVIDIA's library is a tiny one with the real one's functions, and ``/dev/nvidia0`` stands in a ``/dev`` that
the server alone sees: this machine need not have a GPU.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.bases import Workshop
from tests.support.notebooks import write_notebook
from tests.support.parts import need
from tests.support.server import jupyter_server

from .conftest import REPOSITORY, Open

pytestmark = [
    pytest.mark.system, pytest.mark.browser, pytest.mark.network, pytest.mark.slow, pytest.mark.root,
]  # fmt: skip

APART = """\
#!/bin/sh
exec unshare --mount sh -euc '
mount --make-rprivate /
mount -t tmpfs none {dev}
for name in full null random tty urandom zero; do touch {dev}/$name; mount --bind /dev/$name {dev}/$name; done
for name in pts shm; do mkdir {dev}/$name; mount --rbind /dev/$name {dev}/$name; done
ln -s /proc/self/fd {dev}/fd
ln -s pts/ptmx {dev}/ptmx
touch {dev}/nvidia0
mount --rbind {dev} /dev
exec {python} "$@"' sh "$@"
"""


def with_gpu(place: Path) -> Path:
    """A Python for which there is a GPU; its free memory is what ``place/free`` says."""
    (place / "dev").mkdir(parents=True)
    (place / "free").write_text("79")
    source = REPOSITORY / "tests/data/nvml.c"
    library = place / "libnvidia-ml.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    python = place / "python"
    python.write_text(APART.format(dev=shlex.quote(str(place / "dev")), python=shlex.quote(sys.executable)))
    python.chmod(0o755)
    return python


def test_a_gpu_is_named_and_its_free_memory_follows(bare: Workshop, tab: Open, tmp_path: Path) -> None:
    """In the toolbar the chip says H100; the panel says how much of it is free, without a click."""
    need(shutil.which("gcc"), "no C compiler; on Debian: apt install gcc libc6-dev")
    need(os.getuid() == 0, "a /dev of its own takes root")
    bare.create("cu126")
    python = with_gpu(tmp_path / "gpu")
    env = {**bare.env, "LD_LIBRARY_PATH": str(tmp_path / "gpu"), "GPU_FREE": str(tmp_path / "gpu/free")}
    work = bare.home / "work"
    write_notebook(work / "train.ipynb", "import torch; torch.__version__", kernel="torch")
    with jupyter_server(work, env, app="jupyterlab", python=str(python)) as server:
        page = tab(server)
        page.open("train.ipynb")
        assert page.run(0) == "'2.6.0+cu126'"
        expect(page.chip).to_have_text("torch 2.6 · cu126 · H100")
        panel = page.show_panel()
        expect(panel).to_contain_text("NVIDIA H100 80GB HBM3")
        expect(panel).to_contain_text("79.0 GB of 80.0 GB free")
        (tmp_path / "gpu/free").write_text("12")
        expect(panel).to_contain_text("12.0 GB of 80.0 GB free")
        expect(panel.get_by_label("Memory in use of NVIDIA H100 80GB HBM3")).to_have_attribute(
            "value", str(68 * 10**9)
        )
        page.picture("gpu")
