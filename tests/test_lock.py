"""What a notebook with a lock gets at its start, and what is refused."""

from __future__ import annotations

import hashlib
import platform
import shutil
import sys
from pathlib import Path

import pytest

from kernel_provisioner.inkernel.shared import layout
from tests.support.bases import Workshop
from tests.support.desk import Desk, lock_of, set_lock
from tests.support.launches import launches
from tests.support.notebooks import write_notebook
from tests.support.wheels import build_sdist, build_wheel

pytestmark = pytest.mark.slow
FIX = "jupyter overlay lock"
XY = f"{sys.version_info[0]}{sys.version_info[1]}"


def test_one_locked_notebook_runs_on_cpu_and_on_cu124(desk: Desk) -> None:
    """The same versions, and each accelerator's own torchvision, whatever is newer by now."""
    desk.publish("model", requires=["torchvision", "part>=1"])
    desk.publish("part", "1.0")
    notebook = desk.write("both", "model")
    desk.lock(notebook)
    desk.publish("part", "2.0")
    desk.publish("model", "2.0")
    desk.forget()
    for tag in ("cpu", "cu124"):
        told = desk.launch(notebook, tag)
        assert told["state"] == "ready", told["build"]
        assert told["base"]["tag"] == tag
        assert told["got"] == {"model": "1.0", "part": "1.0", "torchvision": f"0.21.0+{tag}"}
        assert not [line for line in told["notices"] if "lock" in line]


def test_after_locking_the_next_start_works_without_the_network(desk: Desk) -> None:
    """The files are in uv's cache."""
    desk.publish("at-home")
    notebook = desk.write("offline", "at-home")
    desk.lock(notebook)
    desk.index.asked.clear()
    desk.env["UV_OFFLINE"] = "1"
    told = desk.launch(notebook)
    assert told["state"] == "ready", told["build"]
    assert told["got"] == {"at-home": "1.0"}
    assert desk.index.asked == []


def test_a_package_that_left_the_first_releases_of_this_python_behind_is_locked(desk: Desk) -> None:
    """``>=3.11.5`` where the base has 3.11.7: its files are asked for from that Python on."""
    desk.publish("late", requires_python=f">={platform.python_version()}")
    notebook = desk.write("late", "late")
    desk.lock(notebook)
    assert [package["name"] for package in lock_of(notebook)["packages"]] == ["late"]
    assert desk.launch(notebook)["got"] == {"late": "1.0"}


def test_a_base_with_another_version_of_a_package_gives_way_to_the_lock(desk: Desk) -> None:
    """numpy is the base's, but not fixed: the locked one is installed in the overlay."""
    desk.publish("wants-any-numpy", requires=["numpy"])
    notebook = desk.write("replaced", "wants-any-numpy")
    desk.lock(notebook)
    wheel = desk.publish("numpy", "1.26")
    lock = lock_of(notebook)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    for package in lock["packages"]:
        if package["name"] == "numpy":
            package.update(version="1.26", wheels=[{"name": wheel.name, "hashes": {"sha256": digest}}])
    set_lock(notebook, lock)
    told = desk.launch(notebook)
    assert told["got"] == {"numpy": "1.26", "wants-any-numpy": "1.0"}, told["build"]


def test_a_file_that_changed_on_the_index_is_refused(desk: Desk) -> None:
    """By name, with both hashes."""
    first = desk.publish("swapped")
    notebook = desk.write("swapped", "swapped")
    desk.lock(notebook)
    old = hashlib.sha256(first.read_bytes()).hexdigest()
    changed = desk.publish("swapped", files={"swapped.py": "evil = True\n"})
    new = hashlib.sha256(changed.read_bytes()).hexdigest()
    desk.forget()
    told = desk.launch(notebook)
    assert told["state"] == "failed"
    assert f"{first.name} differs from the file" in told["build"]["what"]
    assert old in told["build"]["why"]
    assert new in told["build"]["why"]
    assert FIX in told["build"]["fix"]


