"""A package of the wheel store is damaged under running kernels: a cell sees it, and it is unpacked again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_provisioner.inkernel.damage import damaged
from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.overlay import store
from kernel_provisioner.store.fill import remove
from tests.conftest import TorchBase
from tests.support.bases import Bench
from tests.support.index import serve_index
from tests.support.notebooks import write_notebook
from tests.support.server import JupyterServer, jupyter_server
from tests.support.wheels import build_wheel

KERNEL = "torch-cpu"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, torch_base_home: TorchBase) -> Iterator[JupyterServer]:
    """A Jupyter server, with an index of one package."""
    home, work = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("work")
    with serve_index() as index:
        files = {"worn/__init__.py": "", "worn/late.py": "x = 7\n"}
        index.publish(build_wheel(home / "wheels", "worn", files=files))
        reach = {"UV_DEFAULT_INDEX": index.default, "UV_INDEX": "", "UV_NO_CONFIG": "1"}
        env = torch_base_home.environment(home, **reach, UV_CACHE_DIR=str(home / "uv"))
        with jupyter_server(work, env) as running:
            yield running


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.fault(37)
@pytest.mark.parametrize("how", ["cut short", "deleted"])
def test_the_next_launch_of_any_notebook_unpacks_it_again(server: JupyterServer, how: str) -> None:
    """The cell that fails by it says so; then the same notebook and another, both ready before, are whole."""
    code = "import worn.late; print(worn.late.x)"
    names = [f"{which}-{how.partition(' ')[0]}.ipynb" for which in ("one", "two")]
    for name in names:
        write_notebook(server.root / name, torch_env={"extras": ["worn"]})
    with server.session(names[1], KERNEL) as other:
        assert other.execute("import worn").status == "ok"
    with server.session(names[0], KERNEL) as session:
        said = session.execute("import worn, os; print(os.path.realpath(worn.__file__))").stdout
        late = Path(said.strip()).with_name("late.py")
        if how == "deleted":
            remove(late.parents[2])
        else:
            _write(late, "x = (\n")
            for compiled in late.parent.glob("__pycache__/late*"):
                _delete(compiled)
        done = session.execute(code)
        assert done.status == "error"
        if how == "cut short":
            assert "worn in the wheel store was changed (worn/late.py): restart the kernel" in done.text
        with server.session(names[1], KERNEL) as other:
            assert other.execute(code).stdout == "7\n"
        session.restart()
        assert session.execute(code).stdout == "7\n"


@pytest.fixture
def failing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Path]]:
    """An overlay with a package that fails, in this process too, and its entry."""
    bench.publish("unwell", files={"unwell/__init__.py": "import json\njson.loads('')\n", "unwell/b.py": ""})
    built = bench.overlay(bench.base(), "unwell", notebook="unwell.ipynb")
    assert built.ready, built.told
    bench.enter(built)
    (site,) = built.path.glob("lib/python*/site-packages")
    monkeypatch.syspath_prepend(site)
    (entry,) = built.content[layout.ENTRIES]
    yield built.path, Path(entry)
    remove(bench.overlays.root / store.WHEELS)


def test_an_error_of_a_package_that_is_whole_says_nothing(failing: tuple[Path, Path]) -> None:
    """Nor does one that has nothing to do with the store."""
    overlay, _ = failing
    assert damaged(_error("import unwell"), overlay) == ""
    assert damaged(_error("1 / 0"), overlay) == ""
    assert damaged(_error("import no_such_thing"), overlay) == ""


@pytest.mark.parametrize("how", ["a file was written to", "a file came", "a file went"])
def test_a_package_that_was_changed_counts_no_more(failing: tuple[Path, Path], how: str) -> None:
    """Whichever of its files; also where the error is only what another one came from."""
    overlay, entry = failing
    package = entry / "site/unwell"
    if how == "a file was written to":
        _write(package / "b.py", "x = 1\n")
    elif how == "a file came":
        package.chmod(0o755)
        (package / "c.py").touch()
    else:
        _delete(package / "b.py")
    caught = _error("try:\n    import unwell\nexcept ValueError:\n    raise KeyError('x')")
    assert damaged(caught, overlay).startswith("unwell in the wheel store was changed (unwell")
    assert not (entry / "entry.json").exists()
    assert damaged(caught, overlay).startswith(f"{entry.name} in the wheel store was changed")


def test_a_package_of_a_shared_store_is_its_admins(failing: tuple[Path, Path], tmp_path: Path) -> None:
    """What is not the user's own stays as it is."""
    overlay, entry = failing
    shared = tmp_path / "torch-store" / entry.name
    shared.parent.mkdir()
    entry.chmod(0o755)
    entry.rename(shared)
    entry.symlink_to(shared)
    _write(shared / "site/unwell/b.py", "x = 1\n")
    assert f"tell the admin of {shared.parent}" in damaged(_error("import unwell"), overlay)
    assert (shared / "entry.json").exists()


def _error(code: str) -> Exception:
    try:
        exec(code, {})
    except Exception as error:
        return error
    raise AssertionError("nothing failed")


def _write(path: Path, text: str) -> None:
    path.chmod(0o644)
    path.write_text(text)


def _delete(path: Path) -> None:
    path.parent.chmod(0o755)
    path.unlink()
    assert not os.path.lexists(path)
