"""VS Code starts the kernel spec's own command, and a kernel may be started inside another one's process."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from tests.conftest import TorchBase
from tests.support.client import connected
from tests.support.notebooks import write_notebook
from tests.support.ports import write_connection
from tests.support.server import end_with_children, jupyter_server
from tests.support.session import ANSWERS_WITHIN

pytestmark = [pytest.mark.system, pytest.mark.torch, pytest.mark.network, pytest.mark.slow]

EINOPS = {"accelerator": "cpu", "extras": ["einops"]}
WHERE = "import einops, torch; print(einops.__file__, torch.__file__)"


@pytest.fixture(scope="module")
def env(home: Path, torch_base_home: TorchBase) -> dict[str, str]:
    """The environment of a shell in which the base is found and nothing else is set."""
    return torch_base_home.environment(home)


@pytest.fixture(scope="module")
def argv(torch_base_home: TorchBase) -> list[str]:
    """The command in the kernel spec of "torch-cpu (shared)"."""
    spec = json.loads((torch_base_home.data_dir / "kernels/torch-cpu/kernel.json").read_text())
    return [str(word) for word in spec["argv"]]


@pytest.mark.parametrize("shape", ["-f {}", "-f={}", "--f={}"])
def test_a_command_of_every_shape_finds_its_notebook(
    shape: str, argv: list[str], tmp_path: Path, env: dict[str, str]
) -> None:
    """The session's name is that of the file with VS Code's mark in it."""
    write_notebook(tmp_path / "code.ipynb", torch_env=EINOPS)
    told = {"JPY_SESSION_NAME": str(tmp_path / f"code-jvsc-{uuid.uuid4()}.ipynb")}
    with _kernel(_shaped(argv, shape), tmp_path, env | told) as kernel:
        extra, torch = _execute(kernel, WHERE).splitlines()[-1].split()
        assert "/torch-overlays/code-" in extra
        assert "/torch-bases/" in torch


def test_a_notebook_that_is_named_outright_is_taken(
    argv: list[str], tmp_path: Path, env: dict[str, str]
) -> None:
    """``KERNEL_NOTEBOOK_PATH`` is for whoever starts kernels and knows what for."""
    write_notebook(tmp_path / "named.ipynb", torch_env=EINOPS)
    with _kernel(argv, tmp_path, env | {"KERNEL_NOTEBOOK_PATH": "named.ipynb"}) as kernel:
        assert "/torch-overlays/named-" in _execute(kernel, WHERE)


def test_nothing_beside_the_notebook_runs(argv: list[str], tmp_path: Path, env: dict[str, str]) -> None:
    """Files of our name, of ipykernel's and of what it imports are data until a cell imports them."""
    for name in ("kernel_provisioner", "ipykernel_launcher", "ipykernel", "jedi", "json", "torch"):
        mark = f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})\n"
        (tmp_path / f"{name}.py").write_text(mark)
    (tmp_path / "mine.py").write_text("value = 'from the folder'\n")
    write_notebook(tmp_path / "safe.ipynb", torch_env=EINOPS)
    told = {"JPY_SESSION_NAME": str(tmp_path / "safe.ipynb")}
    with _kernel(argv, tmp_path, env | told) as kernel:
        assert not (tmp_path / "ran").exists()
        assert "from the folder" in _execute(kernel, "import mine; print(mine.value)")


def test_a_kernel_without_a_notebook_leaves_nothing_behind(
    argv: list[str], tmp_path: Path, env: dict[str, str]
) -> None:
    """It says so in one line, runs on the base alone, and takes its overlay along when it is shut down."""
    with _kernel(argv, tmp_path, env) as kernel:
        printed = _execute(kernel, "import sys, torch; print(sys.prefix)")
        notice, prefix = printed.splitlines()
        assert notice == "no notebook is known to this kernel: it runs on the base alone"
        assert "/torch-overlays/scratch-" in prefix
    assert not Path(prefix).parent.exists()


