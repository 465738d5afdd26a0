"""The documentation is true: what it shows is what happens, and what it lists is what there is."""

from __future__ import annotations

import contextlib
import json
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from traitlets.config.loader import PyFileConfigLoader

from kernel_provisioner import errors
from kernel_provisioner.base import registry
from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.model.request import KEYS, parse_request
from kernel_provisioner.overlay import store
from kernel_provisioner.overlay.environment import kernel_environment
from kernel_provisioner.policy import Layer, Policy
from kernel_provisioner.policy.traits import layer_of, refuse_unknown
from kernel_provisioner.provisioner import TorchOverlayProvisioner
from kernel_provisioner.settings import TorchOverlay
from tests.conftest import TorchBase
from tests.support.environ import clean_environment
from tests.support.pages import Reader, blocks, commands

REPOSITORY = Path(__file__).parents[1]
REFERENCE = REPOSITORY / "docs/reference"
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted(REPOSITORY.glob("docs/**/*.md"))]
GENERATED = runpy.run_path(str(REPOSITORY / "docs/generate.py"))


def relative(page: Path) -> str:
    """How a failing test names a page."""
    return page.relative_to(REPOSITORY).as_posix()


def runs(page: Path) -> bool:
    """Whether a page shows what has to be tried."""
    return any(
        block.kind == "console" or (block.kind == "python" and not block.options) for block in blocks(page)
    )