def test_an_index_that_lies_about_a_file_is_found_out(desk: Desk) -> None:
    """Its page has the locked hash, the bytes are others: uv names file and both hashes."""
    first = desk.publish("two-faced")
    good = first.read_bytes()
    notebook = desk.write("two-faced", "two-faced")
    desk.lock(notebook)
    desk.forget()
    changed = desk.publish("two-faced", files={"two_faced.py": "evil = True\n"})
    desk.index.declare(changed.name, good)
    told = desk.launch(notebook)
    assert told["state"] == "failed"
    assert "ash mismatch" in told["build"]["why"]
    assert changed.name in told["build"]["why"]


def test_a_file_that_the_lock_does_not_name_is_never_taken(desk: Desk) -> None:
    """A wheel added to the release later, that any installer would prefer."""
    desk.publish("grown")
    notebook = desk.write("grown", "grown")
    desk.lock(notebook)
    added = build_wheel(desk.wheels, "grown", files={"grown.py": "evil = True\n"}, tag=f"cp{XY}-none-any")
    desk.index.publish(added)
    desk.forget()
    told = desk.launch(notebook)
    assert told["got"] == {"grown": "1.0"}
    assert added.name not in "".join(desk.fetched("grown"))


def test_a_package_without_a_file_for_this_platform_is_named(desk: Desk) -> None:
    """The lock was made elsewhere; the way out is told."""
    desk.publish("elsewhere-only")
    notebook = desk.write("platform", "elsewhere-only")
    desk.lock(notebook)
    lock = lock_of(notebook)
    lock["packages"][0]["wheels"][0]["name"] = "elsewhere_only-1.0-py3-none-win_amd64.whl"
    set_lock(notebook, lock)
    told = desk.launch(notebook)
    assert told["state"] == "failed"
    assert "elsewhere-only" in told["build"]["what"]
    assert FIX in told["build"]["fix"]


@pytest.mark.parametrize("sdist", [False, True])
def test_a_release_without_a_wheel_for_this_platform_is_told(desk: Desk, sdist: bool) -> None:
    """At once where nothing else is locked; a locked source distribution waits for the first cell."""
    name = f"windows-{sdist}".lower()
    wheel = desk.publish(name)
    desk.index.publish(build_wheel(desk.wheels, name, tag="py3-none-win_amd64"))
    if sdist:
        desk.index.publish(build_sdist(desk.wheels, name, mark=desk.home / "mark", static_metadata=True))
    notebook = desk.write(name, name)
    desk.lock(notebook)
    del desk.index.files[f"/simple/{name}/"][wheel.name]
    desk.forget()
    told = desk.launch(notebook)
    assert not (desk.home / "mark").exists()
    if sdist:
        assert told["state"] == "abandoned"
        assert '"needs-cell"' in (Path(told["overlay"]) / layout.PROGRESS).read_text()
    else:
        assert told["state"] == "failed"
        assert name in told["build"]["why"]
        assert FIX in told["build"]["fix"]


def test_a_lock_without_a_needed_package_is_not_whole(desk: Desk) -> None:
    """Nothing is resolved behind the lock's back: what is missing is named."""
    desk.publish("leaf")
    desk.publish("branch", requires=["leaf>=1"])
    notebook = desk.write("hole", "branch")
    desk.lock(notebook)
    lock = lock_of(notebook)
    lock["packages"] = [package for package in lock["packages"] if package["name"] != "leaf"]
    set_lock(notebook, lock)
    told = desk.launch(notebook)
    assert told["state"] == "failed"
    assert "branch needs leaf>=1, which is not there" in told["build"]["what"]
    assert FIX in told["build"]["fix"]


def test_what_the_lock_names_and_no_extra_needs_is_not_installed(desk: Desk) -> None:
    """Neither a package of its own, nor another version of one of the base's; the log says so."""
    notebook = desk.write("strays", "wanted")
    desk.publish("wanted")
    desk.lock(notebook)
    lock = lock_of(notebook)
    for name, version, files in (
        ("stray", "1.0", {"stray/__init__.py": "", "stray-1.0.data/scripts/stray": "#!python\n"}),
        ("numpy", "1.26", None),
    ):
        wheel = desk.publish(name, version, files=files)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        entry = {"name": wheel.name, "hashes": {"sha256": digest}}
        lock["packages"].append({"name": name, "version": version, "wheels": [entry]})
    set_lock(notebook, lock)
    for again in (notebook, Path(shutil.copy(notebook, notebook.with_name("strays-again.ipynb")))):
        told = desk.launch(again)
        assert told["state"] == "ready", told["build"]
        assert told["got"] == {"wanted": "1.0"}
        overlay = Path(told["overlay"])
        assert not list(overlay.rglob("stray*"))
        assert "not installed: numpy 1.26, stray 1.0" in (overlay / layout.PROGRESS).read_text()


