"""``%overlay`` in clients without a frontend, and on a terminal: what a person sees while a command works."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.conftest import TorchBase
from tests.support.desk import Desk
from tests.support.index import LocalIndex
from tests.support.notebooks import printed_in, write_notebook
from tests.support.runners import installed, run_well
from tests.support.session import ANSWERS_WITHIN
from tests.support.tiny import serve_extras

pytestmark = [pytest.mark.system, pytest.mark.torch, pytest.mark.network, pytest.mark.slow]

SCRIPT = '# /// script\n# dependencies = ["client-leaf"]\n# ///\nimport client_leaf'
WITH_NBCLIENT = """\
import nbformat
from nbclient import NotebookClient
nb = nbformat.read("memory.ipynb", as_version=4)
NotebookClient(nb, kernel_name="torch-cpu").execute()
print("".join(output.get("text", "") for output in nb.cells[1].outputs))
"""


@pytest.fixture(scope="module")
def index(home: Path) -> Iterator[LocalIndex]:
    """An index in front of the registry with two tiny packages."""
    with serve_extras(home / "wheels", "client-leaf", "client-late") as served:
        yield served


@pytest.fixture(scope="module")
def env(home: Path, index: LocalIndex, torch_base_home: TorchBase) -> dict[str, str]:
    """The environment of a shell in which the base and these packages are found."""
    return torch_base_home.environment(home, UV_DEFAULT_INDEX=index.default, TERM="dumb")


def test_commands_work_where_a_runner_executes_the_notebook(tmp_path: Path, env: dict[str, str]) -> None:
    """``jupyter execute`` saves what they print; a declaration that is in the notebook is no news."""
    write_notebook(tmp_path / "batch.ipynb", SCRIPT, "%overlay tree", "%overlay why client-leaf")
    words = [installed("jupyter-execute"), "batch.ipynb", "--output=out.ipynb"]
    run_well(words, tmp_path, env)
    lines = printed_in(tmp_path / "out.ipynb").splitlines()
    assert "└── client-leaf 1.0" in lines
    assert "  client-leaf (declared)" in lines
    assert not [line for line in lines if "saved" in line or "Added" in line]


def test_commands_know_a_notebook_only_by_its_file(tmp_path: Path, env: dict[str, str]) -> None:
    """nbclient alone hands over no file: what the kernel has is told all the same."""
    write_notebook(tmp_path / "memory.ipynb", SCRIPT, "%overlay freeze\n%overlay base list")
    told = run_well([sys.executable, "-c", WITH_NBCLIENT], tmp_path, env).stdout
    assert told.startswith("client-leaf==1.0\n")
    assert "cpu-torch" in told


def test_a_console_adds_and_looks(tmp_path: Path, env: dict[str, str]) -> None:
    """Plain text all through; nothing is offered that a console cannot keep."""
    child = pexpect.spawn(
        installed("jupyter-console"), ["--kernel", "torch-cpu", "--simple-prompt"],
        cwd=tmp_path, env=env, encoding="utf-8", timeout=ANSWERS_WITHIN, echo=False,
    )  # fmt: skip
    try:
        child.expect_exact("In [1]: ")
        child.sendline("%overlay add client-late")
        child.expect_exact("Added client-late 1.0")
        child.sendline("%overlay freeze")
        child.expect_exact("client-late==1.0")
        child.sendline("%overlay remove client-late")
        child.expect_exact("is for notebooks, and this kernel has none")
        child.sendline("%overlay ad")
        child.expect_exact("did you mean %overlay add?")
    finally:
        child.close(force=True)


def test_a_command_that_waits_says_for_what(desk: Desk) -> None:
    """On a terminal, at once; where its output goes to a file nothing of it is there."""
    desk.publish("awaited")
    notebook = desk.write("awaited", "awaited")
    desk.index.misbehave("/simple/awaited/", "hang")
    words = ["-m", "kernel_provisioner.cli.app", "lock", str(notebook)]
    env = {**desk.env, "UV_HTTP_TIMEOUT": "600", "TERM": "xterm"}
    child = pexpect.spawn(sys.executable, words, env=env, encoding="utf-8", timeout=ANSWERS_WITHIN)
    try:
        child.expect_exact("Looking up and checking the packages of awaited.ipynb")
    finally:
        child.close(force=True)
    desk.index.behave()
    assert json.loads(desk.command("lock", str(notebook), "--json").stdout)["changed"]
