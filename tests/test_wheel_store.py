"""The wheel store: every package is there once, linked from overlays, and nobody changes it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.overlay import store
from tests.support.bases import Bench, Workshop
from tests.support.parts import need
from tests.support.pythons import Python
from tests.support.stored import add, compiled, site, two
from tests.support.tree import tree_hash


def test_a_second_overlay_has_the_same_files_and_needs_neither_index_nor_cache(bench: Bench) -> None:
    """One copy, whoever asks; each link is short, and leads through the overlay's own link to the store."""
    bench.publish("shared-once")
    first = bench.overlay(bench.base(), "shared-once")
    bench.uv.run("cache", "clean").check("no")
    bench.index.asked.clear()
    second = bench.overlay(bench.base(), "shared-once", notebook="second.ipynb")
    assert bench.index.asked == []
    for built in (first, second):
        bench.enter(built)
    link = site(second) / "shared_once"
    assert link.is_symlink()
    assert len(str(link.readlink())) < 60  # what an inode of ext4 takes: such a link occupies no block
    assert link.resolve() == (site(first) / "shared_once").resolve()
    assert second.python("import shared_once; print(shared_once.__file__)") == f"{link}/__init__.py"


def test_what_is_imported_was_compiled_once(bench: Bench) -> None:
    """The first import in an overlay finds the bytecode; neither overlay nor store has more files then."""
    bench.publish(
        "byte-code", files={"byte_code/__init__.py": "import byte_code.sub\n", "byte_code/sub.py": "x = 1\n"}
    )
    bench.publish("single", files={"single.py": "x = 1\n"})
    first = bench.overlay(bench.base(), "byte-code", "single")
    before = compiled(bench, first)
    second = bench.overlay(bench.base(), "byte-code", "single", notebook="other.ipynb")
    bench.enter(second)
    code = "import os, byte_code as b, single as s; print(*[os.path.exists(m.__cached__) for m in (b, s)])"
    files = set(site(second).rglob("*"))
    assert second.python(code) == "True True"
    new = {path.name for path in site(second).rglob("*")} - {path.name for path in files}
    assert {name for name in new if not name.startswith("_torch_base_site")} == set()
    assert tree_hash(bench.overlays.root / store.WHEELS) == before


def test_wheels_that_share_a_namespace_are_one_directory(bench: Bench) -> None:
    """Also with a part that a third one adds by hand, which lands in the overlay."""
    bench.publish("ns-one", files={"ns/one/__init__.py": "", "ns/flat.py": "x = 1\n"})
    bench.publish("ns-two", files={"ns/two.py": "x = 2\n"})
    bench.publish("ns-three", files={"ns/three/__init__.py": ""})
    _, built = two(bench, "ns-one", "ns-two")
    before = compiled(bench, built)
    assert not (site(built) / "ns").is_symlink()
    bench.pip(built, "install", "ns-three")
    assert built.python("import ns.one, ns.flat, ns.two, ns.three; print(ns.two.x)") == "2"
    assert tree_hash(bench.overlays.root / store.WHEELS) == before


@pytest.mark.parametrize("kind", ["extend_path", "declare_namespace", "no init"])
def test_a_namespace_gets_its_second_part_later(bench: Bench, kind: str) -> None:
    """By hand or by an addition, at any depth: one link until then, and the store stays as it was."""
    name = kind.replace("_", "").replace(" ", "")
    init = f"__path__ = __import__('pkgutil').extend_path(__path__, __name__)  # {kind}\n"
    inits: dict[str, str | bytes] = {f"{name}/__init__.py": init, f"{name}/deep/__init__.py": init}
    for part in ("a", "b"):
        files = {f"{name}/{part}/__init__.py": "", f"{name}/deep/{part}.py": f"x = '{part}'\n"}
        bench.publish(f"{name}-{part}", files={**({} if kind == "no init" else inits), **files})
    by_hand, added = two(bench, f"{name}-a")
    before = compiled(bench, by_hand)
    assert (site(by_hand) / name).is_symlink()
    bench.pip(by_hand, "install", f"{name}-b")
    assert tree_hash(bench.overlays.root / store.WHEELS) == before
    assert add(bench, added, f"{name}-b")["changed"] == []
    both, _ = two(bench, f"{name}-a", f"{name}-b")
    for built in (by_hand, added, both):
        code = f"import {name}.a, {name}.b, {name}.deep.a, {name}.deep.b as d; print(d.x)"
        assert built.python(code) == "b"
        assert "compatible" in bench.pip(built, "check")


