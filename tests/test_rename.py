"""A renamed notebook keeps its overlay, and with it what was installed in it by hand."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_provisioner.overlay.store import Store, claim, identity, owner
from tests.conftest import TorchBase
from tests.support.notebooks import write_notebook
from tests.support.server import JupyterServer, jupyter_server
from tests.support.session import Session

EINOPS = {"accelerator": "cpu", "extras": ["einops"]}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store of overlays."""
    store = Store(tmp_path / "overlays")
    store.prepare()
    return store


def test_the_overlays_go_with_the_notebook_to_its_new_name(store: Store, tmp_path: Path) -> None:
    """The directory stays where it is, for nothing in it could be moved; the new name finds it."""
    directory = _launched(store, tmp_path / "old.ipynb")
    (tmp_path / "old.ipynb").rename(tmp_path / "new.ipynb")
    store.carry_over(directory, tmp_path / "new.ipynb")
    assert store.notebook_dir(tmp_path / "new.ipynb") == directory
    assert owner(directory) == str(tmp_path / "new.ipynb")


def test_another_notebook_of_the_old_name_has_its_own(store: Store, tmp_path: Path) -> None:
    """A name that is free again is taken again (Untitled.ipynb), by a notebook that shares nothing."""
    directory = _launched(store, tmp_path / "Untitled.ipynb")
    (tmp_path / "Untitled.ipynb").rename(tmp_path / "named.ipynb")
    store.carry_over(directory, tmp_path / "named.ipynb")
    second = _launched(store, tmp_path / "Untitled.ipynb")
    assert second != directory
    (tmp_path / "Untitled.ipynb").rename(tmp_path / "other.ipynb")
    store.carry_over(second, tmp_path / "other.ipynb")
    third = _launched(store, tmp_path / "Untitled.ipynb")
    assert len({directory, second, third}) == 3
    assert store.notebook_dir(tmp_path / "named.ipynb") == directory
    assert store.notebook_dir(tmp_path / "other.ipynb") == second


def test_a_renamed_notebook_is_known_though_another_has_its_name(store: Store, tmp_path: Path) -> None:
    """Between the rename and the restart its old name may be given away; the file itself is the same."""
    directory = _launched(store, tmp_path / "Untitled.ipynb")
    seen = identity(tmp_path / "Untitled.ipynb")
    (tmp_path / "Untitled.ipynb").rename(tmp_path / "named.ipynb")
    write_notebook(tmp_path / "Untitled.ipynb")
    store.carry_over(directory, tmp_path / "named.ipynb", seen)
    assert store.notebook_dir(tmp_path / "named.ipynb") == directory
    assert store.notebook_dir(tmp_path / "Untitled.ipynb") != directory


def test_a_name_given_back_finds_the_same_overlays(store: Store, tmp_path: Path) -> None:
    """There and back again, and once more."""
    here, there = tmp_path / "here.ipynb", tmp_path / "there.ipynb"
    directory = _launched(store, here)
    for old, new in ((here, there), (there, here), (here, there)):
        old.rename(new)
        store.carry_over(directory, new)
        assert store.notebook_dir(new) == directory
        assert store.notebook_dir(old) != directory


def test_a_renamed_notebook_takes_the_place_of_one_that_is_gone(store: Store, tmp_path: Path) -> None:
    """What a deleted notebook of that name left is not the renamed one's, which brings its own."""
    gone = _launched(store, tmp_path / "name.ipynb")
    (tmp_path / "name.ipynb").unlink()
    directory = _launched(store, tmp_path / "draft.ipynb")
    (tmp_path / "draft.ipynb").rename(tmp_path / "name.ipynb")
    store.carry_over(directory, tmp_path / "name.ipynb")
    assert store.notebook_dir(tmp_path / "name.ipynb") == directory != gone


