"""Shared wheel stores: an admin fills one, everybody's overlays are linked to it, and nobody writes there."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.overlay import store
from kernel_provisioner.store import entry as entries
from kernel_provisioner.store import lists
from kernel_provisioner.store.fill import held, remove
from tests.support.bases import Bench, Built
from tests.support.notebooks import write_notebook
from tests.support.tree import tree_hash


@pytest.fixture
def shelf(bench: Bench, tmp_path: Path) -> Iterator[Path]:
    """Where the admin's store is to be; the user's own is empty, and finds it by the setting."""
    remove(bench.overlays.root / store.WHEELS)
    place = tmp_path / "share/jupyter/torch-store"
    bench.env["TORCH_OVERLAY_STORES"] = str(place)
    yield place
    remove(bench.overlays.root / store.WHEELS)
    remove(place)


def fill(bench: Bench, place: Path, *words: str) -> str:
    """What the admin's command says on both streams; it works among overlays of its own."""
    bench.base()
    admin = str(place.parent / "admin")
    done = bench.command("prebuild", "--store", str(place), *words, TORCH_OVERLAY_ROOT=admin)
    return done.stdout + done.stderr


def opened(bench: Bench, place: Path, *extras: str, notebook: str) -> Built:
    """A notebook of a user's, with the admin's store."""
    built = bench.overlay(bench.base(), *extras, notebook=notebook, shared_stores=(str(place),))
    assert built.ready, built.told
    bench.enter(built)
    return built


def own(bench: Bench) -> list[Path]:
    """What lies in the user's own store."""
    return [path for path in (bench.overlays.root / store.WHEELS).iterdir() if path.name != "use.lock"]


def test_what_a_shared_store_has_is_linked_and_not_fetched(bench: Bench, shelf: Path) -> None:
    """Of notebooks and a requirements file, compiled; nothing is written there, and no wheel is fetched."""
    bench.publish("of-all", requires=["of-all-too"], entry_points={"console_scripts": {"of-all": "of_all:x"}})
    bench.publish("of-all-too")
    bench.publish("of-a-file")
    book = write_notebook(shelf.parent / "course/one.ipynb", torch_env={"extras": ["of-all"]})
    listed = shelf.parent / "requirements.txt"
    listed.write_text("of-a-file  # for everybody\n")
    said = fill(bench, shelf, str(book.parent), str(listed), "--kernel", "torch-cpu")
    assert "one.ipynb: 2 packages for cpu-torch2.6.0" in said
    assert "2 of them new" in said
    assert f"3 packages in {shelf}" in said
    before = tree_hash(shelf)
    bench.uv.run("cache", "clean").check("no")
    bench.index.asked.clear()
    built = opened(bench, shelf, "of-all", "of-a-file", notebook="user.ipynb")
    assert [one.path for one in bench.index.asked if one.path.endswith(".whl")] == []
    assert built.python("import of_all, of_all_too, of_a_file; print(of_all.__version__)") == "1.0"
    assert (built.path / "bin/of-all").read_text().startswith(f"#!{built.path}")
    assert all((Path(path) / entries.COMPILED).exists() for path in built.content[layout.ENTRIES])
    assert {path.is_symlink() and path.resolve().parent for path in own(bench)} == {shelf}
    assert tree_hash(shelf) == before


def test_the_program_finds_a_store_beside_the_bases(bench: Bench, tmp_path: Path) -> None:
    """In a Jupyter data directory, without a setting; a setting takes its place."""
    (bench.data_dir / "torch-store").mkdir()
    found = f"0 packages in the shared wheel store {bench.data_dir}/torch-store"
    assert found in bench.command("doctor", check=False).stdout
    named = bench.command("doctor", check=False, TORCH_OVERLAY_STORES="/none").stdout
    assert "there is no shared wheel store /none" in named
    (bench.data_dir / "torch-store").rmdir()
    bad = bench.command("doctor", check=False, TORCH_OVERLAY_STORES="here").stdout
    assert "TORCH_OVERLAY_STORES names 'here'" in bad


