"""Batch runners hand no notebook to the kernel; each one's notebook is found, with nothing configured."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import TorchBase
from tests.support.notebooks import printed_in, write_notebook
from tests.support.runners import RUNS_WITHIN, installed, run, run_well

pytestmark = [pytest.mark.system, pytest.mark.torch, pytest.mark.network, pytest.mark.slow]

EINOPS = {"accelerator": "cpu", "extras": ["einops"]}
IMPORT = "import einops, torch\nprint(einops.__file__, torch.__file__)"

EXECUTE = ("jupyter-execute", "{nb}", "--output={out}")
NBCONVERT = ("jupyter-nbconvert", "--execute", "--to", "notebook", "--output={out}", "{nb}")
PAPERMILL = ("papermill", "{nb}", "{out}")
RUNNERS = pytest.mark.parametrize("runner", [EXECUTE, NBCONVERT, PAPERMILL], ids=lambda words: words[0])


@pytest.fixture(scope="module")
def env(home: Path, torch_base_home: TorchBase) -> dict[str, str]:
    """The environment of a shell in which the base is found and nothing else is set."""
    return torch_base_home.environment(home)


@RUNNERS
def test_a_runner_finds_its_notebook(runner: Sequence[str], tmp_path: Path, env: dict[str, str]) -> None:
    """The declared extra comes from the notebook's own overlay, torch from the base."""
    write_notebook(tmp_path / "batch.ipynb", IMPORT, torch_env=EINOPS)
    done = _run(runner, tmp_path, env, nb="batch.ipynb", out="out.ipynb")
    assert done.returncode == 0, done.stderr
    extra, torch = printed_in(tmp_path / "out.ipynb").split()
    assert "/torch-overlays/batch-" in extra
    assert "/torch-bases/" in torch


@RUNNERS
def test_a_runner_is_told_all_of_a_failing_extra(
    runner: Sequence[str], tmp_path: Path, env: dict[str, str]
) -> None:
    """Nobody looks at a cell here: what, why and fix stand in the runner's error output, and it fails."""
    write_notebook(tmp_path / "bad.ipynb", "print('it ran')", torch_env={"extras": ["einops>9000"]})
    done = _run(runner, tmp_path, env, nb="bad.ipynb", out="out.ipynb")
    assert done.returncode != 0
    told = _plain(done.stderr)
    assert "the extras einops>9000 do not fit on cpu-torch" in told
    assert "why: " in told
    assert "only einops<" in told, "the resolver's own reason"
    assert "fix: " in told
    assert "jupyter overlay" in told
    assert not (tmp_path / "out.ipynb").exists() or "it ran" not in printed_in(tmp_path / "out.ipynb")


def test_a_runner_is_told_of_a_malformed_request(tmp_path: Path, env: dict[str, str]) -> None:
    """The field and the line to write instead are in the error output."""
    write_notebook(tmp_path / "ill.ipynb", "1", torch_env={"extras": "einops"})
    done = _run(EXECUTE, tmp_path, env, nb="ill.ipynb", out="out.ipynb")
    assert done.returncode != 0
    assert "torch_env.extras is a string, not a list: 'einops'" in _plain(done.stderr)
    assert '"extras": ["transformers>=4.44", "einops"]' in _plain(done.stderr)


def test_a_notebook_elsewhere_is_found_from_the_runners_folder(tmp_path: Path, env: dict[str, str]) -> None:
    """A relative name applies from where the command was typed."""
    write_notebook(tmp_path / "deep/er/away.ipynb", IMPORT, torch_env=EINOPS)
    (tmp_path / "here").mkdir()
    done = _run(EXECUTE, tmp_path / "here", env, nb="../deep/er/away.ipynb", out="../out.ipynb")
    assert done.returncode == 0, done.stderr
    outputs = [*tmp_path.rglob("out.ipynb")]
    assert "/torch-overlays/away-" in printed_in(outputs[0])


def test_papermill_passes_parameters(tmp_path: Path, env: dict[str, str]) -> None:
    """The injected cell counts as the first one, and waits for the overlay like any other."""
    path = write_notebook(
        tmp_path / "sweep.ipynb", "rate = 0", f"{IMPORT}\nprint('rate', rate)", torch_env=EINOPS
    )
    nb = json.loads(path.read_text())
    nb["cells"][0]["metadata"]["tags"] = ["parameters"]
    path.write_text(json.dumps(nb))
    words = (*PAPERMILL, "-p", "rate", "3", "-k", "torch-cpu")
    done = _run(words, tmp_path, env, nb="sweep.ipynb", out="out.ipynb")
    assert done.returncode == 0, done.stderr
    printed = printed_in(tmp_path / "out.ipynb")
    assert "/torch-overlays/sweep-" in printed
    assert "rate 3" in printed