def test_a_lock_holds_what_the_base_needs_to_go_with_it(shop: Workshop) -> None:
    """No extra needs frames; but the base's does not go with the locked numpy, and another one does."""
    shop.stock("cpu")
    shop.env.update(TORCH_OVERLAY_ROOT=str(shop.home / "overlays"), TORCH_OVERLAY_INDEX=shop.index.template)
    shop.publish("frames", "2.0", requires=["numpy>=2"])
    shop.publish("frames", "1.0", requires=["numpy<2", "columns"])
    shop.publish("columns")
    shop.create("cpu", packages=["frames==2.0"])
    shop.publish("numpy", "1.26")
    notebook = write_notebook(shop.home / "old.ipynb", torch_env={"extras": ["numpy<2"]})
    shop.command("lock", str(notebook))
    assert [package["name"] for package in lock_of(notebook)["packages"]] == ["columns", "frames", "numpy"]
    (told,) = launches([notebook], shop.env, "cpu")
    assert told["state"] == "ready", told["build"]


def test_a_lock_for_another_torch_than_any_base_has_says_so(desk: Desk) -> None:
    """The refusal names the version, and that locking again is a way out."""
    notebook = desk.write("other-torch", "numpy")
    desk.lock(notebook)
    lock = lock_of(notebook)
    lock["tool"]["torch-overlay"]["torch"] = "2.5.1"
    set_lock(notebook, lock)
    told = desk.launch(notebook)
    assert "==2.5.1" in told["failure"]["what"]
    assert FIX in told["failure"]["fix"]


# --- stale locks -------------------------------------------------------------------------------------


def test_a_lock_that_is_older_than_the_extras_still_holds_its_versions(desk: Desk) -> None:
    """A new extra is resolved, the locked ones stay as they are; one line says what to do."""
    desk.publish("held", "1.0")
    desk.publish("new-comer", requires=["held"])
    notebook = desk.write("stale", "held")
    desk.lock(notebook)
    desk.publish("held", "2.0")
    desk.command("add", str(notebook), "new-comer")
    told = desk.launch(notebook)
    assert told["got"] == {"held": "1.0", "new-comer": "1.0"}, told["build"]
    (line,) = [line for line in told["notices"] if "lock" in line]
    assert line.startswith("the lock is outdated: the extras have changed")
    assert FIX in line
    assert desk.lock(notebook)["packages"] == {"held": "1.0", "new-comer": "1.0"}
    assert not [line for line in desk.launch(notebook)["notices"] if "lock" in line]


# --- juv ---------------------------------------------------------------------------------------------

JUV = """version = 1
revision = 1
requires-python = ">=3.10"

[[package]]
name = "{name}"
version = "{version}"
source = {{ registry = "https://index.example/simple" }}
sdist = {{ url = "https://example.org/x.tar.gz", hash = "sha256:00", size = 1 }}
"""


@pytest.mark.parametrize(("version", "got"), [("1.0", "1.0"), ("0.1", "2.0")])
def test_the_versions_of_juvs_lock_are_taken_where_they_fit(desk: Desk, version: str, got: str) -> None:
    """One that no index has any more is passed over."""
    for published in ("1.0", "2.0"):
        desk.publish("from-juv", published)
    notebook = write_notebook(
        desk.home / f"juv-{version}.ipynb",
        '# /// script\n# dependencies = ["from-juv"]\n# ///\n',
        **{"uv.lock": JUV.format(name="from-juv", version=version)},
    )
    told = desk.launch(notebook)
    assert told["got"] == {"from-juv": got}, told["build"]