def test_wheels_that_share_a_regular_package_are_one_directory(bench: Bench) -> None:
    """As PyQt6 and what it needs; of a file that both bring the later is taken."""
    bench.publish(
        "gui",
        files={"gui/__init__.py": "", "gui/core.py": "", "gui/lib/a.txt": "a", "gui/same.py": "x = 1\n"},
    )
    bench.publish(
        "gui-parts",
        files={
            "gui/parts/__init__.py": "",
            "gui/deep/x/y.txt": "",
            "gui/lib/b.txt": "b",
            "gui/same.py": "x = 2\n",
        },
    )
    for built in two(bench, "gui", "gui-parts"):
        assert (site(built) / "gui/deep").is_symlink()  # one brings it, in a package that both are
        code = "import gui.core, gui.parts, gui.same, os; print(sorted(os.listdir(gui.__path__[0] + '/lib')))"
        assert built.python(code) == "['a.txt', 'b.txt']"
        assert "compatible" in bench.pip(built, "check")


def test_one_of_two_wheels_with_one_directory_is_replaced(bench: Bench) -> None:
    """By an addition, by an install by hand, and taken away: what the other has there stays."""
    bench.publish("duo", files={"duo/__init__.py": "", "duo/core.py": "", "duo/lib/a.txt": "a"})
    for version in ("1.0", "2.0"):
        files = {
            "duo/parts/__init__.py": f"V = {version!r}\n",
            "duo/lib/b.txt": version,
            f"duo/v{version[0]}.py": "",
        }
        bench.publish("duo-parts", version, files=files)
    built, other = two(bench, "duo", "duo-parts<2")
    before = compiled(bench, built)
    code = (
        "import duo.core, duo.parts as p, os; d = duo.__path__[0]; "
        "print(p.V, sorted(f for f in os.listdir(d) if f.startswith('v')), open(d + '/lib/b.txt').read())"
    )
    assert add(bench, built, "duo-parts==2.0")["changed"] == ["duo-parts"]
    assert built.python(code) == "2.0 ['v2.py'] 2.0"
    assert other.python(code) == "1.0 ['v1.py'] 1.0"
    bench.pip(other, "install", "-U", "duo-parts")
    assert other.python(code) == "2.0 ['v2.py'] 2.0"
    for each in (built, other):
        assert "compatible" in bench.pip(each, "check")
        bench.pip(each, "uninstall", "duo-parts")
        assert each.python("import duo.core, os; print(os.listdir(duo.__path__[0] + '/lib'))") == "['a.txt']"
    kept = {path: tree_hash(Path(path)) for path in other.content[layout.ENTRIES]}
    assert before
    assert kept
    again = bench.overlay(bench.base(), "duo", "duo-parts<2", notebook="duo-again.ipynb")
    bench.enter(again)
    assert again.python(code) == "1.0 ['v1.py'] 1.0"


@pytest.mark.parametrize(
    ("slim", "names"),
    [("x = 1\n", ["mine", "mine-slim"]), ("x = 0\n", ["yours", "yours-whole"])],
    ids=["the same files", "the later has all"],
)
def test_a_wheel_with_all_that_another_brings_is_one_link(bench: Bench, slim: str, names: list[str]) -> None:
    """As mlflow and mlflow-skinny; to installers both are there, and each can be replaced by hand."""
    top = names[0]
    part = {f"{top}/__init__.py": "", f"{top}/a.py": slim}
    whole = {f"{top}/__init__.py": "", f"{top}/a.py": "x = 1\n", f"{top}/sub/b.py": "y = 2\n"}
    larger = next(name for name in names if ("whole" in name) is (top == "yours"))
    for name in names:
        bench.publish(name, files=whole if name == larger else part)
    built, other = two(bench, *names)
    assert (site(built) / top).is_symlink()
    code = f"import {top}.a, {top}.sub.b as b; print({top}.a.x, b.y)"
    assert (built.python(code), other.python(code)) == ("1 2", "1 2")
    assert "compatible" in bench.pip(built, "check")
    bench.publish(names[1], "2.0", files={f"{top}/a.py": "x = 3\n"})
    bench.pip(built, "install", "-U", names[1])
    assert built.python(f"import {top}.a; print({top}.a.x)") == "3"
    assert other.python(code) == "1 2"


def test_commands_data_and_headers_are_each_overlays_own(bench: Bench) -> None:
    """A command runs with the overlay's Python; data lies where programs look for it."""
    bench.publish("tool-shed", files={
        "tool_shed.py": "import sys\ndef main(): print(sys.prefix)\n",
        "tool_shed-1.0.data/scripts/shed.py": "#!python\nimport sys; print(sys.prefix)\n",
        "tool_shed-1.0.data/data/share/shed/data.txt": "here",
        "tool_shed-1.0.data/headers/shed.h": "int x;",
        "tool_shed-1.0.data/data/bin/helpers/run": "#!/bin/sh\necho helped\n",
    }, entry_points={"console_scripts": {"shed": "tool_shed:main"}})  # fmt: skip
    for built in two(bench, "tool-shed"):
        for command in ("shed", "shed.py"):
            done = subprocess.run([built.path / "bin" / command], capture_output=True, text=True, check=True)
            assert done.stdout.strip() == str(built.path)
        assert (built.path / "share/shed/data.txt").read_text() == "here"
        assert list(built.path.glob("include/**/shed.h"))
        assert "helped" in (built.path / "bin/helpers/run").read_text()


