"""What comes later to a directory that is a link into the wheel store lands in the overlay, not there.

``%overlay add`` finds such links by what it has staged, whoever has staged it.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.inkernel.shared.settle import settle_added
from kernel_provisioner.overlay import store
from tests.support.bases import Bench, Built
from tests.support.stored import add, compiled, site, two
from tests.support.tree import tree_hash
from tests.support.wheels import build_wheel

BOTH = "import {0}.one, {0}.two; print({0}.one.x, {0}.two.x)"
REACHING = b"\x7fELF" + b"\0" * 60 + b"\0$ORIGIN/../../lib_reached\0"
BACKEND = """\
import shutil
def build_wheel(directory, config_settings=None, metadata_directory=None):
    return shutil.copy({wheel!r}, directory).rpartition("/")[2]
"""


@pytest.mark.parametrize(
    ("top", "name", "more", "wheel"),
    [
        ("plug", "pytest-plug", "pytest", {"entry_points": {"pytest11": {"plug": "plug.two"}}}),
        ("writes", "edgedriver-autoinstaller", "", {}),
        ("reaches", "reaches-two", "", {"requires": ["lib-reached"]}),
    ],
    ids=["a plugin of pytest", "one that writes beside itself", "one that reaches into another"],
)
def test_a_part_that_is_placed_as_files_lands_in_the_overlay(
    bench: Bench, top: str, name: str, more: str, wheel: dict[str, Any]
) -> None:
    """What was a link becomes files there; the store is as it was, and the next addition works, too."""
    bench.publish("pytest")
    bench.publish("lib-reached", files={"lib_reached/__init__.py": "", "lib_reached/b.so": b"\x7fELF"})
    built = _with_one(bench, top, *([more] if more else []))
    library = {f"{top}/two/a.so": REACHING} if top == "reaches" else {}
    bench.publish(name, files={f"{top}/two/__init__.py": "x = 2\n", **library}, **wheel)
    before = _one(built, top)
    assert add(bench, built, name)["changed"] == []
    assert built.python(BOTH.format(top)) == "1 2"
    assert _one(built, top) == before
    assert not (site(built) / top).is_symlink()
    assert "compatible" in bench.pip(built, "check")
    bench.publish(f"{top}-three")
    assert add(bench, built, f"{top}-three")["changed"] == []


@pytest.mark.parametrize("order", [("seeker", "reached"), ("reached", "seeker")])
def test_a_library_finds_another_package_whichever_came_first(bench: Bench, order: tuple[str, str]) -> None:
    """The loader goes from where the file lies: in the store there would be no other package."""
    library = REACHING.replace(b"../../lib_reached", b"../reached")
    bench.publish("seeker", files={"seeker/__init__.py": "", "seeker/a.so": library})
    bench.publish("reached", files={"reached/__init__.py": "", "reached/b.so": b"\x7fELF"})
    first, second = order
    built = bench.overlay(bench.base(), first)
    bench.enter(built)
    assert add(bench, built, second)["changed"] == []
    assert (site(built) / "seeker/../reached/b.so").is_file()
    assert (site(built) / "reached").is_symlink(), "what is looked for serves as a link"
    assert "compatible" in bench.pip(built, "check")


def test_a_part_from_a_repository_lands_in_the_overlay(bench: Bench, tmp_path: Path) -> None:
    """uv unpacks it for this overlay alone; another notebook with the same package sees nothing of it."""
    address = _repository(tmp_path, "of-git", {"git/two/__init__.py": "x = 2\n"})
    built = _with_one(bench, "git", allow_urls=["git+file:///"])
    before = compiled(bench, built)
    assert add(bench, built, f"of-git @ {address}")["changed"] == []
    assert built.python(BOTH.format("git")) == "1 2"
    assert tree_hash(bench.overlays.root / store.WHEELS) == before
    bench.pip(built, "uninstall", "of-git")
    assert built.python("import git.one; print(git.one.x)") == "1"


def test_what_an_earlier_version_could_not_move_in_is_moved_in(bench: Bench) -> None:
    """It had counted already when the link was found to be in the way; each start tried again in vain."""
    built = _with_one(bench, "stuck")
    before = compiled(bench, built)
    _stage(built, site(built) / "stuck" / "two.py", "x = 2\n")
    settle_added(built.path)
    assert built.python(BOTH.format("stuck")) == "1 2"
    assert tree_hash(bench.overlays.root / store.WHEELS) == before
    assert "compatible" in bench.pip(built, "check")


def test_nothing_is_moved_in_through_a_link_that_no_package_has_made(bench: Bench, tmp_path: Path) -> None:
    """Neither by a build, which says so before anything counts, nor by what is to be moved in already."""
    built = _with_one(bench, "strange")
    (built.path / "share/strange").symlink_to(tmp_path)
    bench.publish(
        "strange-two", files={"strange_two.py": "", "strange_two-1.0.data/data/share/strange/a": ""}
    )
    answer = add(bench, built, "strange-two")
    assert f"would write through {built.path}/share/strange" in str(answer["what"])
    assert not (built.path / layout.ADDING).exists()
    _stage(built, built.path / "share/strange/b", "")
    with pytest.raises(OSError, match="through a link"):
        settle_added(built.path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["stored", "of git"])
def test_no_package_writes_into_the_store_by_its_name(bench: Bench, tmp_path: Path, kind: str) -> None:
    """Each overlay has a link to the store, of a name that a wheel's data could have, too."""
    name = f"names-the-store-{kind.replace(' ', '-')}"
    stem = name.replace("-", "_")
    files: dict[str, str | bytes] = {f"{stem}.py": "", f"{stem}-1.0.data/data/.store/planted/x": ""}
    built = _with_one(bench, f"by_name_{kind[:2]}", allow_urls=["git+file:///"])
    if kind == "stored":
        bench.publish(name, files=files)
        wanted = name
    else:
        wanted = f"{name} @ {_repository(tmp_path, name, files)}"
    answer = add(bench, built, wanted)
    assert ".store" in f"{answer['what']} {answer['why']}"
    assert not (bench.overlays.root / store.WHEELS / "planted").exists()
    assert not (built.path / layout.STAGING).exists()