each_page = pytest.mark.parametrize("page", PAGES, ids=relative)


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.network
@pytest.mark.torch
@pytest.mark.parametrize("page", [page for page in PAGES if runs(page)], ids=relative)
def test_a_page_shows_what_happens(page: Path, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Every command typed, every cell run, from an empty home; each outcome is the one that is shown."""
    with contextlib.closing(reader(page, request, tmp_path)) as following:
        for block, said, came in following.follow(page):
            assert following.alike(said, came), (
                f"{relative(page)}, line {block.line}, says\n\n{said}\nand this came:\n\n"
                f"{following.as_shown(came)}"
            )


def reader(page: Path, request: pytest.FixtureRequest, home: Path) -> Reader:
    """A reader with the shared base, but for a page that makes one."""
    data = home / ".local/share/jupyter"
    own = {
        "JUPYTER_DATA_DIR": str(data),
        "JUPYTER_RUNTIME_DIR": str(home / ".local/share/jupyter/runtime"),
        "XDG_CACHE_HOME": str(home / ".cache"),
    }
    if any(command.startswith("jupyter overlay base create") for command, _ in typed(page)):
        return Reader(home, clean_environment(home, index=None, inherited=None, **own), {})
    shared: TorchBase = request.getfixturevalue("torch_base_home")
    return Reader(
        home, shared.environment(home, **own), {str(shared.data_dir): "/home/you/.local/share/jupyter"}
    )


def typed(page: Path) -> Iterator[tuple[str, str]]:
    """Every command of a page that is run, with what it is said to print."""
    for block in blocks(page):
        if block.kind == "console":
            yield from commands(block)


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    """Relative links name files that exist."""
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@each_page
def test_every_command_and_option_exists(page: Path) -> None:
    """Also in the blocks that are only to be read."""
    known = dict(GENERATED["leaves"]())
    for line in _shown_commands(page):
        words = [word for word in shlex.split(line, comments=True) if word != "--help"]
        words = words[: words.index("--")] if "--" in words else words  # another command's are behind it
        command = next((words_ for words_ in known if tuple(words[: len(words_)]) == words_), None)
        assert command or len(words) <= 3, f"{line}: no such command"
        if command:
            options = {
                f"--{name}" for name in (*_names(known[command], "flags"), *_names(known[command], "aliases"))
            }
            for word in words:
                if word.startswith("--") and not word.startswith(("--TorchOverlay.", "--TorchPolicy.")):
                    assert word.partition("=")[0] in options, line


@each_page
def test_every_notebook_metadata_is_accepted(page: Path) -> None:
    """What a page shows under ``torch_env`` is a request without a warning."""
    for block in blocks(page):
        if block.kind == "json":
            shown = json.loads(block.text)
            request = parse_request(shown.get("metadata", shown)["torch_env"])
            assert not request.warnings, block.line


@each_page
def test_every_configuration_file_sets_what_there_is(page: Path, tmp_path: Path) -> None:
    """Each file loads, and every name in it is a setting with that kind of value."""
    for block in blocks(page):
        if block.kind == "python" and "config" in block.options:
            (tmp_path / "config.py").write_text(block.text, encoding="utf-8")
            config = PyFileConfigLoader("config.py", str(tmp_path)).load_config()
            assert set(config) <= {"TorchOverlay", "TorchOverlayProvisioner", "TorchPolicy"}, block.line
            assert config, block.line
            refuse_unknown(config.TorchOverlay, TorchOverlay)
            TorchOverlay(config=config)
            assert set(config.TorchOverlayProvisioner) <= {"warm", "warm_idle"}, block.line
            TorchOverlayProvisioner(config=config)
            layer_of(config, "the page")


def test_the_generated_pages_are_what_the_program_says() -> None:
    """Where this fails: python docs/generate.py."""
    for path, text in GENERATED["pages"]().items():
        assert path.read_text(encoding="utf-8") == text, relative(path)


def test_the_reference_has_every_metadata_key() -> None:
    """And none that nothing reads."""
    assert _first_column(REFERENCE / "metadata.md") == set(KEYS)


def test_what_is_said_of_security_is_shown_by_tests_that_exist() -> None:
    """Each mechanism names its tests."""
    rows = [
        line for line in (REFERENCE.parent / "security.md").read_text("utf-8").splitlines() if "| a" in line
    ]
    assert rows
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, row
        for file, test in named:
            assert f"def {test}(" in (REFERENCE.parents[1] / file).read_text("utf-8"), test


def test_the_oldest_versions_are_those_that_can_be_installed() -> None:
    """The table on compatibility names what the project requires."""
    rows = [line.split("|") for line in (REFERENCE / "compatibility.md").read_text().splitlines()]
    told = {row[1].strip(): row[2].strip() for row in rows if len(row) == 6}
    project = (REPOSITORY / "pyproject.toml").read_text()
    asked = dict(re.findall(r'^  "(\w+)>=([0-9.]+)(?=[",;])', project, flags=re.MULTILINE))
    assert told.pop("Python") == re.findall(r'^requires-python = ">=(.*)"', project, flags=re.MULTILINE)[0]
    told = {name.lower(): version for name, version in told.items() if name.lower() in asked}
    assert told == {name: asked[name] for name in told}
    assert {"uv", "ipykernel", "jupyter_client", "jupyterlab", "notebook"} <= told.keys()


def test_the_reference_has_every_error() -> None:
    """Each class that a person may see the name of."""
    classes = [getattr(errors, name) for name in errors.__all__]
    seen = {cls.__name__ for cls in classes if isinstance(cls, type) and cls is not errors.OverlayError}
    assert _first_column(REFERENCE / "messages.md") == seen


def test_the_reference_has_every_file() -> None:
    """Names that the program knows as constants."""
    text = (REFERENCE / "files.md").read_text(encoding="utf-8")
    for name in (
        registry.DIRECTORY, registry.MANIFEST, registry.SKELETON, registry.CONSTRAINTS, layout.OVERLAY,
        layout.SPEC, layout.FAILED, layout.ENTERED, layout.PROGRESS, layout.NOTEBOOK, layout.BUILDER_LOCK,
        layout.USE_LOCK, layout.LAUNCH_LOCK, layout.STAGING, layout.ADDED, layout.ADDING, layout.PROJECT,
        layout.BUILD_INDEX, layout.PROVISIONAL, store.SCRATCH,
    ):  # fmt: skip
        assert name in text, name


def test_the_reference_has_every_variable_of_a_kernel(tmp_path: Path) -> None:
    """Each one that a kernel's environment gets, and each that is taken from it."""
    listed = _first_column(REFERENCE / "environment.md")
    given = dict.fromkeys(listed, "x")
    made = kernel_environment(given, tmp_path)
    assert {name for name in made if made[name] != "x"} | (given.keys() - made.keys()) == listed
    plain = kernel_environment({}, tmp_path)
    assert plain.keys() <= listed
    rules = {"offline": True, "indexes": ["https://m/simple", "https://m/{tag}", "https://n/simple"],
             "cooldown": "7 days", "source_builds": "never"}  # fmt: skip
    strict = kernel_environment({}, tmp_path, Policy((Layer("a file", rules),)))
    text = (REFERENCE / "environment.md").read_text(encoding="utf-8")
    of_policy = text.partition("## Set in a kernel by a policy")[2].partition("## ")[0]
    assert all(
        re.search(rf"^\| .*\b{name}\b", of_policy, re.MULTILINE) for name in strict.keys() - plain.keys()
    )


def _shown_commands(page: Path) -> Iterator[str]:
    for block in blocks(page):
        if block.kind == "sh":
            yield from (line for line in block.text.splitlines() if line.startswith("jupyter overlay "))
    yield from (command for command, _ in typed(page) if command.startswith("jupyter overlay "))


def _names(app: Any, kind: str) -> Iterator[str]:
    for name in getattr(app, kind):
        yield from ((name,) if isinstance(name, str) else name)


def _first_column(page: Path) -> set[str]:
    """What stands in code style in the first cell of a table's row."""
    return set(re.findall(r"^\| `([^`]+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE))
