"""``jupyter overlay doctor``: each thing that can be wrong on a machine is named with its fix."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kernel_provisioner.system import locks
from tests.support.bases import Workshop
from tests.support.index import LocalIndex
from tests.support.tree import tree_hash


@pytest.fixture
def shop(tmp_path: Path, index: LocalIndex) -> Workshop:
    """A machine without a GPU, with one cpu base of a fake torch."""
    shop = Workshop(tmp_path, index, TORCH_OVERLAY_ROOT=str(tmp_path / "overlays"), CUDA_VISIBLE_DEVICES="")
    shop.stock("cpu")
    shop.create("cpu")
    return shop


def wrong(shop: Workshop, *words: str, **more: str) -> dict[str, str]:
    """What is wrong, with the fix; the exit status must agree."""
    done = shop.command("doctor", "--json", *words, check=False, **more)
    found = {entry["text"]: entry["fix"] for entry in json.loads(done.stdout) if entry["level"] == "wrong"}
    assert done.returncode == bool(found), done.stderr
    assert "Traceback" not in done.stderr
    return found


def test_a_machine_in_order_is_found_so(shop: Workshop) -> None:
    """Every part is named, nothing is changed, and the exit status is 0."""
    before = tree_hash(shop.data_dir)
    done = shop.command("doctor")
    for word in ("hardware", "cpu-torch2.6.0", "torch-cpu", "provisioner", "uv ", "overlays", "all is well"):
        assert word in done.stdout
    assert tree_hash(shop.data_dir) == before
    assert not (shop.home / "overlays").exists()


def test_no_base_is_wrong_and_the_fix_makes_one(shop: Workshop) -> None:
    """What a fresh machine hears."""
    ((text, fix),) = wrong(shop, JUPYTER_DATA_DIR=str(shop.home / "elsewhere")).items()
    assert "no torch base" in text
    assert "jupyter overlay base create" in fix


def test_a_preference_that_is_none_or_cannot_be_met_is_told(shop: Workshop) -> None:
    """The one stops every kernel, the other is passed over by all."""
    ((text, fix),) = wrong(shop, TORCH_OVERLAY_ACCELERATOR="gpu").items()
    assert text == "this machine's preference, 'gpu', is no accelerator"
    assert "cu126" in fix
    told = shop.command("doctor", TORCH_OVERLAY_ACCELERATOR="cu999").stdout
    assert "No base of cu999, which this machine prefers, fits: torch-cpu was chosen." in " ".join(
        told.split()
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("wram = True", "TorchOverlayProvisioner has no 'wram'; did you mean warm?"),
        (
            "warm = 'yes'",
            (
                "The 'warm' trait of a TorchOverlayProvisioner instance expected a boolean or"
                " any of ['auto'], not the str 'yes'."
            ),
        ),
    ],
)
def test_a_mistake_that_stops_no_kernel_is_told(shop: Workshop, line: str, said: str) -> None:
    """How a server starts kernels: where that is misspelt notebooks run, and doctor names it."""
    configs = shop.home / "configs"
    configs.mkdir()
    (configs / "jupyter_overlay_config.py").write_text(f"c.TorchOverlayProvisioner.{line}\n")
    ((text, fix),) = wrong(shop, JUPYTER_CONFIG_PATH=str(configs)).items()
    assert text == said
    assert "jupyter_overlay_config.py" in fix


def test_a_damaged_base_is_named_with_its_fix(shop: Workshop) -> None:
    """A manifest cut short; the kernel that is left without a base is told too."""
    (manifest,) = shop.data_dir.glob("torch-bases/*/base.json")
    manifest.write_text(manifest.read_text()[:100])
    found = wrong(shop)
    assert any(str(manifest) in text and "base" in fix for text, fix in found.items())
    assert any("torch-cpu has no cpu base" in text for text in found)


def test_what_is_left_of_a_base_is_named_with_its_fix(shop: Workshop) -> None:
    """A removal was killed: gigabytes that no register names; not while one is being made or removed."""
    (manifest,) = shop.data_dir.glob("torch-bases/*/base.json")
    manifest.unlink()
    left = manifest.parent
    text = f"{left} is what a creation or removal has left that was ended, and takes up space"
    assert wrong(shop)[text] == f"jupyter overlay base remove {left.name}"
    with locks.exclusive(left.parent / f"{left.name}.new.lock"):
        assert text not in wrong(shop)


def test_a_base_whose_parts_are_gone_is_named(shop: Workshop) -> None:
    """Its register is whole, and what it registers is not."""
    environment = shop.environment("mine", "torch", "ipykernel")
    manifest = shop.adopt(environment).base.manifest
    shutil.rmtree(environment)
    found = wrong(shop)
    assert any(manifest.id in text and "can start no kernel" in text for text in found)


def test_a_base_without_its_kernel_is_named(shop: Workshop) -> None:
    """Nobody could pick it in JupyterLab; making it again registers the kernel."""
    shutil.rmtree(shop.data_dir / "kernels/torch-cpu")
    assert wrong(shop)["the cpu base has no kernel torch-cpu"].startswith("jupyter overlay base create cpu")


def test_a_kernel_whose_python_is_gone_is_named(shop: Workshop) -> None:
    """The environment that registered it was removed: clients that start it directly cannot."""
    path = shop.data_dir / "kernels/torch-cpu/kernel.json"
    spec = json.loads(path.read_text())
    spec["argv"][0] = "/nowhere/bin/python"
    path.write_text(json.dumps(spec))
    ((text, fix),) = wrong(shop).items()
    assert "/nowhere/bin/python" in text
    assert "jupyter overlay base create cpu" in fix


def test_a_tag_that_means_a_missing_base_is_named(shop: Workshop) -> None:
    """Somebody removed a base's directory by hand."""
    (shop.data_dir / "torch-bases/cpu.alias").write_text("cpu-torch1.0.0-py310-gone\n")
    ((text, fix),) = wrong(shop).items()
    assert "cpu-torch1.0.0-py310-gone" in text
    assert fix.startswith("jupyter overlay base default cpu cpu-torch2.6.0")


