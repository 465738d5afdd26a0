"""A base that this user could write to, an adopted one above all, is left as it is by all that runs on it."""

from __future__ import annotations

import json
import marshal
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.overlay.skeleton import HOOK, write_skeleton
from kernel_provisioner.uv.discovery import uv_path
from tests.support.bases import Built, Workshop
from tests.support.environ import default_index
from tests.support.index import serve_index
from tests.support.launches import launches
from tests.support.notebooks import write_notebook
from tests.support.parts import need
from tests.support.tree import tree_hash

FILES = {
    "theirs/__init__.py": "NUMBER = 1\n\n\ndef function():\n    return NUMBER\n",
    "theirs/__main__.py": "import sys\nprint('run', sys.argv[1:])\n",
    "theirs/broken.py": "import json\n\nraise ValueError('from the base')\n",
    "theirs/text.txt": "a text\n",
    "theirs/test_theirs.py": "def test_it():\n    number = 1\n    assert number == 2, 'told'\n",
    "theirs_plugin.py": "def pytest_report_header():\n    assert [1, 2]\n    return 'a plugin of the base'\n",
}
LOOK = """
import importlib.resources, inspect, json, multiprocessing, pkgutil, subprocess, sys, traceback
import theirs
def told():
    try:
        import theirs.broken
    except ValueError:
        return [line.rpartition('/')[2] for line in traceback.format_exc().splitlines() if 'File' in line]
if __name__ == '__main__':
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        spawned = pool.apply(theirs.function)
    child = subprocess.run([sys.executable, '-m', 'theirs', 'x'], capture_output=True, text=True).stdout
    print(json.dumps([
        inspect.getsource(theirs.function), told(), spawned, child,
        sorted(module.name for module in pkgutil.iter_modules(theirs.__path__)),
        importlib.resources.files('theirs').joinpath('text.txt').read_text(),
    ]))
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """An index with tiny packages, before the usual one, which has pytest."""
    with serve_index(upstream=default_index()) as index:
        made = Workshop(tmp_path_factory.mktemp("bytecode"), index)
        made.stock("cpu")
        made.publish("theirs", files=FILES, entry_points={"pytest11": {"theirs": "theirs_plugin"}})
        yield made


@pytest.fixture(scope="module")
def adopted(shop: Workshop) -> RegisteredBase:
    """An environment of this user's, as uv makes it: without bytecode."""
    return shop.adopt(shop.environment("mine", "torch", "ipykernel", "numpy", "theirs")).base


@pytest.fixture(scope="module")
def overlay(shop: Workshop, adopted: RegisteredBase) -> Built:
    """An overlay on it that holds pytest."""
    built = shop.overlay(adopted, "pytest")
    assert built.ready, built.told
    shop.enter(built)
    return built


def run(built: Built, *words: str) -> subprocess.CompletedProcess[str]:
    """The overlay's Python."""
    command = [str(built.path / "bin/python"), *words]
    env = {"PATH": os.defpath, "HOME": str(built.path)}
    return subprocess.run(command, env=env, cwd=built.path, capture_output=True, text=True, check=False)


def test_what_python_compiles_is_kept_beside_the_register(overlay: Built, adopted: RegisteredBase) -> None:
    """For every overlay of the base, and nothing of it lies in the environment; the next start reads it."""
    before = tree_hash(Path(adopted.manifest.prefix))
    assert run(overlay, "-c", "import theirs; print(theirs.NUMBER)").stdout == "1\n"
    (kept,) = adopted.directory.glob("bytecode/**/theirs/__pycache__/__init__.*.pyc")
    kept.write_bytes(kept.read_bytes()[:16] + marshal.dumps(compile("NUMBER = 2", "theirs", "exec")))
    assert run(overlay, "-c", "import theirs; print(theirs.NUMBER)").stdout == "2\n"
    kept.unlink()
    assert tree_hash(Path(adopted.manifest.prefix)) == before


def test_bytecode_of_the_environment_itself_is_read(overlay: Built, adopted: RegisteredBase) -> None:
    """Whose owner runs it, too, has compiled most of it."""
    source = Path(adopted.manifest.site_dirs[0]) / "theirs"
    own = Path(adopted.manifest.prefix, "bin/python")
    subprocess.run([own, "-c", "import theirs"], env={}, check=True)
    (kept,) = source.glob("__pycache__/__init__.*.pyc")
    kept.write_bytes(kept.read_bytes()[:16] + marshal.dumps(compile("NUMBER = 3", "theirs", "exec")))
    assert run(overlay, "-c", "import theirs; print(theirs.NUMBER)").stdout == "3\n"
    shutil.rmtree(kept.parent)