def test_metadata_of_linked_packages_is_complete(bench: Bench) -> None:
    """``importlib.metadata`` finds versions, entry points, resources, and which package a module is of."""
    bench.publish("meta-data", files={"meta_mod/__init__.py": "", "meta_mod/data.txt": "here"},
                  entry_points={"some.group": {"it": "meta_mod:x"}})  # fmt: skip
    _, built = two(bench, "meta-data")
    code = (
        "from importlib import metadata as m, resources as r; import meta_mod, pkgutil; "
        "print(m.version('meta-data'), m.packages_distributions()['meta_mod'], "
        "[e.name for e in m.entry_points(group='some.group')], "
        "(r.files('meta_mod') / 'data.txt').read_text(), "
        "'meta_mod' in [x.name for x in pkgutil.iter_modules()])"
    )
    assert built.python(code) == "1.0 ['meta-data'] ['it'] here True"


def test_a_newer_python_needs_no_file_for_that(
    shop: Workshop, pythons: tuple[Python, ...], tmp_path: Path
) -> None:
    """From 3.12 on ``packages_distributions`` takes the links that RECORD names for modules."""
    need(pythons[-1].version >= (3, 12), "a Python from 3.12 on")
    shop.stock("cpu")
    shop.publish("meta-data", files={"meta_mod/__init__.py": "", "single_mod.py": ""})
    built = shop.overlay(shop.create("cpu", python=pythons[-1].executable).base, "meta-data")
    assert built.ready, built.told
    shop.enter(built)
    code = (
        "from importlib import metadata as m; found = m.packages_distributions(); "
        "print(found['meta_mod'], found['single_mod'])"
    )
    assert built.python(code) == "['meta-data'] ['meta-data']"
    assert not list(built.path.rglob("meta_data-1.0.dist-info/top_level.txt"))


def test_a_wheel_that_looks_into_another_is_placed_as_files(bench: Bench) -> None:
    """Its library finds the other's by a path relative to its own file, which a link would lead astray."""
    library = b"\x7fELF" + b"\0" * 60 + b"\0$ORIGIN/../lib_b:$ORIGIN/own\0"
    bench.publish("lib-a", files={"lib_a/__init__.py": "", "lib_a/own/x.txt": "", "lib_a/a.so": library})
    bench.publish("lib-b", files={"lib_b/__init__.py": "", "lib_b/b.so": b"\x7fELF"})
    both, _ = two(bench, "lib-a", "lib-b")
    assert not (site(both) / "lib_a").is_symlink()
    assert (site(both) / "lib_b").is_symlink()
    assert (site(both) / "lib_a/a.so").samefile(both.path / "lib") is False
    alone, _ = two(bench, "lib-a")
    assert (site(alone) / "lib_a").is_symlink()
    assert "compatible" in bench.pip(both, "check")


def test_what_gradio_writes_into_its_own_directory_is_there_already(bench: Bench) -> None:
    """Imported by root it would change the store, and the next build would unpack it again."""
    code = (
        "import os; seed = os.path.join(os.path.dirname(__file__), 'hash_seed.txt')\n"
        "if not os.path.exists(seed): open(seed, 'w').write('made')\n"
        "print(len(open(seed).read()))\n"
    )
    bench.publish("gradio", files={"gradio/__init__.py": code})
    built, _ = two(bench, "gradio")
    before = compiled(bench, built)
    assert built.python("import gradio") == "32"
    assert tree_hash(bench.overlays.root / store.WHEELS) == before


def test_a_plugin_of_pytest_is_placed_as_files_where_pytest_is(bench: Bench) -> None:
    """pytest finds what it rewrites by RECORD; an overlay without it has links, until it is added."""
    bench.publish("pytest")
    bench.publish("pytest-some", files={"pytest_some/__init__.py": ""},
                  entry_points={"pytest11": {"some": "pytest_some"}})  # fmt: skip
    code = (
        "from importlib.metadata import files; print(*[f for f in files('pytest-some') if f.suffix == '.py'])"
    )
    both, _ = two(bench, "pytest", "pytest-some")
    assert both.python(code) == "pytest_some/__init__.py"
    for adding in ("an addition", "by hand"):
        alone = bench.overlay(bench.base(), "pytest-some", notebook=f"{adding}.ipynb")
        bench.enter(alone)
        assert (site(alone) / "pytest_some").is_symlink()
        if adding == "by hand":
            bench.pip(alone, "install", "pytest")
        else:
            add(bench, alone, "pytest")
        assert alone.python(code) == "pytest_some/__init__.py"
        assert "compatible" in bench.pip(alone, "check")