def test_installs_by_hand_leave_a_shared_store_alone(bench: Bench, shelf: Path) -> None:
    """The links become files of the overlay, also where the disk takes no hard link to another's file."""
    bench.publish("shared-hand", files={"shared_hand/__init__.py": "V = 1\n", "shared_hand/sub/a.txt": "a"})
    bench.publish("beside-it", files={"shared_hand/sub/b.txt": "b"})
    _fill(bench, shelf, "shared-hand")
    built = opened(bench, shelf, "shared-hand", notebook="hand.ipynb")
    other = opened(bench, shelf, "shared-hand", notebook="beside.ipynb")
    before = tree_hash(shelf)
    bench.pip(built, "install", "beside-it")
    code = "import shared_hand as s, os; print(sorted(os.listdir(s.__path__[0] + '/sub')))"
    assert (built.python(code), other.python(code)) == ("['a.txt', 'b.txt']", "['a.txt']")
    bench.pip(other, "uninstall", "shared-hand")
    assert "ModuleNotFoundError" in other.python(code)
    assert tree_hash(shelf) == before


@pytest.mark.parametrize("how", ["gone", "open to others", "damaged"])
def test_where_a_shared_entry_serves_no_more_the_user_gets_an_own_one(
    bench: Bench, shelf: Path, how: str
) -> None:
    """The ready overlay fits no more; the next build repairs it for all overlays of this user."""
    name = f"shared-{how.partition(' ')[0]}"
    bench.publish(name)
    _fill(bench, shelf, name)
    built = opened(bench, shelf, name, notebook="before.ipynb")
    (path,) = own(bench)
    spec, base = built.generation.read(layout.SPEC)["order"], bench.base().manifest
    assert bench.overlays.fitting(built.path.parent, spec, base) == built.generation
    if how == "gone":
        remove(path.resolve())
    elif how == "open to others":
        shelf.chmod(0o777)
    else:
        site = path.resolve() / "site"
        site.chmod(0o755)
        (site / "planted.py").touch()
    if how != "damaged":  # which a build looks for, and a launch does not
        assert bench.overlays.fitting(built.path.parent, spec, base) is None
    opened(bench, shelf, name, notebook="after.ipynb")
    assert [path.is_symlink() for path in own(bench)] == [False]
    assert built.python(f"import {name.replace('-', '_')}") == ""
    assert bench.overlays.fitting(built.path.parent, spec, base) == built.generation


def test_a_store_that_others_can_change_is_neither_filled_nor_used(bench: Bench, shelf: Path) -> None:
    """The command refuses it, and so does a build, which fetches what it needs."""
    bench.publish("not-trusted")
    _fill(bench, shelf, "not-trusted")
    shelf.chmod(0o777)
    listed = shelf.parent / "requirements.txt"
    done = bench.command("prebuild", "--store", str(shelf), str(listed), check=False)
    assert done.returncode == 2
    assert f"the wheel store {shelf} is not filled: others can change {shelf}" in done.stderr
    assert f"chmod o-w {shelf}" in done.stderr
    said = bench.command("doctor", check=False).stdout
    assert f"the shared wheel store {shelf} is not used: others can change {shelf}" in said
    opened(bench, shelf, "not-trusted", notebook="careful.ipynb")
    assert [path.is_symlink() for path in own(bench)] == [False]