def test_the_name_of_an_outer_notebook_is_not_believed(
    home: Path, argv: list[str], env: dict[str, str]
) -> None:
    """Runners and kernels that a cell starts inherit the session's name; it is not theirs."""
    inner = home / "elsewhere"
    inner.mkdir()
    write_notebook(inner / "file.ipynb", "import humanize", torch_env={"extras": ["humanize"]})
    jupyter = Path(sys.executable).parent / "jupyter-execute"
    with jupyter_server(home / "work", env) as server:
        write_notebook(server.root / "outer.ipynb", torch_env=EINOPS)
        with server.session("outer.ipynb", "torch-cpu") as session:
            assert session.execute(WHERE).status == "ok"
            assert session.execute("import os; print(os.environ['JPY_SESSION_NAME'])").stdout.strip() == str(
                server.root / "outer.ipynb"
            )
            done = session.execute(_subprocess([sys.executable, "-c", _IN_MEMORY]))
            assert "/torch-overlays/scratch-" in done.stdout, done.text
            assert "No module named 'einops'" in done.stdout
            done = session.execute(_subprocess([str(jupyter), str(inner / "file.ipynb"), "--inplace"]))
            assert "status 0" in done.stdout, done.text
            inherited = json.loads(session.execute("import json; print(json.dumps(dict(os.environ)))").stdout)
    with _kernel(argv, inner, inherited) as kernel:
        assert "no notebook is known" in _execute(kernel, "1")


_IN_MEMORY = """
import nbformat
from nbclient import NotebookClient
cell = nbformat.v4.new_code_cell("import sys; print(sys.prefix); import einops")
nb = nbformat.v4.new_notebook(cells=[cell])
NotebookClient(nb, kernel_name="torch-cpu", allow_errors=True).execute()
print(*(output.get("text") or output.get("evalue") for output in cell.outputs))
"""


def _subprocess(words: list[str]) -> str:
    """A cell that runs a command and prints all that it says."""
    return (
        "import subprocess\n"
        f"done = subprocess.run({words!r}, capture_output=True, text=True)\n"
        "print(done.stdout, done.stderr, 'status', done.returncode)"
    )


def _shaped(argv: list[str], shape: str) -> list[str]:
    """``argv`` with its connection file given as ``shape`` has it."""
    return [*argv[: argv.index("-f")], *shape.format("{connection_file}").split()]


def test_lines_of_the_log_begin_as_ipykernels_do(
    argv: list[str], tmp_path: Path, env: dict[str, str]
) -> None:
    """Clients know them by that."""
    with _kernel([*argv, "--debug"], tmp_path, env) as kernel:
        assert kernel.kernel_info(reply=True, timeout=ANSWERS_WITHIN)["content"]["status"] == "ok"
    log = Path(kernel.connection_file).with_suffix(".log").read_text()
    assert {line.split("]")[0] for line in log.splitlines() if line.startswith("[")} == {"[IPKernelApp"}, log


@contextlib.contextmanager
def _kernel(argv: list[str], cwd: Path, env: dict[str, str]) -> Iterator[BlockingKernelClient]:
    """A kernel started as VS Code does: its command, in the notebook's folder; shut down at the end."""
    file = Path(env["JUPYTER_RUNTIME_DIR"]) / f"kernel-{uuid.uuid4()}.json"
    write_connection(file)
    words = [word.format(connection_file=file) if "{connection_file}" in word else word for word in argv]
    log = file.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(words, cwd=cwd, env=env, stdout=output, stderr=output)
    try:
        with connected(file) as client:
            yield client
            client.shutdown()
            process.wait(ANSWERS_WITHIN)
    finally:
        end_with_children(process)


def _execute(client: BlockingKernelClient, code: str) -> str:
    """What a cell shows that is executed to its end."""
    shown: list[str] = []

    def hear(message: dict[str, Any]) -> None:
        content = message["content"]
        shown.append(content.get("text") or "\n".join(content.get("traceback", ())))
        if message["msg_type"] == "display_data":
            shown.append(content["data"]["text/plain"] + "\n")

    client.execute_interactive(code, timeout=ANSWERS_WITHIN, output_hook=hear)
    return "".join(shown)
