"""``jupyter overlay exec`` and ``run`` with parameters and more packages: inside a notebook's environment."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TorchBase
from tests.support.notebooks import printed_in, write_notebook
from tests.support.tiny import serve_extras
from tests.support.waiting import patient, wait_for

RUNS_WITHIN = patient(120.0)
DECLARED = {"accelerator": "cpu", "extras": ["inside-extra"]}
HIDES_CURSOR, SHOWS_CURSOR = "\x1b[?25l", "\x1b[?25h"
BLOCK = '# /// script\n# dependencies = ["inside-extra"]\n# ///\n'
HEADER = "# ---\n# torch_env:\n#   extras: [inside-extra]\n# ---\n"
pytestmark = [pytest.mark.torch, pytest.mark.network, pytest.mark.slow]


@pytest.fixture(scope="module")
def env(home: Path, torch_base_home: TorchBase) -> Iterator[dict[str, str]]:
    """The environment of a shell whose uv finds two tiny packages."""
    with serve_extras(home / "wheels", "inside-extra", "passing-extra") as index:
        yield torch_base_home.environment(home, UV_DEFAULT_INDEX=index.default)


def command(*words: object) -> list[str]:
    """The command line of ``jupyter overlay`` with these words."""
    return [sys.executable, "-m", "kernel_provisioner.cli.app", *map(str, words)]


def typed(env: dict[str, str], folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """``jupyter overlay`` with these words, to its end."""
    return subprocess.run(
        command(*words), cwd=folder, env=env, capture_output=True, text=True, timeout=RUNS_WITHIN, check=False
    )


# --- exec --------------------------------------------------------------------------------------------


def test_a_command_sees_what_the_kernel_sees(tmp_path: Path, env: dict[str, str]) -> None:
    """The notebook's package, built first, and the base's torch; in the directory where it was typed."""
    path = write_notebook(tmp_path / "nb/inside.ipynb", torch_env=DECLARED)
    code = "import importlib.util, inside_extra, os, sys; print(inside_extra.__file__, os.getcwd(),"
    code += "sys.argv[1:], importlib.util.find_spec('torch').origin)"
    done = typed(env, tmp_path, "exec", path, "--", "python", "-c", code, "--json")
    assert done.returncode == 0, done.stderr
    extra, folder, words, torch = done.stdout.split(maxsplit=3)
    assert "/torch-overlays/inside-" in extra
    assert (folder, words) == (str(tmp_path), "['--json']")
    assert "/torch-bases/" in torch


def test_the_exit_status_is_the_commands(tmp_path: Path, env: dict[str, str]) -> None:
    """And what it prints is all that stands on stdout; one that does not exist is told."""
    path = write_notebook(tmp_path / "status.ipynb", torch_env={"accelerator": "cpu"})
    done = typed(env, tmp_path, "exec", path, "--", "sh", "-c", "echo out; exit 7")
    assert (done.returncode, done.stdout) == (7, "out\n")
    done = typed(env, tmp_path, "exec", path, "no-such-command")
    assert done.returncode == 2
    assert "there is no command no-such-command in the environment of status.ipynb" in done.stderr


def test_an_overlay_is_in_use_while_a_command_runs_in_it(tmp_path: Path, env: dict[str, str]) -> None:
    """The collector leaves it alone; a signal reaches the command itself."""
    path = write_notebook(tmp_path / "held.ipynb", torch_env={"accelerator": "cpu"})
    words = command(
        "exec", path, "--", "python", "-c", "print('up', flush=True); import time; time.sleep(600)"
    )
    with subprocess.Popen(words, env=env, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        listed = json.loads(typed(env, tmp_path, "list", "--json").stdout)
        (entry,) = [entry for entry in listed if entry["notebook"] == str(path)]
        assert entry["in_use"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(RUNS_WITHIN) == -signal.SIGTERM
    wait_for(
        lambda: (
            not any(entry["in_use"] for entry in json.loads(typed(env, tmp_path, "list", "--json").stdout))
        ),
        "the overlay to be free",
    )


def test_a_terminal_is_as_it_was_when_the_command_begins(tmp_path: Path, env: dict[str, str]) -> None:
    """The cursor that the progress has hidden is back, and nothing of the progress stands on its line."""
    path = write_notebook(tmp_path / "terminal.ipynb", torch_env={"accelerator": "cpu"})
    shown = on_a_terminal({**env, "TERM": "xterm-256color"}, tmp_path, "exec", path, "--", "echo", "begun")
    assert HIDES_CURSOR in shown
    progress, found, after = shown.rpartition(SHOWS_CURSOR)
    assert found, shown
    assert HIDES_CURSOR not in after
    assert "begun" not in progress
    *_, line = re.split(r"\x1b\[2K", after)  # which erases a line
    assert re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).strip("\r\n") == "begun"


def on_a_terminal(env: dict[str, str], folder: Path, *words: object) -> str:
    """What ``jupyter overlay`` with these words, and what it becomes, write on a terminal of their own."""
    ours, theirs = pty.openpty()
    with (
        os.fdopen(ours, "rb", buffering=0) as terminal,
        subprocess.Popen(
            command(*words), cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs
        ) as child,
    ):
        os.close(theirs)
        parts = []
        with contextlib.suppress(OSError):  # EIO: nobody has the other side any more
            while part := terminal.read(1 << 16):
                parts.append(part)
        shown = b"".join(parts).decode(errors="replace")
        assert child.wait(RUNS_WITHIN) == 0, shown
    return shown


# --- run ---------------------------------------------------------------------------------------------


def test_parameters_are_set_where_papermill_sets_them(tmp_path: Path, env: dict[str, str]) -> None:
    """After the cell with the tag, in place of what an earlier run left; numbers are numbers."""
    path = write_notebook(tmp_path / "para.ipynb", "epochs, name, rate = 1, 'one', 0.5",
                          "print(epochs, name, rate)", torch_env={"accelerator": "cpu"})  # fmt: skip
    nb = json.loads(path.read_text())
    nb["cells"][0]["metadata"]["tags"] = ["parameters"]
    path.write_text(json.dumps(nb))
    out = tmp_path / "out.ipynb"
    done = typed(env, tmp_path, "run", path, "-p", "epochs", "3", "-p", "rate", "-0.25", "--output", out)
    assert done.returncode == 0, done.stderr
    assert printed_in(out) == "3 one -0.25\n"
    again = typed(env, tmp_path, "run", out, "-p", "name", "a b", "--output", out)
    assert again.returncode == 0, again.stderr
    assert printed_in(out) == "1 a b 0.5\n"
    tags = [cell["metadata"].get("tags") for cell in json.loads(out.read_text())["cells"]]
    assert tags == [["parameters"], ["injected-parameters"], None]
    assert "'2x' is no name of a parameter" in typed(env, tmp_path, "run", path, "-p", "2x", "3").stderr


def test_a_run_can_have_packages_that_the_notebook_does_not_declare(
    tmp_path: Path, env: dict[str, str]
) -> None:
    """In an overlay of its own, which goes with the run; notebook and output declare what they did."""
    code = "import inside_extra, passing_extra; print(passing_extra.__file__)"
    path = write_notebook(tmp_path / "more.ipynb", code, torch_env=DECLARED)
    out = tmp_path / "out.ipynb"
    done = typed(env, tmp_path, "run", path, "--with", "passing-extra", "--output", out)
    assert done.returncode == 0, done.stderr
    assert "with passing-extra, for this run only" in done.stderr
    place = Path(printed_in(out).strip())
    assert "/torch-overlays/scratch-" in str(place)
    assert not place.exists()
    assert json.loads(out.read_text())["metadata"]["torch_env"] == DECLARED
    assert "No module named 'passing_extra'" in typed(env, tmp_path, "run", path).stderr


def test_what_a_cell_leaves_for_the_end_still_has_its_packages(tmp_path: Path, env: dict[str, str]) -> None:
    """As loggers that send the rest then; the overlay of a kernel without a notebook goes after that."""
    code = """
        import atexit
        @atexit.register
        def at_the_end():
            import passing_extra
            open("sent", "w").close()
        """
    path = write_notebook(tmp_path / "late.ipynb", textwrap.dedent(code), torch_env=DECLARED)
    done = typed(env, tmp_path, "run", path, "--with", "passing-extra")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "sent").exists()


@pytest.mark.parametrize(
    ("name", "text"), [("block.py", f"{BLOCK}\n{{}}\n"), ("header.py", f"{HEADER}\n# %%\n{{}}\n")]
)
def test_a_text_notebook_keeps_its_packages_where_a_run_has_more(
    tmp_path: Path, env: dict[str, str], name: str, text: str
) -> None:
    """jupytext makes Markdown or a raw cell of what declares them; the file counts."""
    path = tmp_path / name
    path.write_text(text.format("import inside_extra, passing_extra; print(inside_extra.__file__)"))
    out = tmp_path / "out.ipynb"
    done = typed(env, tmp_path, "run", path, "--with", "passing-extra", "--output", out)
    assert done.returncode == 0, done.stderr
    assert "/torch-overlays/scratch-" in printed_in(out)
    assert "torch_env" not in json.loads(out.read_text())["metadata"]
