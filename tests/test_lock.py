"""``jupyter overlay lock``: what is written, and what a locked notebook then gets, and refuses."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel_provisioner.overlay import store
from tests.support.bases import Workshop
from tests.support.index import LocalIndex, serve_index
from tests.support.launches import launches
from tests.support.notebooks import set_torch_env, write_notebook
from tests.support.wheels import build_sdist, build_wheel

pytestmark = pytest.mark.slow
FIX = "jupyter overlay lock"
XY = f"{sys.version_info[0]}{sys.version_info[1]}"


class Desk(Workshop):
    """A workshop with bases for cpu and cu124, and notebooks to lock."""

    def __init__(self, home: Path, index: LocalIndex) -> None:
        super().__init__(home, index, TORCH_OVERLAY_ROOT=str(home / "overlays"))
        self.env["TORCH_OVERLAY_INDEX"] = index.template
        self.stock("cpu", "cu124")
        self.cpu, self.cu124 = self.create("cpu").base, self.create("cu124").base

    def write(self, name: str, *extras: str, **torch_env: Any) -> Path:
        """A notebook with these extras."""
        return write_notebook(
            self.home / f"{name}.ipynb", "1", torch_env={"extras": list(extras), **torch_env}
        )

    def lock(self, notebook: Path, *words: str) -> dict[str, Any]:
        """Lock it; what the command says as JSON."""
        return dict(json.loads(self.command("lock", str(notebook), "--json", *words).stdout))

    def launch(self, notebook: Path, pinned: str = "cpu") -> dict[str, Any]:
        """What a launch with the kernel of ``pinned`` comes to; ``got`` is name → version."""
        (told,) = launches([notebook], self.env, pinned)
        state = store.Generation(Path(told["overlay"])) if told["overlay"] else None
        got: dict[str, str] = {}
        if state is not None and told["state"] == "ready":
            content = state.read(store.OVERLAY)
            got = {entry["name"]: entry["version"] for entry in content["installed"]}
        return {**told, "got": got}

    def forget(self) -> None:
        """Empty uv's cache, and what is known of earlier resolutions: this is another machine now."""
        self.uv.run("cache", "clean").check("cache clean")
        for known in (self.overlays.root / "locks").glob("*"):
            known.unlink()


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """The module's workshop."""
    with serve_index() as index:
        yield Desk(tmp_path_factory.mktemp("lock"), index)


@pytest.fixture
def desk(workbench: Desk) -> Iterator[Desk]:
    """The workshop with nobody asked yet."""
    env = dict(workbench.env)
    workbench.index.asked.clear()
    yield workbench
    workbench.env = env
    workbench.index.behave()


def lock_of(notebook: Path) -> dict[str, Any]:
    """The lock in a notebook."""
    return dict(json.loads(notebook.read_text())["metadata"]["torch_env"]["lock"])


def package_of(notebook: Path, name: str) -> dict[str, Any]:
    """One package of the lock in a notebook."""
    return dict(next(entry for entry in lock_of(notebook)["packages"] if entry["name"] == name))


def set_lock(notebook: Path, lock: object) -> None:
    """Write another lock into a notebook, as an editor would."""
    said = json.loads(notebook.read_text())["metadata"]["torch_env"]
    set_torch_env(notebook, {**said, "lock": lock})


# --- what is written ---------------------------------------------------------------------------------


def test_versions_and_hashes_of_all_files_of_a_release_are_written(desk: Desk) -> None:
    """Also wheels for other platforms, so that the lock serves there; and no address anywhere."""
    wheel = desk.publish("all-over", requires=["numpy"])
    build = build_sdist(desk.wheels, "all-over", mark=desk.home / "mark", static_metadata=True)
    desk.index.publish(build)
    notebook = desk.write("written", "all-over")
    told = desk.lock(notebook)
    assert told["packages"] == {"all-over": "1.0", "numpy": "2.1"}
    lock = lock_of(notebook)
    entry = package_of(notebook, "all-over")
    assert [file["name"] for file in entry["wheels"]] == [wheel.name]
    assert entry["sdist"]["name"] == build.name
    assert lock["tool"]["torch-overlay"]["torch"] == "2.6.0"
    assert lock["tool"]["torch-overlay"]["base-provided"] == ["numpy"]
    assert "http" not in json.dumps(lock)
    assert desk.index.address not in notebook.read_text()
    assert not (desk.home / "mark").exists()


def test_nothing_else_in_the_file_changes(desk: Desk) -> None:
    """Bytes around the lock stay; locking again changes none at all, and says so."""
    desk.publish("quiet")
    notebook = desk.write("bytes", "quiet")
    before = notebook.read_text()
    assert desk.lock(notebook)["changed"] is True
    after = notebook.read_text()
    start = after.index(',\n   "lock"')
    lock = json.dumps(lock_of(notebook), indent=1).replace("\n", "\n   ")
    assert after == before[:start] + f',\n   "lock": {lock}' + before[start:]
    assert desk.lock(notebook)["changed"] is False
    assert notebook.read_text() == after


