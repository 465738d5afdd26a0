"""A policy as the person at the notebook meets it: in a cell of a real server, and in no other way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_provisioner.settings import CONFIG_NAME
from tests.conftest import TorchBase
from tests.support.index import LocalIndex, serve_index
from tests.support.notebooks import write_notebook
from tests.support.server import JupyterServer, jupyter_server
from tests.support.wheels import build_wheel

pytestmark = [pytest.mark.torch, pytest.mark.slow]

RULES = """\
c.TorchPolicy.denied = ["secret-*"]
c.TorchPolicy.cooldown = "7 days"
c.TorchPolicy.source_builds = "never"
c.TorchPolicy.contact = "help@lab.example"
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalIndex]:
    """An index that says when its files were published."""
    wheels = tmp_path_factory.mktemp("wheels")
    with serve_index() as index:
        index.json = True
        for name, requires in (("plain", []), ("secret-sauce", []), ("sly", ["secret-sauce"])):
            index.publish(path := build_wheel(wheels, name, requires=requires))
            index.uploaded[path.name] = "2024-01-01T00:00:00Z"
        yield index


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that holds the policy of this module's server."""
    folder = tmp_path_factory.mktemp("home") / "jupyter-config"
    folder.mkdir()
    return folder / f"{CONFIG_NAME}.py"


@pytest.fixture(scope="module")
def env(policy: Path, packages: LocalIndex, torch_base_home: TorchBase) -> dict[str, str]:
    """The environment of this module's server and commands."""
    home = policy.parents[1]
    reach = {"UV_DEFAULT_INDEX": packages.default, "UV_INDEX": "", "UV_NO_CONFIG": "1"}
    return torch_base_home.environment(home, **reach, UV_CACHE_DIR=str(home / "uv"))


@pytest.fixture(scope="module")
def server(policy: Path, env: dict[str, str]) -> Iterator[JupyterServer]:
    """One Jupyter server for this module."""
    with jupyter_server(policy.parents[1] / "work", env) as running:
        yield running


def test_a_refused_request_is_told_in_the_cell_and_a_changed_policy_at_the_next_start(
    server: JupyterServer, policy: Path
) -> None:
    """What, which rule in which file, and whom to ask; a misspelt rule refuses everything."""
    policy.write_text(RULES)
    write_notebook(server.root / "sly.ipynb", torch_env={"extras": ["sly"]})
    with server.session("sly.ipynb", "torch-cpu") as session:
        told = session.execute("import sly")
        assert told.status == "error"
        assert '"secret-sauce", which the extras need, is not allowed on this system' in told.text
        assert f'rule denied = ["secret-*"] in {policy}' in " ".join(told.text.split())
        assert "ask help@lab.example" in told.text
        policy.write_text("c.TorchPolicy.deneid = []\n")
        session.restart()
        told = session.execute("1 + 1")
        assert told.status == "error"
        assert "did you mean denied?" in told.text
        assert str(policy) in told.text
        policy.unlink()
        session.restart()
        assert session.execute("import sly, secret_sauce").status == "ok"


def test_a_run_without_a_browser_obeys(server: JupyterServer, policy: Path, env: dict[str, str]) -> None:
    """Exit status 2, no cell ran; a rule on the command line counts as well."""
    policy.write_text(RULES)
    for name, more in (("sly", []), ("plain", ["--TorchPolicy.denied=plain"])):
        notebook = write_notebook(
            server.root / f"run-{name}.ipynb", "print('ran')", torch_env={"extras": [name]}
        )
        command = [sys.executable, "-m", "kernel_provisioner.cli.app", "run", str(notebook), *more]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "is not allowed on this system" in done.stderr
        assert "rule denied" in done.stderr
        assert "ask help@lab.example" in done.stderr
        assert "ran\n" not in done.stdout


def test_a_cell_adds_what_the_policy_lets_it_whatever_its_kernels_variables_say(
    server: JupyterServer, policy: Path
) -> None:
    """The magic obeys; for pip and uv themselves the rules are defaults that a person can see."""
    policy.write_text(RULES)
    write_notebook(server.root / "adds.ipynb", torch_env={"extras": ["plain"]})
    with server.session("adds.ipynb", "torch-cpu") as session:
        assert session.execute("import plain, os").status == "ok"
        session.execute(
            "os.environ.update(JUPYTER_CONFIG_DIR='/nowhere', JUPYTER_NO_CONFIG='1', HOME='/nowhere')"
        )
        told = session.execute("%overlay add secret-sauce")
        assert told.status == "error"
        assert '"secret-sauce" is not allowed on this system' in told.text
        assert "ask help@lab.example" in told.text
        told = session.execute("%overlay add sly")
        assert "which the extras need" in told.text
        said = session.execute("print(os.environ['UV_EXCLUDE_NEWER'], os.environ['PIP_ONLY_BINARY'])")
        assert said.stdout.split() == ["168", "hours", ":all:"]
        assert (
            "+ sly==1.0" in session.execute("!uv pip install --color never sly").text
        )  # a default is no wall