def test_a_root_that_takes_no_overlays_is_named(shop: Workshop) -> None:
    """It lies below something that is no directory."""
    (shop.home / "file").touch()
    found = wrong(shop, TORCH_OVERLAY_ROOT=str(shop.home / "file/overlays"))
    assert any(str(shop.home / "file") in text and "TORCH_OVERLAY_ROOT" in fix for text, fix in found.items())


def test_a_broken_configuration_file_is_named_and_no_traceback_shown(shop: Workshop) -> None:
    """Its syntax, or a value that a setting does not take."""
    path = Path(shop.env["JUPYTER_CONFIG_DIR"], "jupyter_overlay_config.py")
    for content in ("c.TorchPolicy.pins = (", 'c.TorchPolicy.pins = "none"', "1 / 0"):
        path.write_text(content)
        ((text, fix),) = wrong(shop).items()
        assert "jupyter_overlay_config" in text
        assert "correct" in fix


def test_the_indexes_are_asked_only_on_request(shop: Workshop, index: LocalIndex) -> None:
    """Reached, both answer; out of reach, the one that fails is named."""
    index.asked.clear()
    assert not wrong(shop)
    assert not index.asked
    assert not wrong(shop, "--online")
    assert index.asked_for("torch")
    index.misbehave("/whl/cpu", 503)
    ((text, fix),) = wrong(shop, "--online").items()
    assert "/whl/cpu/torch/" in text
    assert "index_template" in fix
    index.behave()
    index.misbehave("/simple", 503)
    ((text, _),) = wrong(shop, "--online").items()
    assert "uv does not reach" in text


def test_a_jupyterlab_that_cannot_draw_widgets_is_told(shop: Workshop) -> None:
    """Widgets and bars of tqdm need an extension in JupyterLab's own environment, wherever that is."""
    theirs = shop.home / "lab"
    command = theirs / "bin/jupyter-lab"
    command.parent.mkdir(parents=True)
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    path = f"{command.parent}:{shop.env['PATH']}"
    fix = f"{command.parent}/python -m pip install jupyterlab_widgets"
    assert fix in shop.command("doctor", PATH=path).stdout
    (theirs / "share/jupyter/labextensions/@jupyter-widgets/jupyterlab-manager").mkdir(parents=True)
    assert "jupyterlab_widgets" not in shop.command("doctor", PATH=path).stdout
    assert "jupyterlab_widgets" not in shop.command("doctor").stdout, "it has come along with this program"