def test_data_for_lib64_lands_where_the_packages_lie(bench: Bench) -> None:
    """It is a link to ``lib``: what a wheel has there may belong to a package that is a link."""
    path = "{}.data/data/lib64/python{}.{}/site-packages/lib64_one/two.py"
    version = bench.base().manifest.python.split(".")
    bench.publish("lib64-one", files={"lib64_one/__init__.py": "", "lib64_one/one.py": "x = 1\n"})
    files = {"lib64_two.py": "", path.format("lib64_two-1.0", *version): "x = 2\n"}
    bench.publish("lib64-two", files=files)
    first, _ = two(bench, "lib64-one")
    before = _one(first, "lib64_one")
    for built in two(bench, "lib64-two", "lib64-one"):
        assert built.python(BOTH.format("lib64_one")) == "1 2"
        assert "compatible" in bench.pip(built, "check")
    assert _one(first, "lib64_one") == before


def _with_one(bench: Bench, top: str, *more: str, **rules: Any) -> Built:
    """An entered overlay with a package whose directory ``top`` is one link."""
    bench.publish(f"{top}-one", files={f"{top}/one.py": "x = 1\n"})
    built = bench.overlay(bench.base(), f"{top}-one", *more, notebook=f"{top}.ipynb", **rules)
    assert built.ready, built.told
    bench.enter(built)
    assert (site(built) / top).is_symlink()
    return built


def _one(built: Built, top: str) -> list[str]:
    """The files that the store has of the package which came first."""
    (entry,) = (
        path for path in map(Path, built.content[layout.ENTRIES]) if (path / "site" / top / "one.py").exists()
    )
    return sorted(str(path) for path in (entry / "site" / top).rglob("*") if path.suffix != ".pyc")


def _stage(built: Built, place: Path, text: str) -> None:
    """Stage a file that is to lie at ``place`` in an overlay, and let it count."""
    staged = built.path / layout.STAGING / place.relative_to(built.path)
    staged.parent.mkdir(parents=True)
    staged.write_text(text)
    adding = {"state": built.content, "gone": []}
    (built.path / layout.ADDING).write_text(json.dumps(adding))


def _repository(folder: Path, name: str, files: dict[str, str | bytes]) -> str:
    """The address of a repository that is built to a wheel with these files."""
    source = folder / "repository"
    wheel = build_wheel(source, name, files=files)
    system = 'build-backend = "backend"\nbackend-path = ["."]\nrequires = []\n'
    project = f'[build-system]\n{system}[project]\nname = "{name}"\nversion = "1.0"\n'
    (source / "pyproject.toml").write_text(project)
    (source / "backend.py").write_text(BACKEND.format(wheel=wheel.name))
    who = ("-c", "user.email=a@b.invalid", "-c", "user.name=n")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "1")):
        subprocess.run(["git", "-C", source, *words], check=True)
    return f"git+{source.as_uri()}"
