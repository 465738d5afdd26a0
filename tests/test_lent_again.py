"""An overlay that another installation made, which is gone, is served by the one that starts its kernel."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from kernel_provisioner.overlay.lent import is_served_by_us, lent_script
from kernel_provisioner.overlay.nested import MODULE
from kernel_provisioner.overlay.skeleton import HOOK, renew_lent, site_packages
from kernel_provisioner.overlay.store import Generation
from tests.support.bases import REPOSITORY, Bench, Built
from tests.support.launches import launches
from tests.support.notebooks import write_notebook
from tests.support.tree import tree_hash

GONE = "/gone/env/lib/python3.9/site-packages"


@pytest.fixture
def moved(bench: Bench) -> Path:
    """An overlay as the installation made it that was at ``GONE``, with an older uv."""
    notebook = write_notebook(bench.home / bench.notebook, torch_env={"accelerator": "cpu"})
    overlay = _launched(bench, notebook)
    site = site_packages(overlay)
    script, module = overlay / "bin/uv", site / f"{MODULE}.py"
    spec = overlay / "share/jupyter/kernels/torch/kernel.json"
    for path in (script, module, site / f"{HOOK}.py"):
        path.write_text(path.read_text().replace(str(REPOSITORY), GONE))
    script.write_text(script.read_text().replace(str(Path(sys.prefix)), "/gone/env"))
    spec.write_text(spec.read_text().replace(sys.executable, "/gone/env/bin/python"))
    version = metadata.version("uv")
    (site / f"uv-{version}.dist-info").rename(site / "uv-0.0.1.dist-info")
    constraints = overlay / "constraints.txt"
    constraints.write_text(constraints.read_text().replace(f"uv=={version}", "uv==0.0.1"))
    return overlay


def test_the_next_launch_lets_it_work_again(bench: Bench, moved: Path) -> None:
    """uv installs there, and programs there start torch kernels; all is as in a new overlay."""
    bench.publish("by-hand")
    again = _launched(bench, bench.home / bench.notebook)
    assert again == moved, "no other overlay is begun"
    left = [path for path in moved.rglob("*") if path.is_file() and b"/gone/env" in path.read_bytes()]
    assert left == []
    site = site_packages(moved)
    version = metadata.version("uv")
    assert [path.name for path in site.glob("uv-*.dist-info")] == [f"uv-{version}.dist-info"]
    assert f"uv=={version}" in (moved / "constraints.txt").read_text().splitlines()
    assert json.loads((moved / "share/jupyter/kernels/torch/kernel.json").read_text())["argv"][0] == (
        sys.executable
    )
    assert "by-hand==1.0" in bench.pip(_built(moved), "install", "by-hand")


def test_who_finds_all_in_order_changes_nothing(bench: Bench, moved: Path) -> None:
    """A launch looks at it each time."""
    base = bench.base()
    renew_lent(moved, base)
    before, stamp = tree_hash(moved), (moved / "bin/uv").stat().st_ino
    renew_lent(moved, base)
    assert (tree_hash(moved), (moved / "bin/uv").stat().st_ino) == (before, stamp)


def test_a_uv_of_the_users_stays_as_it_is(bench: Bench, moved: Path) -> None:
    """Behind ``bin/uv``, where a package brings it, and in its place, where it was installed by hand."""
    own = moved / "bin/uv.own"
    own.write_bytes(b"\x7fELF own")
    renew_lent(moved, bench.base())
    assert own.read_bytes() == b"\x7fELF own"
    assert is_served_by_us(lent_script(moved))
    (moved / "bin/uv").write_bytes(b"\x7fELF by hand")
    module = site_packages(moved) / f"{MODULE}.py"
    right = module.read_text()
    module.write_text(right.replace(str(REPOSITORY), GONE))
    renew_lent(moved, bench.base())
    assert (moved / "bin/uv").read_bytes() == b"\x7fELF by hand"
    assert module.read_text() == right


def test_a_uv_of_the_bases_own_is_the_one_that_goes_on_running(bench: Bench, moved: Path) -> None:
    """It did not move with the installation."""
    base = bench.base()
    its = shutil.which("true")
    assert its
    script = lent_script(moved)
    old = next(line for line in script.splitlines() if line.startswith("uv="))
    (moved / "bin/uv").write_text(script.replace(old, f"uv={its}"))
    with_uv = {**base.manifest.distributions, "uv": "0.0.1"}
    renew_lent(moved, base._replace(manifest=base.manifest._replace(distributions=with_uv)))
    assert f"\nuv={its}\n" in lent_script(moved)
    assert is_served_by_us(lent_script(moved))
    assert list(site_packages(moved).glob("uv-0.0.1.dist-info")), "which is the base's receipt"


def _launched(bench: Bench, notebook: Path) -> Path:
    bench.base()
    env = {**bench.env, "TORCH_OVERLAY_ROOT": str(bench.overlays.root)}
    (told,) = launches([notebook], env)
    assert told["overlay"], told["failure"]
    return Path(told["overlay"])


def _built(overlay: Path) -> Built:
    return Built(Generation(overlay), subprocess.CompletedProcess((), 0))
