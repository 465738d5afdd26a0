"""The house stands as it was drawn: who may import whom, and who may touch the machine."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "kernel_provisioner"
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((REPOSITORY / "tests").rglob("*.py"))

FLOORS = (
    "inkernel",
    "errors",
    "pausepoint",
    "files",
    "aside",
    "room",
    "ownership",
    "manifest",
    "accelerators",
    "seen",
    "records",
    "fields",
    "pylock",
    "request",
    "selection",
    "hardware",
    "notebook",
    "policy",
    "search_paths",
    "settings",
    "process",
    "loopback",
    "pages",
    "router",
    "uv_facts",
    "uv_failures",
    "uv",
    "locks",
    "base",
    "overlay",
    "builder",
    "venv",
    "prune",
    "choose",
    "warm",
    "prepare",
    "provisioner",
    "launch",
    "cli",
)
"""The rooms from the ground up. A room imports itself and what lies below it."""

ENTRY_POINTS = ("builder/__main__.py", "provisioner", "launch", "cli")
"""Where a process or a plugin begins; two of these share code through the floors below them."""

PURE = ("manifest", "accelerators", "fields", "policy", "pylock", "request", "selection")
"""Rooms that decide on values alone."""

TOUCHES_THE_WORLD = frozenset({
    "asyncio", "ctypes", "fcntl", "glob", "http", "io", "logging", "multiprocessing", "os", "platform",
    "random", "requests", "secrets", "shutil", "signal", "socket", "subprocess", "tempfile", "threading",
    "time", "urllib.request",
})  # fmt: skip

STARTS_PROCESSES = frozenset({"multiprocessing", "pexpect", "pty", "subprocess"})
CALLS_START_PROCESSES = (
    "asyncio.create_subprocess",
    "os.fork",
    "os.popen",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
)

IN_KERNEL_MAY_IMPORT = frozenset({"IPython", "ipykernel", "jupyter_client", "traitlets"})
"""What every base has: the kernel's side runs there, without the rest of this package."""

PROBE = PACKAGE / "base/probe.py"
"""The script that asks an environment what it is."""

LONGEST = 400
"""Lines after which a file no longer has one job."""


def room_of(module: Path) -> str:
    """The room that a file of the package belongs to."""
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rooms_imported_by(module: Path) -> set[str]:
    """The rooms that a file imports from, whatever the form of the import."""
    names = (name.split(".") for name in imports_of(module) if name.startswith("kernel_provisioner."))
    return {parts[1] for parts in names} - {"__version__"}