def test_pytorchs_packages_are_locked_by_public_version_alone(desk: Desk) -> None:
    """Each accelerator has its own build of torchvision."""
    notebook = desk.write("vision", "torchvision")
    desk.lock(notebook)
    assert package_of(notebook, "torchvision") == {"name": "torchvision", "version": "0.21.0"}


# --- what a locked notebook gets ---------------------------------------------------------------------


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
    assert f"{first.name} is not the file" in told["build"]["what"]
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
        assert '"needs-cell"' in (Path(told["overlay"]) / store.PROGRESS).read_text()
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


def test_a_lock_for_another_torch_than_any_base_has_says_so(desk: Desk) -> None:
    """The refusal names the version, and that locking anew is a way out."""
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
    assert line.startswith("the lock is older than the extras")
    assert FIX in line
    assert desk.lock(notebook)["packages"] == {"held": "1.0", "new-comer": "1.0"}
    assert not [line for line in desk.launch(notebook)["notices"] if "lock" in line]


def test_check_tells_by_its_exit_status(desk: Desk) -> None:
    """1 without a lock and with an old one, 0 with a current one; nothing is written, nobody is asked."""
    desk.publish("checked")
    notebook = desk.write("check", "checked")
    assert desk.command("lock", str(notebook), "--check", check=False).returncode == 1
    desk.lock(notebook)
    desk.index.asked.clear()
    good = desk.command("lock", str(notebook), "--check", check=False)
    assert (good.returncode, good.stdout) == (0, "check.ipynb: its lock is current\n")
    desk.command("add", str(notebook), "numpy")
    before = notebook.read_bytes()
    bad = desk.command("lock", str(notebook), "--check", "--json", check=False)
    assert bad.returncode == 1
    assert json.loads(bad.stdout)["why"] == "the lock is older than the extras"
    assert notebook.read_bytes() == before
    assert desk.index.asked == []


# --- newer and older versions ------------------------------------------------------------------------


def test_only_upgrade_takes_newer_versions(desk: Desk) -> None:
    """Locking again keeps what is locked."""
    desk.publish("moving", "1.0")
    notebook = desk.write("upgrade", "moving")
    desk.lock(notebook)
    desk.publish("moving", "2.0")
    assert desk.lock(notebook)["packages"] == {"moving": "1.0"}
    assert desk.lock(notebook, "--upgrade")["packages"] == {"moving": "2.0"}
    assert desk.launch(notebook)["got"] == {"moving": "2.0"}


def test_locked_versions_that_the_extras_exclude_give_way(desk: Desk) -> None:
    """The notebook wants a newer one now: it gets it, and the command says so."""
    desk.publish("tight", "1.0")
    notebook = desk.write("tight", "tight")
    desk.lock(notebook)
    desk.publish("tight", "2.0")
    desk.command("add", str(notebook), "tight>=2")
    told = desk.lock(notebook)
    assert told["packages"] == {"tight": "2.0"}
    assert any("cannot all stay" in line for line in told["notices"])


@pytest.mark.parametrize("how", ["another torch", "nonsense"])
def test_locking_again_mends_a_lock_that_does_not_serve(desk: Desk, how: str) -> None:
    """One for a torch that no base here has, and one that cannot be read."""
    desk.publish("mended")
    notebook = desk.write(f"mend-{how}", "mended")
    desk.lock(notebook)
    good = lock_of(notebook)
    bad = (
        json.loads(json.dumps(good).replace('"2.6.0"', '"2.5.1"'))
        if how == "another torch"
        else {"packages": 1}
    )
    set_lock(notebook, bad)
    if how == "nonsense":
        said = desk.command("lock", str(notebook), "--check", check=False)
        assert said.returncode == 1
        assert "torch_env.lock" in said.stdout
        assert "torch_env.lock" in desk.launch(notebook)["failure"]["what"]
    desk.lock(notebook)
    assert lock_of(notebook) == good


def test_exclude_newer_is_obeyed_and_kept(desk: Desk) -> None:
    """What is too new is not there; where only the base's packages are needed, the moment is written."""
    desk.publish("recent")
    notebook = desk.write("old", "recent")
    before = notebook.read_bytes()
    done = desk.command("lock", str(notebook), "--exclude-newer", "2001-01-01", check=False)
    assert done.returncode == 2
    assert "recent" in done.stderr
    assert notebook.read_bytes() == before
    given = desk.write("given", "numpy")
    desk.lock(given, "--exclude-newer", "2001-01-01")
    assert lock_of(given)["tool"]["torch-overlay"]["exclude-newer"] == "2001-01-02T00:00:00Z"
    wrong = desk.command("lock", str(notebook), "--exclude-newer", "yesterday", check=False)
    assert wrong.returncode == 2
    assert "--exclude-newer is neither a date" in wrong.stderr


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
