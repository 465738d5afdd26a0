"""Where overlays live: private, in generations, each in a state that cannot be mistaken."""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
from pathlib import Path

import pytest

from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.errors import BuildFailed, CorruptState
from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.model.manifest import BaseManifest
from kernel_provisioner.model.request import Request
from kernel_provisioner.overlay.skeleton import write_interpreter
from kernel_provisioner.overlay.store import Generation, State, Store, spec_key, spec_of
from kernel_provisioner.policy import Layer, Policy
from kernel_provisioner.settings import Settings
from kernel_provisioner.system import locks

BASE = BaseManifest(
    id="cpu-torch2.6.0-py311-00000000", tag="cpu", torch="2.6.0+cpu", python="3.11.7", prefix="/b",
    interpreter=sys.executable, site_dirs=("/b/lib",), distributions={}, fixed=frozenset(), modules={},
)  # fmt: skip
SETTINGS = Settings("/r", "https://me:secret@mirror/whl/{tag}", "")
SPEC = spec_of(Request(extras=("einops",)), BASE, SETTINGS)


def _under(**rules: object) -> Settings:
    return dataclasses.replace(SETTINGS, policy=Policy((Layer("a test's file", rules),)))


@pytest.fixture
def overlays(tmp_path: Path) -> Store:
    """An empty, private root."""
    made = Store(tmp_path / "overlays")
    made.prepare()
    return made


@pytest.fixture
def generation(overlays: Store) -> Generation:
    """A generation with an order and nothing else."""
    begun = overlays.begin(overlays.root / "book")
    write_interpreter(begun.path, RegisteredBase(BASE, Path("/r")))
    begun.write(layout.SPEC, {"order": SPEC})
    return begun


def test_the_root_is_made_private(tmp_path: Path) -> None:
    """Whatever the umask, and also where it was there before."""
    root = tmp_path / "deep/overlays"
    Store(root).prepare()
    assert root.stat().st_mode & 0o777 == 0o700
    root.chmod(0o755)
    Store(root).prepare()
    assert root.stat().st_mode & 0o777 == 0o700


def test_a_root_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """With the variable that names another."""
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildFailed, match=str(tmp_path)) as caught:
        Store(tmp_path / "file/overlays").prepare()
    assert "TORCH_OVERLAY_ROOT" in caught.value.fix


def test_a_root_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Who owns it could exchange an interpreter under us."""
    root = tmp_path / "theirs"
    root.mkdir()
    if os.geteuid() == 0:
        os.chown(root, 12345, -1)
    else:
        root = Path("/")
    with pytest.raises(BuildFailed, match="belongs to another user"):
        Store(root).prepare()


def test_a_system_that_knows_no_noexec_flag_has_no_such_disk(
    overlays: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python on macOS has no such constant; a launch asks for it."""
    monkeypatch.delattr(os, "ST_NOEXEC", raising=False)
    assert overlays.noexec() == ""


def test_generations_count_up_and_the_newest_comes_first(overlays: Store) -> None:
    """Also beyond four digits, and whatever else lies there."""
    directory = overlays.root / "book"
    first, second = overlays.begin(directory), overlays.begin(directory)
    assert (first.path.name, second.path.name) == ("0001", "0002")
    (directory / "9999").mkdir()
    (directory / "notes").mkdir()
    assert overlays.begin(directory).path.name == "10000"
    assert [one.path.name for one in overlays.generations(directory)] == ["10000", "9999", "0002", "0001"]
    assert second.path.stat().st_mode & 0o777 == 0o700
    assert overlays.generations(overlays.root / "nobody") == []


def test_two_who_begin_at_once_get_two_generations(overlays: Store) -> None:
    """The directory's creation decides."""
    directory = overlays.root / "book"
    begun: list[Generation] = []
    threads = [threading.Thread(target=lambda: begun.append(overlays.begin(directory))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.path for one in begun}) == 20


def test_a_state_is_read_from_what_is_there(generation: Generation) -> None:
    """Given up, building, failed, ready: in this order of strength."""
    assert generation.state() is State.ABANDONED
    with locks.exclusive(generation.path / layout.BUILDER_LOCK):
        assert generation.state() is State.BUILDING
    assert generation.state() is State.ABANDONED
    generation.write(layout.FAILED, {"failure": {}})
    assert generation.state() is State.FAILED
    generation.write(layout.OVERLAY, {})
    assert generation.state() is State.READY
    assert not generation.entered
    (generation.path / layout.ENTERED).touch()
    assert generation.entered