def imports_of(module: Path) -> Iterator[str]:
    """Every module or ``module.name`` that a file imports, relative imports resolved."""
    package = ["kernel_provisioner", *module.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{start}.{alias.name}" for alias in node.names)


def dotted_in(module: Path) -> set[str]:
    """Every ``name.attribute``, however long, that a file speaks of."""
    return {ast.unparse(node) for node in ast.walk(_tree(module)) if isinstance(node, ast.Attribute)}


def called_in(module: Path) -> set[str]:
    """The name, dotted or plain, of everything that a file calls."""
    return {ast.unparse(node.func) for node in ast.walk(_tree(module)) if isinstance(node, ast.Call)}


def relative(module: Path) -> str:
    """How a failing test names a file."""
    return module.relative_to(REPOSITORY).as_posix()


each_module = pytest.mark.parametrize("module", MODULES, ids=relative)


def test_every_room_has_its_floor() -> None:
    """A new room is given its place here, and one that is gone loses it."""
    rooms = {room_of(module) for module in MODULES if room_of(module) != "__init__"}
    assert rooms == set(FLOORS)


@each_module
def test_no_room_imports_from_above(module: Path) -> None:
    """Lower floors never import higher ones, not even for their types."""
    if room_of(module) == "__init__":
        assert not rooms_imported_by(module)  # importing any room runs this file first
        return
    own = FLOORS.index(room_of(module))
    assert not {room for room in rooms_imported_by(module) if FLOORS.index(room) > own}


def test_entry_points_never_import_each_other() -> None:
    """What two of them need lies on a floor below both."""
    for module in MODULES:
        name = module.relative_to(PACKAGE).as_posix()
        if room_of(module) in ENTRY_POINTS or name in ENTRY_POINTS:
            others = set(ENTRY_POINTS) - {room_of(module)}
            assert not rooms_imported_by(module) & others, name
        assert "kernel_provisioner.builder.__main__" not in set(imports_of(module)), name


def test_subcommands_never_import_each_other() -> None:
    """Only ``cli/app.py`` knows the subcommands; what two of them share is no subcommand."""
    commands = {module.stem for module in (PACKAGE / "cli").glob("*.py") if _defines_a_command(module)}
    assert commands
    for module in (PACKAGE / "cli").glob("*.py"):
        if module.stem != "app":
            imported = {
                name.split(".")[2]
                for name in imports_of(module)
                if name.startswith("kernel_provisioner.cli.")
            }
            assert not imported & (commands - {module.stem}), relative(module)


@pytest.mark.parametrize(
    "module", [module for module in MODULES if room_of(module) == "inkernel"], ids=relative
)
def test_the_kernels_side_needs_only_what_every_base_has(module: Path) -> None:
    """The standard library and ipykernel: a base knows nothing of this package."""
    for name in imports_of(module):
        known = name.split(".")[0] in IN_KERNEL_MAY_IMPORT | sys.stdlib_module_names
        assert known or name.startswith("kernel_provisioner.inkernel"), name


@each_module
def test_processes_start_in_one_place(module: Path) -> None:
    """``process.py`` alone starts them; the kernel's side has its own, for it lives alone."""
    if room_of(module) in ("process", "inkernel"):
        return
    assert not {name.split(".")[0] for name in imports_of(module)} & STARTS_PROCESSES
    assert not [name for name in called_in(module) if name.startswith(CALLS_START_PROCESSES)]
    if room_of(module) != "launch":  # becomes the kernel, and starts nothing
        assert not [name for name in called_in(module) if name.startswith("os.exec")]


@each_module
def test_locks_are_taken_in_one_place(module: Path) -> None:
    """``locks.py`` alone knows flock; the kernel's side has its own, for it lives alone."""
    if room_of(module) not in ("locks", "inkernel"):
        assert "fcntl" not in {name.split(".")[0] for name in imports_of(module)}


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module) in PURE], ids=relative)
def test_pure_rooms_decide_on_values_alone(module: Path) -> None:
    """No file, clock, environment, process or network in them."""
    for name in imports_of(module):
        assert name not in TOUCHES_THE_WORLD, name
        assert name.rpartition(".")[0] not in TOUCHES_THE_WORLD, name
        assert not name.startswith("pathlib.Path"), name
    assert not called_in(module) & {"open", "input", "print", "eval", "exec"}


@each_module
def test_torch_is_never_imported_here(module: Path) -> None:
    """Asking torch takes seconds, and this Python may have none: a base is asked by its own."""
    if module != PROBE:
        assert "torch" not in {name.split(".")[0] for name in imports_of(module)}


def test_the_probe_needs_only_what_every_base_has() -> None:
    """A base's own Python runs that file by its path; nobody imports it."""
    assert {name.split(".")[0] for name in imports_of(PROBE)} <= sys.stdlib_module_names | {"torch"}
    for module in MODULES:
        assert not [name for name in imports_of(module) if name.startswith("kernel_provisioner.base.probe")]


@each_module
def test_a_file_has_one_job(module: Path) -> None:
    """A file that grows beyond this has two."""
    assert len(module.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("module", TESTS, ids=relative)
def test_a_test_is_skipped_only_through_need(module: Path) -> None:
    """``need`` prints the reason and fails in CI; any other skip could hide for ever."""
    if module != REPOSITORY / "tests/support/parts.py":
        assert not called_in(module) & {
            "pytest.skip",
            "pytest.importorskip",
            "pytest.xfail",
            "unittest.SkipTest",
        }
        assert not dotted_in(module) & {"pytest.mark.skip", "pytest.mark.skipif", "pytest.mark.xfail"}
        assert not dotted_in(module) & {"unittest.skip", "unittest.skipIf", "unittest.skipUnless"}


def _tree(module: Path) -> ast.Module:
    return ast.parse(module.read_text(encoding="utf-8"), str(module))


def _defines_a_command(module: Path) -> bool:
    """Whether a file of ``cli`` holds an application; ``common.py`` holds what they derive from."""
    classes = [node for node in _tree(module).body if isinstance(node, ast.ClassDef)]
    return module.stem != "common" and any(
        ast.unparse(base).endswith("App") for node in classes for base in node.bases
    )