def test_papermill_from_python_in_another_folder(tmp_path: Path, env: dict[str, str]) -> None:
    """With ``cwd`` the kernel works elsewhere, and the notebook is still the one that was named."""
    write_notebook(tmp_path / "api.ipynb", f"{IMPORT}\nimport os\nprint(os.getcwd(), rate)", torch_env=EINOPS)
    (tmp_path / "elsewhere").mkdir()
    _python(
        """
        import papermill
        papermill.execute_notebook("api.ipynb", "out.ipynb", parameters={"rate": 5}, cwd="elsewhere")
        """,
        tmp_path,
        env,
    )
    printed = printed_in(tmp_path / "out.ipynb")
    assert "/torch-overlays/api-" in printed
    assert f"{tmp_path / 'elsewhere'} 5" in printed


PYTEST = ("pytest", "-p", "no:cacheprovider", "-s", "{nb}")
QUIET = {
    "nbval": (*PYTEST, "--nbval"),
    "nbmake": (*PYTEST, "--nbmake", "--overwrite"),
    "nbconvert": ("jupyter-nbconvert", "--execute", "--to", "notebook", "--inplace", "{nb}"),
    "jupyter execute": ("jupyter-execute", "--inplace", "{nb}"),
    "jupytext": ("jupytext", "--to", "ipynb", "--execute", "{text}", "--output", "{nb}"),
}


@pytest.mark.parametrize("client", QUIET)
def test_outputs_that_are_published_or_compared_hold_no_word_of_ours(
    client: str, tmp_path: Path, env: dict[str, str]
) -> None:
    """What was added is said on standard error; the notebook has what its cells put out."""
    name = client.replace(" ", "-")
    nb = write_notebook(tmp_path / f"{name}.ipynb", "import einops\nprint(6 * 7)", torch_env=EINOPS)
    if client == "jupytext":
        _run(
            ("jupytext", "--to", "py:percent", "--opt", "notebook_metadata_filter=torch_env", nb.name),
            tmp_path,
            env,
        )
        nb.unlink()
    else:
        written = json.loads(nb.read_text())
        output = {"name": "stdout", "output_type": "stream", "text": ["42\n"]}
        written["cells"][0] |= {"outputs": [output], "execution_count": 1}
        nb.write_text(json.dumps(written))
    done = _run(QUIET[client], tmp_path, env, nb=nb.name, text=f"{name}.py")
    assert done.returncode == 0, done.stdout + done.stderr
    (cell,) = json.loads(nb.read_text())["cells"]
    assert {output["output_type"] for output in cell["outputs"]} == {"stream"}
    assert printed_in(nb) == "42\n"
    if client != "nbval":  # which throws the kernel's standard error away
        assert "torch-cpu: einops" in done.stderr


def test_papermill_keeps_a_record_of_what_its_run_stood_on(tmp_path: Path, env: dict[str, str]) -> None:
    """Its output notebook is that of one run."""
    write_notebook(tmp_path / "record.ipynb", "print(1)", torch_env=EINOPS)
    done = _run(PAPERMILL, tmp_path, env, nb="record.ipynb", out="out.ipynb")
    assert done.returncode == 0, done.stderr
    assert "torch-cpu: einops" in (tmp_path / "out.ipynb").read_text()


SCRIPT = f"""\
# /// script
# dependencies = ["einops"]
# ///
{IMPORT}
"""
JUPYTER_RUN = '"$0" --kernel=torch-cpu'


@pytest.mark.parametrize("command", [f"{JUPYTER_RUN} script.py", f"{JUPYTER_RUN} script.py script.py"])
def test_jupyter_run_prints_what_a_script_prints(command: str, tmp_path: Path, env: dict[str, str]) -> None:
    """A script is a notebook with a declaration, and the program's output is its own."""
    (tmp_path / "script.py").write_text(SCRIPT)
    done = _shell(command, tmp_path, env)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert "einops/__init__.py" in last
    assert "/torch-bases/" in last
    if command.count("script.py") == 1:
        assert done.stdout == f"{last}\n"
        assert "/torch-overlays/script-" in last
        assert "torch-cpu: einops" in done.stderr


def test_jupyter_run_without_a_script(tmp_path: Path, env: dict[str, str]) -> None:
    """What it reads from standard input has no file: that is said beside the output."""
    (tmp_path / "code").write_text("print('hello')")
    done = _shell(f"{JUPYTER_RUN} < code", tmp_path, env)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "hello\n"
    assert "no notebook is known to this kernel: it runs on the base alone" in done.stderr


NBCLIENT = """
    import nbformat
    from nbclient import NotebookClient

    nb = nbformat.read("nb.ipynb", as_version=4)
    def tell():
        print(*(output.get("text", "") for cell in nb.cells for output in cell.outputs))
    """


def test_nbclient_from_python(tmp_path: Path, env: dict[str, str]) -> None:
    """A notebook in memory needs no path: its own metadata count."""
    write_notebook(tmp_path / "nb.ipynb", IMPORT, torch_env=EINOPS)
    printed = _python(NBCLIENT + "NotebookClient(nb).execute(); tell()", tmp_path, env)
    assert "/torch-overlays/scratch-" in printed


