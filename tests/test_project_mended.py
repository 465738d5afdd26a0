"""An environment that no longer works says so at activation and by ``doctor``; ``sync`` mends it."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.bases import BUILDS_WITHIN, Workshop
from tests.support.index import LocalIndex

FAULTS = {
    "moved": ("was created for the environment {place}", "was created as {place}, and does not work"),
    "python": ("no Python runs in the environment {place}", "{place} cannot be used: "),
    "base": ("the base with torch is gone, on which the environment {place}", "{place} cannot be used: "),
    "receipts": ("uv and pip no longer find the base's torch in the", "no longer find the base's torch"),
}
"""What can happen, what activation says then, and what doctor does."""


class Bench(Workshop):
    """A machine with one cpu base, whose Python can be taken away, and an environment on it."""

    def __init__(self, home: Path, index: LocalIndex) -> None:
        more = {"TORCH_OVERLAY_ROOT": str(home / "overlays"), "CUDA_VISIBLE_DEVICES": ""}
        super().__init__(home, index, **more)
        self.stock("cpu")
        say = "def say():\n    import sys; print(sys.prefix)\n"
        for name, module in (("einops", "einops"), ("by-hand", "by_hand")):
            scripts, files = {f"{name}-says": f"{module}:say"}, {f"{module}/__init__.py": say}
            self.publish(name, entry_points={"console_scripts": scripts}, files=files)
        self.base = self.create("cpu").base
        self.python = home / "python3"
        self.python.symlink_to(self.base.manifest.interpreter)
        file = self.base.directory / "base.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "interpreter": str(self.python)}))
        self.place = home / "its place" / "env"
        self.command("venv", str(self.place), "einops", "--base", "cpu")
        self.run(self.place / "bin/uv", "pip", "install", "--python", self.place, "by-hand")
        (self.place / "notes.txt").write_text("mine")

    def linked(self) -> Path:
        """The one environment, into which nobody has installed: all of it is links into the wheel store."""
        shutil.rmtree(self.place)
        place = self.home / "linked/env"
        self.command("venv", str(place), "einops==1.0", "--base", "cpu")
        return place

    def run(self, *words: object) -> str:
        """What a program prints."""
        done = subprocess.run([*map(str, words)], env=self.env, capture_output=True, text=True,
                              timeout=BUILDS_WITHIN, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def activate(self, place: Path) -> subprocess.CompletedProcess[str]:
        """Activate the environment at ``place`` in bash."""
        script = f". {shlex.quote(str(place))}/bin/activate; command -v uv"
        return subprocess.run(["bash", "-euc", script], env=self.env, capture_output=True, text=True,
                              timeout=BUILDS_WITHIN, check=False)  # fmt: skip

    def doctor(self, place: Path) -> list[dict[str, str]]:
        """What doctor, started in ``place``, finds wrong with environments and overlays."""
        command = [sys.executable, "-m", "kernel_provisioner.cli.app", "doctor", "--json"]
        done = subprocess.run(command, env=self.env, cwd=place, capture_output=True, text=True,
                              timeout=BUILDS_WITHIN, check=False)  # fmt: skip
        found: list[dict[str, str]] = json.loads(done.stdout)
        return [one for one in found if one["area"] == "overlays" and one["level"] == "wrong"]

    def sync(self, place: Path) -> dict[str, Any]:
        """``jupyter overlay sync … --json``: what it prints."""
        return dict(json.loads(self.command("sync", str(place), "--json", check=False).stdout))

    def names(self, place: Path) -> dict[str, str]:
        """What uv sees in the environment."""
        listed = json.loads(self.uv.run("pip", "list", "--python", place, "--format", "json").stdout)
        return {package["name"]: package["version"] for package in listed}

    def hurt(self, how: str) -> Path:
        """Let one thing happen to the environment; where it is then."""
        if how == "moved":
            return self.place.parent.rename(self.home / "elsewhere") / "env"
        if how == "python":
            self.python.unlink()
        elif how == "base":
            self.base.directory.rename(self.home / "away")
        else:
            (self.home / "wanted.txt").write_text("einops==1.0\nby-hand==1.0\n")
            self.uv.run("pip", "sync", "--python", self.place, self.home / "wanted.txt").check("no sync")
        return self.place


@pytest.fixture
def bench(tmp_path: Path, index: LocalIndex) -> Bench:
    """A workshop of the test's own: bases are broken in it."""
    return Bench(tmp_path, index)


def test_the_torch_of_a_base_is_what_activation_asks_for(bench: Bench) -> None:
    """A uv sync that takes a torchvision off the list, which the project does not need, is no fault."""
    base = bench.create("cpu", packages=["torchvision"]).base
    bench.command("venv", str(bench.place), "einops", "--base", base.manifest.id, "--recreate", check=False)
    (bench.place / "notes.txt").unlink()
    bench.command("venv", str(bench.place), "einops", "--base", base.manifest.id, "--recreate")
    bench.uv.run("pip", "uninstall", "--python", bench.place, "torchvision").check("not uninstalled")
    assert bench.activate(bench.place).stderr == ""
    assert bench.doctor(bench.place) == []
    assert bench.sync(bench.place)["receipts"] == ["torchvision"]


