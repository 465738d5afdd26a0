"""``jupyter overlay lock``: what it writes, what it checks, and when it takes other versions."""

from __future__ import annotations

import json

import pytest

from tests.support.desk import Desk, lock_of, package_of, set_lock
from tests.support.notebooks import set_torch_env
from tests.support.wheels import build_sdist

pytestmark = pytest.mark.slow


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


def test_what_the_kernel_runs_on_is_locked_only_where_it_is_replaced(desk: Desk) -> None:
    """Each base has its own; a notebook that needs another one than the base's has that everywhere."""
    desk.publish("speaks", requires=["comm", "ipykernel"])
    notebook = desk.write("speaks", "speaks")
    assert desk.lock(notebook)["packages"] == {"speaks": "1.0"}
    desk.publish("comm", "0.9")
    desk.publish("speaks-new", requires=["comm>=0.9"])
    other = desk.write("speaks-new", "speaks-new")
    assert desk.lock(other)["packages"] == {"comm": "0.9", "speaks-new": "1.0"}
    assert desk.launch(other, "cu124")["got"] == {"comm": "0.9", "speaks-new": "1.0"}


# --- locks that are there already --------------------------------------------------------------------


def test_check_tells_by_its_exit_status(desk: Desk) -> None:
    """1 without a lock and with an old one, 0 with a current one; nothing is written, nobody is asked."""
    desk.publish("checked")
    notebook = desk.write("check", "checked")
    assert desk.command("lock", str(notebook), "--check", check=False).returncode == 1
    desk.lock(notebook)
    desk.index.asked.clear()
    good = desk.command("lock", str(notebook), "--check", check=False)
    assert (good.returncode, good.stdout) == (0, "check.ipynb: the lock is up to date\n")
    desk.command("add", str(notebook), "numpy")
    before = notebook.read_bytes()
    bad = desk.command("lock", str(notebook), "--check", "--json", check=False)
    assert bad.returncode == 1
    assert json.loads(bad.stdout)["why"] == "the lock is outdated: the extras have changed"
    assert notebook.read_bytes() == before
    assert desk.index.asked == []


@pytest.mark.parametrize("how", ["another torch", "nonsense"])
def test_locking_again_mends_a_lock_that_does_not_serve(desk: Desk, how: str) -> None:
    """One for a torch that no base here has, and one that cannot be read."""
    desk.publish("corrected")
    notebook = desk.write(f"fix-{how}", "corrected")
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


def test_a_lock_of_later_than_exclude_newer_is_outdated(desk: Desk) -> None:
    """Nobody can tell from it that it holds nothing newer; one that was made for that moment is current."""
    desk.publish("later")
    notebook = desk.write("late", "numpy")
    desk.lock(notebook)
    said = {"exclude-newer": "2001-01-01", "extras": ["numpy"], "lock": lock_of(notebook)}
    set_torch_env(notebook, said)
    done = desk.command("lock", str(notebook), "--check", check=False)
    assert done.returncode == 1
    assert "it may hold packages that are newer than exclude-newer" in done.stdout + done.stderr
    desk.lock(notebook)
    assert desk.command("lock", str(notebook), "--check").returncode == 0


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