def test_pytest_rewrites_assertions_of_the_base_and_leaves_it_alone(
    overlay: Built, adopted: RegisteredBase
) -> None:
    """Of its tests and of its plugins; those of the overlay are kept where pytest keeps them."""
    before = tree_hash(Path(adopted.manifest.prefix))
    (overlay.path / "test_mine.py").write_text("def test_it():\n    assert [1] == [2], 'mine'\n")
    words = ["-p", "no:cacheprovider", "test_mine.py", "--pyargs", "theirs.test_theirs"]
    done = run(overlay, "-m", "pytest", *words)
    assert "assert [1] == [2]" in done.stdout, done.stdout + done.stderr
    assert "assert 1 == 2" in done.stdout
    assert "a plugin of the base" in done.stdout
    assert tree_hash(Path(adopted.manifest.prefix)) == before
    assert list(adopted.directory.glob("bytecode/**/test_theirs.*-pytest-*.pyc"))
    assert list(overlay.path.glob("__pycache__/test_mine.*-pytest-*.pyc"))


def test_modules_of_the_base_are_as_they_are_elsewhere(overlay: Built, adopted: RegisteredBase) -> None:
    """For inspect, tracebacks, ``-m``, pkgutil, resources, scripts, and processes of its own."""
    before = tree_hash(Path(adopted.manifest.prefix))
    script = overlay.path / "look.py"
    script.write_text(LOOK)
    done = run(overlay, str(script))
    assert done.returncode == 0, done.stderr
    source, frames, spawned, child, modules, text = json.loads(done.stdout)
    assert source == "def function():\n    return NUMBER\n"
    assert [frame.partition('"')[0] for frame in frames] == ["look.py", "broken.py"]
    assert (spawned, child, text) == (1, "run ['x']\n", "a text\n")
    assert modules == ["__main__", "broken", "test_theirs"]
    assert run(overlay, f"{adopted.manifest.site_dirs[0]}/theirs/__main__.py", "y").stdout == "run ['y']\n"
    assert tree_hash(Path(adopted.manifest.prefix)) == before


def test_root_writes_no_bytecode_into_a_base(shop: Workshop, tmp_path: Path) -> None:
    """For root nothing is read-only. What the base holds serves; anything else is not kept."""
    need(os.geteuid() == 0, "root, for whom nothing is read-only: run the tests as root in a container")
    base = shop.create("cpu", packages=["theirs"]).base
    prefix = tmp_path / "overlay"
    prefix.mkdir()
    write_skeleton(prefix, base, uv=uv_path())
    before = tree_hash(base.directory)
    words = [str(prefix / "bin/python"), "-O", "-c", "import theirs, torch; print(theirs.__file__)"]
    done = subprocess.run(words, env={}, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(base.manifest.prefix)
    assert tree_hash(base.directory) == before


def test_a_base_that_cannot_be_written_to_costs_nothing(shop: Workshop, tmp_path: Path) -> None:
    """Nothing looks after it at a start."""
    base = shop.create("cpu").base
    nowhere = base._replace(manifest=base.manifest._replace(site_dirs=(str(tmp_path / "missing"),)))
    tmp_path.chmod(0o700)
    write_skeleton(tmp_path, nowhere, uv=uv_path())
    (hook,) = tmp_path.glob(f"lib/python*/site-packages/{HOOK}.py")
    assert "keep_elsewhere" not in hook.read_text()


def test_an_overlay_of_an_earlier_version_keeps_it_so_from_its_next_launch_on(
    shop: Workshop, adopted: RegisteredBase
) -> None:
    """It was made without the hook, and is not built again: it gets the hook."""
    notebook = write_notebook(shop.home / "before.ipynb")
    (first,) = launches([notebook], shop.env)
    prefix = Path(first["overlay"])
    (hook,) = prefix.glob(f"lib/python*/site-packages/{HOOK}.py")
    today = hook.read_text()
    assert "keep_elsewhere" in today
    hook.write_text("def extend(): pass\n")
    (second,) = launches([notebook], shop.env)
    assert second["overlay"] == first["overlay"]
    assert hook.read_text() == today