def test_du_counts_it_and_prune_takes_only_links(bench: Bench, shelf: Path) -> None:
    """A shared package is counted once, beside the user's own; with its last notebook its link goes."""
    bench.publish("counted", files={"counted/__init__.py": "", "counted/data": bytes(3_000_000)})
    _fill(bench, shelf, "counted")
    built = opened(bench, shelf, "counted", notebook="counted.ipynb")
    book = write_notebook(bench.home / "counted.ipynb", torch_env={"extras": ["counted"]})
    (built.path.parent / layout.NOTEBOOK).write_text(f"{book.resolve()}\n")
    bench.env["TORCH_OVERLAY_ROOT"] = str(bench.overlays.root)
    said = json.loads(bench.command("du", "--json").stdout)
    assert said["shared_stores"]["wheels"] == 1
    assert said["shared_stores"]["bytes"] >= 3_000_000 > said["store"]["bytes"]
    (one,) = [one for one in said["environments"] if one["path"] == str(built.path)]
    assert one["own_bytes"] < 3_000_000 <= one["store_bytes"]
    assert said["shared_stores"]["places"][0]["path"] == str(shelf)
    row = f"shared wheel store {shelf} (1 package, linked from environments)"
    assert row in bench.command("du").stdout
    (found,) = json.loads(bench.command("list", "--json").stdout)
    assert found["shared_stores"] == {str(shelf): 1}
    assert f"1 package linked from the shared wheel store {shelf}" in bench.command("list").stdout
    assert f"1 package linked from {shelf}" in bench.command("doctor", check=False).stdout
    said = bench.command("show", str(book), "--kernel", "torch-cpu").stdout
    assert f"1 package of these from the shared wheel store {shelf}" in said
    before = tree_hash(shelf)
    book.unlink()
    bench.command("prune")
    assert own(bench) == []
    assert tree_hash(shelf) == before


def test_what_no_list_needs_goes_out_of_use_and_later_from_the_disk(bench: Bench, shelf: Path) -> None:
    """A kernel that runs keeps it meanwhile; the next start of its notebook gets a package of the user's."""
    bench.publish("left-out", files={"left_out/__init__.py": "", "left_out/later.py": "V = 1\n"})
    bench.publish("still-in")
    _fill(bench, shelf, "left-out", "still-in")
    built = opened(bench, shelf, "left-out", "still-in", notebook="running.ipynb")
    spec, base = built.generation.read(layout.SPEC)["order"], bench.base().manifest
    (shelf.parent / "requirements.txt").write_text("still-in\n")
    said = fill(bench, shelf, str(shelf.parent / "requirements.txt"))
    assert f"1 of them needed no more: jupyter overlay prune --store {shelf}  removes them" in said
    assert "that nothing needs it was filled with" in bench.command("doctor", check=False).stdout

    before = tree_hash(shelf)
    assert "left_out 1.0 would be taken out of use" in _prune(bench, shelf, "--dry-run")
    assert tree_hash(shelf) == before
    code = "import left_out; print('runs', flush=True); input(); import left_out.later as l; print(l.V)"
    words = [str(built.generation.python), "-c", code]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as kernel:
        assert kernel.stdout is not None
        assert kernel.stdout.readline() == "runs\n"
        said = _prune(bench, shelf)
        assert kernel.communicate("\n")[0] == "1\n"
    assert "left_out 1.0 taken out of use" in said
    assert "out of use, deleted by a prune after 30 days" in said
    assert "deleted" not in _prune(bench, shelf).replace("deleted by a prune", "")

    assert bench.overlays.fitting(built.path.parent, spec, base) is None
    bench.env["TORCH_OVERLAY_ROOT"] = str(bench.overlays.root)
    said = bench.command("doctor", check=False).stdout
    assert f"1 package linked from {shelf}\n" in said
    assert f"1 package linked from {shelf} cannot be used there any more" in said
    opened(bench, shelf, "left-out", "still-in", notebook="running.ipynb")
    assert sorted(path.is_symlink() for path in own(bench)) == [False, True]
    assert "left_out 1.0 deleted" in _prune(bench, shelf, "--older-than", "0")
    assert [path.name for path in shelf.iterdir() if path.is_dir() and path.name != lists.LISTS] == [
        path.name for path in own(bench) if path.is_symlink()
    ]
    assert built.python("import left_out.later, still_in; print(left_out.later.V)") == "1"


def test_a_file_that_is_gone_needs_nothing(bench: Bench, shelf: Path) -> None:
    """Its packages go, those that another file needs stay; a file for another accelerator counts apart."""
    bench.publish("of-both")
    bench.publish("of-one")
    _fill(bench, shelf, "of-both")
    other = shelf.parent / "other.txt"
    other.write_text("of-both\nof-one\n")
    fill(bench, shelf, str(other))
    assert "nothing to remove" in _prune(bench, shelf)
    other.unlink()
    said = json.loads(_prune(bench, shelf, "--json", "--older-than", "0"))
    assert [wheel["name"] for wheel in said["removed"]] == ["of_one 1.0"]
    assert "nothing to remove" in _prune(bench, shelf)


