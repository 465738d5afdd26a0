"""The model overlay that uv is shown: one for each base, never installed into, and no notebook's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kernel_provisioner.overlay.model import MODELS, model_of, sweep_models
from kernel_provisioner.overlay.skeleton import remove_tree
from kernel_provisioner.system import records
from kernel_provisioner.uv.discovery import uv_path
from tests.support.bases import Workshop
from tests.support.index import LocalIndex
from tests.support.tree import tree_hash

pytestmark = pytest.mark.slow


@pytest.fixture
def shop(tmp_path: Path, index: LocalIndex) -> Workshop:
    """A workshop with one cpu base to come, and two packages, one with a script."""
    made = Workshop(tmp_path, index)
    made.stock("cpu")
    made.publish("plain")
    code = "def say():\n    import sys\n    print(sys.prefix)\n"
    made.publish(
        "speaks", entry_points={"console_scripts": {"speak": "speaks:say"}}, files={"speaks.py": code}
    )
    return made


def test_builds_share_the_model_and_leave_it_as_it_is(shop: Workshop) -> None:
    """Two notebooks, one with a script that has to run in its own overlay and whose RECORD stays right."""
    base = shop.create("cpu").base
    first = shop.overlay(base, "plain", notebook="first.ipynb")
    (model,) = (path for path in (shop.overlays.root / MODELS).iterdir() if path.is_dir())
    before = tree_hash(model)
    second = shop.overlay(base, "speaks", notebook="second.ipynb")
    assert first.ready
    assert second.ready
    assert tree_hash(model) == before
    shop.enter(second)
    assert str(model) not in (second.path / "bin/speak").read_text(encoding="utf-8")
    assert str(second.path / "bin/python") in (second.path / "bin/speak").read_text(encoding="utf-8")
    assert "compatible" in shop.pip(second, "check")
    for site in second.path.glob("lib/python*/site-packages"):
        assert [fault for one in records.dist_infos(site) for fault in records.check(one)] == []


def test_a_model_that_was_cut_short_is_made_anew(shop: Workshop) -> None:
    """Only what was written to its end is a model."""
    base = shop.create("cpu").base
    shop.overlays.prepare()
    python = model_of(base, shop.overlays.root, uv=uv_path())
    (python.parent.parent / "complete").unlink()
    (python.parent.parent / "constraints.txt").unlink()
    assert model_of(base, shop.overlays.root, uv=uv_path()) == python
    assert (python.parent.parent / "constraints.txt").exists()


def test_a_base_that_was_looked_at_again_has_another_model(shop: Workshop) -> None:
    """An adopted base may change; what uv remembers of the old model would be wrong."""
    adopted = shop.adopt(shop.environment("mine", "torch", "ipykernel")).base
    shop.overlays.prepare()
    before = model_of(adopted, shop.overlays.root, uv=uv_path())
    shop.install(shop.home / "mine", "plain", tag="cpu")
    again = shop.adopt(shop.home / "mine").base
    assert model_of(again, shop.overlays.root, uv=uv_path()) != before


def test_the_model_of_a_base_that_is_gone_goes_too(shop: Workshop) -> None:
    """The collector takes it; that of another base stays."""
    base = shop.create("cpu").base
    shop.overlays.prepare()
    python = model_of(base, shop.overlays.root, uv=uv_path())
    sweep_models(shop.overlays.root)
    assert python.parent.is_dir()
    shop.command("base", "remove", base.manifest.id)
    done = shop.command("prune", "--json", TORCH_OVERLAY_ROOT=str(shop.overlays.root))
    assert json.loads(done.stdout)["removed"] == []
    assert not python.parent.exists()
    remove_tree(shop.overlays.root)
