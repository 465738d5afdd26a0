"""The house stands as it was drawn: who can import whom, and who can touch the machine."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "kernel_provisioner"
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((REPOSITORY / "tests").rglob("*.py"))

FLOORS = (
    "inkernel",
    "errors",
    "system",
    "model",
    "selection",
    "policy",
    "hardware",
    "notebook",
    "settings",
    "index",
    "uv",
    "store",
    "base",
    "overlay",
    "builder",
    "project",
    "collector",
    "warm",
    "launch",
    "runs",
    "provisioner",
    "server",
    "cli",
)
"""The rooms from the ground up. A room imports itself and what lies below it."""

ENTRY_POINTS = ("builder/__main__.py", "provisioner", "server", "cli")
"""Where a process or a plugin begins; two of these share code through the floors below them."""

PURE = ("model", "policy", "selection")
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

DOORS = ("__init__.py", "errors.py", "provisioner.py", "settings.py")
"""All that lies loose on the top level."""

IN_KERNEL_MAY_IMPORT = frozenset({"IPython", "ipykernel", "jupyter_client", "traitlets"})
"""What every base has: the kernel's side runs there, without the rest of this package."""

PROBE = PACKAGE / "base/probe.py"
"""The script that asks an environment what it is."""

LONGEST = 400
"""Lines after which a file no longer has one job."""

IMPATIENT = 5
"""Seconds from which on a number is a deadline of the tests, and no time limit that is being tested."""

SKIPPING_CALLS = frozenset({"pytest.importorskip", "pytest.skip", "pytest.xfail", "unittest.SkipTest"})
SKIPPING_MARKS = frozenset({
    "pytest.mark.skip", "pytest.mark.skipif", "pytest.mark.xfail",
    "unittest.skip", "unittest.skipIf", "unittest.skipUnless",
})  # fmt: skip
"""Ways around a test that do not go through ``need``."""


def room_of(module: Path) -> str:
    """The room that a file of the package belongs to."""
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rooms_imported_by(module: Path) -> set[str]:
    """The rooms that a file imports from, whatever the form of the import."""
    names = (name.split(".") for name in imports_of(module) if name.startswith("kernel_provisioner."))
    return {parts[1] for parts in names} - {"__version__"}


@functools.cache
def imports_of(module: Path) -> tuple[str, ...]:
    """Every module or ``module.name`` that a file imports, relative imports resolved."""
    package = module.relative_to(REPOSITORY).parts[:-1]
    found: list[str] = []
    for node in nodes_of(module):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*above, *([node.module] if node.module else [])])
            found += (f"{start}.{alias.name}" for alias in node.names)
    return tuple(found)


@functools.cache
def dotted_in(module: Path) -> frozenset[str]:
    """Every ``name.attribute``, however long, that a file speaks of."""
    return frozenset(ast.unparse(node) for node in nodes_of(module) if isinstance(node, ast.Attribute))


@functools.cache
def called_in(module: Path) -> frozenset[str]:
    """The name, dotted or plain, of everything that a file calls."""
    return frozenset(ast.unparse(node.func) for node in nodes_of(module) if isinstance(node, ast.Call))


@functools.cache
def nodes_of(module: Path) -> tuple[ast.AST, ...]:
    """Every node of a file's syntax tree; a file is parsed once for all tests."""
    return tuple(ast.walk(ast.parse(module.read_text(encoding="utf-8"), str(module))))


def relative(module: Path) -> str:
    """How a failing test names a file."""
    return module.relative_to(REPOSITORY).as_posix()


def offenders(modules: Iterable[Path], offence: Callable[[Path], Iterable[str]]) -> dict[str, list[str]]:
    """What each file does that it must not: file → what it names. Empty where all keep the rule."""
    found = {relative(module): sorted(offence(module)) for module in modules}
    return {module: names for module, names in found.items() if names}


def test_every_room_has_its_floor() -> None:
    """A new room is given its place here, and one that is gone loses it."""
    rooms = {room_of(module) for module in MODULES if room_of(module) != "__init__"}
    assert rooms == set(FLOORS)


def test_no_room_imports_from_above() -> None:
    """Lower floors never import higher ones, not even for their types."""

    def above(module: Path) -> set[str]:
        own = FLOORS.index(room_of(module))
        return {room for room in rooms_imported_by(module) if FLOORS.index(room) > own}

    door = PACKAGE / "__init__.py"
    assert not rooms_imported_by(door)  # importing any room runs this file first
    assert not offenders([module for module in MODULES if module != door], above)


def test_only_doors_lie_on_the_top_level() -> None:
    """Everything else has a room."""
    assert sorted(path.name for path in PACKAGE.glob("*.py")) == sorted(DOORS)


def test_only_the_shared_part_of_the_kernels_side_is_imported() -> None:
    """The kernel's side is run by its path, in another Python; what both sides need lies in ``shared``."""

    def private(module: Path) -> set[str]:
        own = {name for name in imports_of(module) if name.startswith("kernel_provisioner.inkernel.")}
        return {name for name in own if name.split(".")[2] != "shared"}

    assert not offenders([module for module in MODULES if room_of(module) != "inkernel"], private)