def test_nbclient_with_its_folder(tmp_path: Path, env: dict[str, str]) -> None:
    """``resources`` say in which folder the notebook's code runs; the metadata are found all the same."""
    write_notebook(tmp_path / "nb.ipynb", f"{IMPORT}\nimport os\nprint(os.getcwd())", torch_env=EINOPS)
    (tmp_path / "data").mkdir()
    code = 'NotebookClient(nb, resources={"metadata": {"path": "data"}}).execute(); tell()'
    printed = _python(NBCLIENT + code, tmp_path, env)
    assert "einops/__init__.py" in printed
    assert str(tmp_path / "data") in printed


@pytest.mark.parametrize("call", ["client.execute()", "await client.async_execute()"])
def test_nbclient_in_a_running_loop(call: str, tmp_path: Path, env: dict[str, str]) -> None:
    """As inside a notebook or a web service, where nbclient works in a thread or in the loop itself."""
    write_notebook(tmp_path / "nb.ipynb", IMPORT, torch_env=EINOPS)
    code = f"""
    import asyncio
    async def main():
        client = NotebookClient(nb)
        {call}
    asyncio.run(main())
    tell()
    """
    assert "einops/__init__.py" in _python(NBCLIENT + code, tmp_path, env)


TWO_IN_MEMORY = """
    import asyncio, contextlib, json, nbformat
    from nbclient import NotebookClient

    def notebook(*cells, extras):
        nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        nb.metadata["kernelspec"] = {"name": "torch", "display_name": "torch"}
        nb.metadata["torch_env"] = {"accelerator": "cpu", "extras": extras}
        return nb

    PRINT = "import sys; print(sys.prefix)"
    one = notebook("%pip install -q tqdm", "import einops, tqdm", PRINT, extras=["einops"])
    two = notebook("import humanize", "import tqdm", PRINT, extras=["humanize"])

    async def main():
        clients = [NotebookClient(nb, allow_errors=True) for nb in (one, two)]
        async with contextlib.AsyncExitStack() as stack:
            for client in clients:
                await stack.enter_async_context(client.async_setup_kernel())
            for client in clients:
                for index, cell in enumerate(client.nb.cells):
                    await client.async_execute_cell(cell, index)

    asyncio.run(main())
    print(json.dumps([
        {
            "errors": [o.evalue for cell in nb.cells for o in cell.outputs if o.output_type == "error"],
            "prefix": "".join(output["text"] for output in nb.cells[2].outputs).strip(),
        }
        for nb in (one, two)
    ]))
    """


def test_two_notebooks_in_memory_share_nothing(tmp_path: Path, env: dict[str, str]) -> None:
    """They run side by side in one process; afterwards nothing of them is left on disk."""
    one, two = json.loads(_python(TWO_IN_MEMORY, tmp_path, env).splitlines()[-1])
    assert one["errors"] == []
    assert two["errors"] == ["No module named 'tqdm'"]
    assert one["prefix"] != two["prefix"]
    for prefix in (one["prefix"], two["prefix"]):
        overlay = Path(prefix)
        assert overlay.parent.name.startswith("scratch-")
        assert not overlay.parent.exists()


def test_the_configuration_file_counts_where_a_runner_passes_none(
    tmp_path: Path, env: dict[str, str]
) -> None:
    """``jupyter execute`` hands no configuration to provisioners; ours is read all the same."""
    config = tmp_path / "config"
    config.mkdir()
    (config / "jupyter_overlay_config.py").write_text(
        f"c.TorchOverlay.overlay_root = {str(tmp_path / 'chosen')!r}\n"
    )
    write_notebook(tmp_path / "placed.ipynb", IMPORT, torch_env=EINOPS)
    done = _run(
        EXECUTE, tmp_path, env | {"JUPYTER_CONFIG_DIR": str(config)}, nb="placed.ipynb", out="out.ipynb"
    )
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path / 'chosen'}/placed-" in printed_in(tmp_path / "out.ipynb")


def _run(
    words: Sequence[str], cwd: Path, env: dict[str, str], **names: str
) -> subprocess.CompletedProcess[str]:
    """Run a console script of this environment, as its user would type it in ``cwd``."""
    script, *rest = (word.format_map(names) for word in words)
    return run([installed(script), *rest], cwd, env)


def _shell(command: str, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """What a shell makes of a line, in which ``$0`` is ``jupyter run`` without its deadline of 10 s."""
    program = cwd / "jupyter-run"
    program.write_text(
        f"#!{sys.executable}\nfrom jupyter_client import runapp\n"
        f"runapp.OUTPUT_TIMEOUT = {RUNS_WITHIN}\nrunapp.main()\n"
    )
    program.chmod(0o700)
    return run(["sh", "-c", command, str(program)], cwd, env)


def _python(code: str, cwd: Path, env: dict[str, str]) -> str:
    """What a Python program prints that is run in ``cwd``."""
    return run_well([sys.executable, "-c", textwrap.dedent(code)], cwd, env).stdout


def _plain(text: str) -> str:
    """``text`` without its colours, on one line."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())