@pytest.mark.parametrize("why", ["unknown", "being filled", "no store"])
def test_nothing_is_removed_where_nobody_can_say_what_is_needed(bench: Bench, shelf: Path, why: str) -> None:
    """The command says what to do."""
    bench.publish("kept-there")
    if why != "no store":
        _fill(bench, shelf, "kept-there")
    if why == "unknown":
        (shelf / lists.LISTS).rename(shelf / ".elsewhere")
    with held(shelf) if why == "being filled" else contextlib.nullcontext():
        done = bench.command("prune", "--store", str(shelf), check=False)
    assert done.returncode == 2
    assert f"nothing is removed from {shelf}" in done.stderr
    assert ("run the command again" if why == "being filled" else "prebuild --store") in done.stderr


def test_the_rules_on_size_count_what_is_linked(bench: Bench, shelf: Path) -> None:
    """A package of the shared store is as large as any."""
    bench.publish("heavy-one", files={"heavy_one/__init__.py": "", "heavy_one/data": bytes(3_000_000)})
    _fill(bench, shelf, "heavy-one")
    built = bench.overlay(
        bench.base(), "heavy-one", notebook="big.ipynb", shared_stores=(str(shelf),), max_bytes=1_000_000
    )
    assert "max_bytes" in built.told, built.told


def test_each_that_cannot_be_filled_is_told_and_the_others_are(bench: Bench, shelf: Path) -> None:
    """Exit status 1, with cause and fix; what declares nothing is skipped."""
    bench.publish("can-be")
    lines = {"good.txt": "can-be\n", "bad.txt": "there-is-none\n", "options.txt": "--index-url https://x/\n"}
    for name, text in lines.items():
        shelf.parent.mkdir(parents=True, exist_ok=True)
        (shelf.parent / name).write_text(text)
    plain = write_notebook(shelf.parent / "plain.ipynb", kernel="torch-cpu")
    paths = [*(str(shelf.parent / name) for name in lines), str(plain)]
    bench.base()
    done = bench.command("prebuild", "--store", str(shelf), *paths, check=False)
    assert done.returncode == 1
    assert "good.txt: 1 package for" in done.stderr
    assert "bad.txt: failed: there is no package called there-is-none" in done.stderr
    assert "options.txt: failed" in done.stderr
    assert "plain.ipynb: skipped: it declares no packages" in done.stderr


def test_a_private_umask_makes_no_private_store(bench: Bench, shelf: Path) -> None:
    """Whatever the admin's umask: all can read all of it, and nobody write."""
    bench.publish("umask-one", files={"umask_one/__init__.py": "", "umask_one/sub/__init__.py": ""},
                  entry_points={"console_scripts": {"umask": "umask_one:x"}})  # fmt: skip
    listed = shelf.parent / "requirements.txt"
    shelf.parent.mkdir(parents=True, exist_ok=True)
    listed.write_text("umask-one\n")
    bench.base()
    program = Path(bench.env["HOME"]) / "umask.sh"
    program.write_text('umask 077; exec "$@"\n')
    words = ["-m", "kernel_provisioner.cli.app", "prebuild", "--store", str(shelf), str(listed)]
    subprocess.run(["/bin/sh", str(program), sys.executable, *words], env=bench.env, check=True)
    (entry,) = [path for path in shelf.iterdir() if path.is_dir() and not path.name.startswith(".")]
    for path in (shelf, entry, *entry.rglob("*")):
        mode = path.stat().st_mode
        wanted = 0o055 if path.is_dir() else 0o044
        assert path.name in ("compiled", "proven") or mode & wanted == wanted, path
        assert path == shelf or not mode & 0o022, path


def _prune(bench: Bench, place: Path, *words: str) -> str:
    return bench.command("prune", "--store", str(place), *words).stdout


def _fill(bench: Bench, place: Path, *requirements: str) -> None:
    listed = place.parent / "requirements.txt"
    listed.parent.mkdir(parents=True, exist_ok=True)
    listed.write_text("\n".join(requirements))
    fill(bench, place, str(listed))