def test_a_copy_under_another_name_starts_afresh(store: Store, tmp_path: Path) -> None:
    """Saving it as another takes the session along too, but the old notebook is still there."""
    directory = _launched(store, tmp_path / "first.ipynb")
    shutil.copy(tmp_path / "first.ipynb", tmp_path / "second.ipynb")
    store.carry_over(directory, tmp_path / "second.ipynb", identity(tmp_path / "first.ipynb"))
    assert store.notebook_dir(tmp_path / "first.ipynb") == directory
    assert store.notebook_dir(tmp_path / "second.ipynb") != directory


def test_two_names_of_one_file_are_one_notebook(store: Store, tmp_path: Path) -> None:
    """A link to a folder, or to the notebook itself, changes nothing."""
    directory = _launched(store, tmp_path / "folder/nb.ipynb")
    (tmp_path / "link").symlink_to("folder")
    assert store.notebook_dir(tmp_path / "link/nb.ipynb") == directory
    store.carry_over(directory, tmp_path / "link/nb.ipynb")
    assert owner(directory) == str(tmp_path / "folder/nb.ipynb")


def test_a_name_that_is_no_text_has_its_overlays(store: Store, tmp_path: Path) -> None:
    """File names are bytes; some are no UTF-8."""
    directory = _launched(store, tmp_path / "caf\udce9.ipynb")
    assert store.notebook_dir(tmp_path / "caf\udce9.ipynb") == directory
    assert owner(directory) == str(tmp_path / "caf\udce9.ipynb")


@pytest.fixture(scope="module")
def server(torch_base_home: TorchBase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    """One Jupyter server for this module."""
    home = tmp_path_factory.mktemp("rename")
    with jupyter_server(home / "work", torch_base_home.environment(home)) as running:
        yield running


@pytest.mark.torch
@pytest.mark.network
@pytest.mark.slow
def test_a_notebook_renamed_while_it_runs_goes_on_as_it_is(server: JupyterServer) -> None:
    """Rename and restart: its metadata, its extra and what was installed by hand are all there."""
    write_notebook(server.root / "draft.ipynb", torch_env=EINOPS)
    with server.session("draft.ipynb", "torch") as session:
        before = _prefix(session)
        assert session.execute("%pip install -q humanize").status == "ok"
        _rename(server, session, "draft.ipynb", "final.ipynb")
        # A new one of the old name, which asks for other things.
        write_notebook(server.root / "draft.ipynb", torch_env={"extras": ["tqdm"]})
        assert session.execute("import einops").status == "ok", "the running kernel notices nothing"
        session.restart()
        done = session.execute("import einops, humanize; print('both')")
        assert done.stdout == "both\n", done.text
        assert _prefix(session) == before
        assert session.execute("import tqdm").status == "error"
        with server.session("draft.ipynb", "torch") as other:
            assert other.execute("import tqdm").status == "ok"
            assert Path(_prefix(other)).parent != Path(before).parent
            assert other.execute("import humanize").status == "error"


@pytest.mark.torch
@pytest.mark.network
@pytest.mark.slow
def test_a_notebook_renamed_and_closed_is_opened_as_it_was(server: JupyterServer) -> None:
    """The last the server knows of a kernel it shuts down is the notebook's new name."""
    write_notebook(server.root / "day/one.ipynb", torch_env=EINOPS)
    with server.session("day/one.ipynb", "torch") as session:
        before = _prefix(session)
        assert session.execute("!uv pip install -q humanize").status == "ok"
        (server.root / "week").mkdir()
        _rename(server, session, "day/one.ipynb", "week/one.ipynb")
    with server.session("week/one.ipynb", "torch") as session:
        assert session.execute("import einops, humanize").status == "ok"
        assert _prefix(session) == before


def _launched(store: Store, notebook: Path) -> Path:
    """The directory of a notebook that was written and run."""
    write_notebook(notebook)
    directory = store.notebook_dir(notebook)
    store.begin(directory)
    claim(directory, notebook)
    return directory


def _rename(server: JupyterServer, session: Session, old: str, new: str) -> None:
    """What a frontend does when its user renames an open notebook."""
    server.request("PATCH", f"api/contents/{old}", {"path": new})
    session.rename(new)


def _prefix(session: Session) -> str:
    done = session.execute("import sys; print(sys.prefix)")
    return done.stdout.strip()