def test_entry_points_never_import_each_other() -> None:
    """What two of them need lies on a floor below both."""
    for module in MODULES:
        name = module.relative_to(PACKAGE).as_posix()
        if room_of(module) in ENTRY_POINTS or name in ENTRY_POINTS:
            others = set(ENTRY_POINTS) - {room_of(module)}
            assert not rooms_imported_by(module) & others, name
        assert "kernel_provisioner.builder.__main__" not in imports_of(module), name


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


def test_the_kernels_side_needs_only_what_every_base_has() -> None:
    """The standard library and ipykernel: a base knows nothing of this package."""
    known = IN_KERNEL_MAY_IMPORT | sys.stdlib_module_names

    def unknown(module: Path) -> set[str]:
        foreign = {name for name in imports_of(module) if name.split(".")[0] not in known}
        return {name for name in foreign if not name.startswith("kernel_provisioner.inkernel")}

    alone = PACKAGE / "notebook/frames.py"  # ``inkernel/nested.py`` runs it by its path
    inside = [module for module in MODULES if room_of(module) == "inkernel"]
    assert not offenders([*inside, alone], unknown)


def test_processes_start_in_one_place() -> None:
    """``system/processes.py`` alone starts them; the kernel's side has its own, for it lives alone."""
    becomes_the_kernel = PACKAGE / "launch/argv.py"  # and starts nothing

    def starts(module: Path) -> set[str]:
        calls = CALLS_START_PROCESSES if module == becomes_the_kernel else (*CALLS_START_PROCESSES, "os.exec")
        return {name for name in imports_of(module) if name.split(".")[0] in STARTS_PROCESSES} | {
            name for name in called_in(module) if name.startswith(calls)
        }

    ours = [module for module in MODULES if room_of(module) != "inkernel"]
    assert not offenders([module for module in ours if module != PACKAGE / "system/processes.py"], starts)


def test_locks_are_taken_in_one_place() -> None:
    """``system/locks.py`` and what it shares with the kernel's side know flock."""

    def flock(module: Path) -> set[str]:
        return {name for name in imports_of(module) if name.split(".")[0] == "fcntl"}

    ours = [module for module in MODULES if room_of(module) != "inkernel"]
    assert not offenders([module for module in ours if module != PACKAGE / "system/locks.py"], flock)


def test_pure_rooms_decide_on_values_alone() -> None:
    """No file, clock, environment, process or network in them."""

    def touches(module: Path) -> set[str]:
        return {
            name
            for name in imports_of(module)
            if {name, name.rpartition(".")[0]} & TOUCHES_THE_WORLD or name.startswith("pathlib.Path")
        } | (called_in(module) & {"open", "input", "print", "eval", "exec"})

    assert not offenders([module for module in MODULES if room_of(module) in PURE], touches)


def test_torch_is_never_imported_here() -> None:
    """Asking torch takes seconds, and this Python may have none: a base is asked by its own."""

    def torch(module: Path) -> set[str]:
        return {name for name in imports_of(module) if name.split(".")[0] == "torch"}

    assert not offenders([module for module in MODULES if module != PROBE], torch)


def test_the_probe_needs_only_what_every_base_has() -> None:
    """A base's own Python runs that file by its path; nobody imports it."""
    assert {name.split(".")[0] for name in imports_of(PROBE)} <= sys.stdlib_module_names | {"torch"}
    for module in MODULES:
        assert not [name for name in imports_of(module) if name.startswith("kernel_provisioner.base.probe")]


def test_a_file_has_one_job() -> None:
    """A file that grows beyond this has two."""
    lengths = {
        relative(module): len(module.read_text(encoding="utf-8").splitlines()) for module in MODULES + TESTS
    }
    assert not {module: length for module, length in lengths.items() if length > LONGEST}


def test_a_test_is_skipped_only_through_need() -> None:
    """``need`` prints the reason and fails in CI; any other skip could hide for ever."""

    def skips(module: Path) -> frozenset[str]:
        return (called_in(module) & SKIPPING_CALLS) | (dotted_in(module) & SKIPPING_MARKS)

    assert not offenders(
        [module for module in TESTS if module != REPOSITORY / "tests/support/parts.py"], skips
    )


def test_every_deadline_of_the_tests_scales_with_one_variable() -> None:
    """``WITHIN`` or ``patient(seconds)``, never a bare number: other machines are slower, or busy."""

    def bare(module: Path) -> set[str]:
        words = [word for node in nodes_of(module) if isinstance(node, ast.Call) for word in node.keywords]
        limits = [word for word in words if word.arg and word.arg.endswith(("timeout", "within"))]
        return {ast.unparse(limit) for limit in limits if _number(limit.value) >= IMPATIENT}

    assert not offenders(TESTS, bare)


def _number(node: ast.expr) -> float:
    value = node.value if isinstance(node, ast.Constant) else None
    return value if isinstance(value, int | float) else 0


def _defines_a_command(module: Path) -> bool:
    """Whether a file of ``cli`` holds an application; ``common.py`` holds what they derive from."""
    classes = [node for node in nodes_of(module) if isinstance(node, ast.ClassDef)]
    return module.stem != "common" and any(
        ast.unparse(base).endswith("App") for node in classes for base in node.bases
    )