def test_an_overlay_without_extras_is_ready_at_once(generation: Generation) -> None:
    """There is nothing to build and nothing to enter."""
    generation.publish_empty(BASE.id)
    assert (generation.state(), generation.entered) == (State.READY, True)
    assert generation.read(layout.OVERLAY)["extras"] == []


def test_only_a_ready_or_growing_generation_of_the_same_order_fits(
    overlays: Store, generation: Generation
) -> None:
    """Failed and abandoned ones are never taken up again."""
    directory = generation.path.parent
    assert overlays.fitting(directory, SPEC, BASE) is None
    with locks.exclusive(generation.path / layout.BUILDER_LOCK):
        assert overlays.fitting(directory, SPEC, BASE) == generation
    generation.write(layout.OVERLAY, {})
    assert overlays.fitting(directory, SPEC, BASE) == generation
    assert overlays.fitting(directory, {**SPEC, "extras": ["numpy"]}, BASE) is None


@pytest.mark.fault(18)
@pytest.mark.parametrize("name", [layout.OVERLAY, layout.SPEC])
@pytest.mark.parametrize("content", ["", "{", '{"schema": 99}', "[]", "null", "[" * 100_000])
def test_a_damaged_state_is_no_overlay(
    overlays: Store, generation: Generation, name: str, content: str
) -> None:
    """Truncated, empty, of another version: set aside, and the next launch starts a new generation."""
    generation.write(layout.OVERLAY, {})
    (generation.path / name).write_text(content)
    with pytest.raises(CorruptState):
        generation.read(name)
    assert overlays.fitting(generation.path.parent, SPEC, BASE) is None


def test_files_are_written_whole_and_for_their_owner_alone(generation: Generation) -> None:
    """One rename, no rest, nobody else's eyes: an order may hold a password."""
    generation.write("state.json", {"a": 1})
    generation.write("state.json", {"a": 2})
    assert generation.read("state.json")["a"] == 2
    assert (generation.path / "state.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in generation.path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    "other",
    [
        spec_of(Request(extras=("einops", "numpy")), BASE, SETTINGS),
        spec_of(Request(extras=("einops",), exclude_newer="2026-01-01T00:00:00Z"), BASE, SETTINGS),
        spec_of(Request(extras=("einops",)), BASE._replace(id="another"), SETTINGS),
        spec_of(Request(extras=("einops",)), BASE._replace(fingerprint="changed"), SETTINGS),
        spec_of(Request(extras=("einops",)), BASE, _under(pins="all")),
        spec_of(Request(extras=("einops",)), BASE, _under(source_builds="never")),
        spec_of(Request(extras=("einops",)), BASE, dataclasses.replace(SETTINGS, index_template="https://o/{tag}")),
    ],
)  # fmt: skip
def test_whatever_can_change_an_overlay_changes_its_order(other: dict[str, object]) -> None:
    """And its key, under which the lock is kept."""
    assert other != SPEC
    assert spec_key(other) != spec_key(SPEC)


def test_what_cannot_change_an_overlay_does_not_change_its_order() -> None:
    """A renewed password, another overlay root, how the base was asked for, rules of the moment."""
    renewed = dataclasses.replace(
        SETTINGS, index_template="https://me:renewed@mirror/whl/{tag}", overlay_root="/o",
        policy=_under(offline=True, contact="me", max_seconds=60.0).policy,
    )  # fmt: skip
    asked = Request(accelerator="cpu", torch=">=2", extras=("einops",), warnings=("odd",))
    assert spec_of(asked, BASE, renewed) == SPEC
    assert "secret" not in str(SPEC)


def test_a_notebooks_directory_is_named_for_people_and_by_its_real_path(
    overlays: Store, tmp_path: Path
) -> None:
    """Two of one name in two folders are apart, a link and its target are together, odd names are tamed."""
    book = tmp_path / "a/My Notebook (1).ipynb"
    assert overlays.notebook_dir(book).name.startswith("My-Notebook-1-")
    assert overlays.notebook_dir(book) != overlays.notebook_dir(tmp_path / "b" / book.name)
    book.parent.mkdir()
    book.touch()
    (tmp_path / "link.ipynb").symlink_to(book)
    assert overlays.notebook_dir(tmp_path / "link.ipynb") == overlays.notebook_dir(book)
    for odd in ("..ipynb", "\n.ipynb", "日本.ipynb", "x" * 250 + ".ipynb", "-rf.ipynb"):
        directory = overlays.notebook_dir(tmp_path / odd)
        assert directory.parent == overlays.root
        assert len(os.fsencode(directory.name)) < 100
        assert not directory.name.startswith(("-", "."))