def test_what_prune_took_from_a_moved_environment_is_installed_again(bench: Bench, tmp_path: Path) -> None:
    """Moved anywhere, prune does not know it; what it was linked to comes back, in the same versions."""
    bench.publish("einops", "2.0")
    (tmp_path / "far").mkdir()
    place = bench.linked().rename(tmp_path / "far/env")
    assert "removed from the wheel store" in bench.command("prune").stdout
    (found,) = bench.doctor(place)
    assert "does not work at another path" in found["text"]
    bench.index.misbehave("/simple/einops", 500)
    assert bench.sync(place)["what"] == "einops==1.0 cannot be installed again"
    bench.index.behave()
    (found,) = bench.doctor(place)
    assert found["text"] == f"{place} has lost einops: what it was linked to in the wheel store is gone"
    assert bench.sync(place)["again"] == ["einops"]
    assert bench.run(place / "bin/einops-says") == f"{place}\n"
    assert bench.doctor(place) == []


def test_a_renamed_environment_is_known_to_prune_and_remove(bench: Bench) -> None:
    """Its base stays, and what it is linked to; of one that was moved elsewhere base remove tells."""
    place = bench.linked().parent.rename(bench.home / "renamed") / "env"
    told = json.loads(bench.command("base", "remove", "cpu", "--json", check=False).stdout)
    assert (told["error"], str(place) in told["why"]) == ("BaseInUse", True)
    bench.command("prune")
    assert bench.sync(place)["again"] == []
    bench.run(place / "bin/einops-says")
    (bench.home / "far").mkdir()
    moved = place.rename(bench.home / "far/env")
    done = bench.command("base", "remove", "cpu").stdout
    assert f"{place}, an environment on it, is no longer there. If it was moved: " in done
    assert "jupyter overlay base create cpu --torch 2.6.0" in bench.sync(moved)["fix"]
    bench.create("cpu")
    assert bench.sync(moved)["moved"] == str(place)
    bench.run(moved / "bin/einops-says")


def test_sync_brings_the_scripts_of_this_version(bench: Bench) -> None:
    """An environment of an earlier version is activated with fewer checks until then."""
    script = bench.place / "bin/activate"
    now = script.read_text()
    script.write_text("# of an earlier version\n")
    assert bench.sync(bench.place)["scripts"] == ["bin/activate"]
    assert script.read_text() == now
    assert bench.sync(bench.place)["scripts"] == []


@pytest.mark.system
@pytest.mark.parametrize("how", FAULTS)
def test_what_no_longer_works_is_told_and_mended(bench: Bench, how: str) -> None:
    """By activation and by doctor, each naming sync; then all works, and nothing that was there is lost."""
    before = bench.names(bench.place)
    assert bench.activate(bench.place).stderr == ""
    assert bench.doctor(bench.place) == []
    place = bench.hurt(how)
    activation, finding = (text.format(place=bench.place) for text in FAULTS[how])
    told = bench.activate(place)
    assert activation in told.stderr
    assert "fix: jupyter overlay sync " in told.stderr
    assert (told.returncode == 0) is (how == "receipts")
    (found,) = bench.doctor(place)
    assert finding in found["text"]
    assert f"jupyter overlay sync {shlex.quote(str(place))}" in found["fix"]
    if how in ("python", "base"):
        refused = bench.sync(place)
        assert refused["error"] == "BaseNotFound"
        assert "jupyter overlay base create cpu --torch 2.6.0 --python 3." in refused["fix"]
        other = bench.environment("other", "torch==2.6.0", "numpy")
        bench.command("base", "adopt", str(other))
    done = bench.sync(place)
    assert "error" not in done
    assert done["moved"] == (str(bench.place) if how == "moved" else "")
    assert done["instead_of"] == (bench.base.manifest.id if how in ("python", "base") else "")
    assert ("torch" in done["receipts"]) is (how == "receipts")
    told = bench.activate(place)
    assert (told.stdout, told.stderr) == (f"{place}/bin/uv\n", "")
    assert bench.doctor(place) == []
    after = bench.names(place)
    assert {"torch", "einops", "by-hand"} <= after.keys()
    assert after == before or how in ("python", "base")  # the other base holds less
    assert (place / "notes.txt").read_text() == "mine"
    assert bench.run(place / "bin/einops-says") == bench.run(place / "bin/by-hand-says") == f"{place}\n"
    assert bench.run(place / "bin/python", "-c", "import torch; print(torch.__version__)") == "2.6.0+cpu\n"
    assert bench.run(place / "bin/python", "-m", "uv", "pip", "install", "torch") == ""
    assert bench.sync(place)["receipts"] == []
