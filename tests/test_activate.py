"""The scripts that shells source: the same in each, and all of it taken back."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_provisioner.project.activate import Activation, activate_script
from kernel_provisioner.project.activate_others import fish_script, powershell_script
from tests.support.parts import need

SHELLS = {
    "sh": ("sh", "-euc"),
    "bash": ("bash", "--norc", "-euc"),
    "zsh": ("zsh", "-feuc"),
    "fish": ("fish", "--no-config", "-c"),
}
OWN = {
    "TORCH_EXTENSIONS_DIR": "/my/extensions", "PYTHONPATH": "/my/lib:/my/more", "UV_PYTHON": "3.9",
    "PIP_CONFIG_FILE": "/dev/null",
}  # fmt: skip
"""What the user has set."""


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    """Each shell in turn."""
    name: str = request.param
    need(shutil.which(name), f"{name} is not there: apt install {name}")
    return name


@pytest.fixture
def made(tmp_path: Path) -> Activation:
    """An environment in a directory with a blank, quotes and a backslash, as far as scripts look at it."""
    place = tmp_path / 'it\'s "an" env\\'
    receipt = str(place / "lib/torch-2.6.dist-info/METADATA")
    base = (str(tmp_path / "base"), str(tmp_path / "base/skeleton.json"))
    variables = {"TORCH_EXTENSIONS_DIR": str(place / "torch_extensions"), "PYTHONNOUSERSITE": "1"}
    made = Activation(place, variables, {"PYTHONPATH", "UV_PYTHON", "CONDA_PREFIX"}, base, receipt)
    for path in (receipt, *base):
        Path(path).mkdir(parents=True)
    (place / "bin").mkdir()
    (place / "bin/python").symlink_to(sys.executable)
    (place / "bin/activate").write_text(activate_script(made))
    (place / "bin/activate.fish").write_text(fish_script(made))
    return made


def quoted(shell: str, text: str) -> str:
    """A text as one word of a shell."""
    if shell != "fish":
        return shlex.quote(text)
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def source(shell: str, place: Path, *commands: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Source the script of an environment, then run commands if it has worked."""
    script = f"{place}/bin/activate" + (".fish" if shell == "fish" else "")
    text = f". {quoted(shell, script)} || exit 1\n" + "\n".join(commands)
    env = {"PATH": os.environ["PATH"], "HOME": str(place.parent), **more}
    command = [*SHELLS[shell], text]
    return subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, check=False)


def test_every_shell_sets_the_same_and_takes_it_back(shell: str, made: Activation) -> None:
    """What a kernel of the environment is given, and afterwards what the user had."""
    code = f"import json, os; print(json.dumps({{name: os.environ.get(name) for name in {made.kept}}}))"
    show = f"{sys.executable} -c {quoted(shell, code)}"
    done = source(shell, made.directory, show, "deactivate", show, **OWN)
    assert (done.returncode, done.stderr) == (0, "")
    active, after = map(json.loads, done.stdout.splitlines())
    path = f"{made.directory}/bin:{os.environ['PATH']}"
    assert active == {**dict.fromkeys(made.kept), **made.given, "PATH": path}
    assert after == {**dict.fromkeys(made.kept), **OWN, "PATH": os.environ["PATH"]}


def test_a_second_activation_lets_go_of_the_first(shell: str, made: Activation) -> None:
    """One ``deactivate``, and the shell is as it was."""
    other = made.directory.with_name("other")
    shutil.copytree(made.directory, other, symlinks=True)
    again = dataclasses.replace(made, directory=other)
    (other / "bin/activate").write_text(activate_script(again))
    (other / "bin/activate.fish").write_text(fish_script(again))
    script = f". {other}/bin/activate" + (".fish" if shell == "fish" else "")
    show = "sh -c 'echo $VIRTUAL_ENV $PATH'"
    done = source(shell, made.directory, script, show, "deactivate", show)
    path = os.environ["PATH"]
    assert (done.stdout, done.stderr) == (f"{other} {other}/bin:{path}\n{path}\n", "")


@pytest.mark.parametrize("how", ["moved", "python", "base", "receipts"])
def test_every_shell_says_what_is_wrong(shell: str, made: Activation, how: str) -> None:
    """Only lost receipts leave the environment to be worked in; the fix is one command."""
    place, lines = made.directory, made.no_python
    if how == "moved":
        place, lines = place.rename(place.with_name("elsewhere")), made.moved
        if shell == "sh":  # it does not say which file it sources
            lines = made.no_python
    elif how == "python":
        (place / "bin/python").unlink()
    elif how == "base":
        Path(made.base[1]).rmdir()
        lines = made.no_base
    else:
        Path(made.receipt).rmdir()
        lines = made.lost
    done = source(shell, place, "echo active")
    said = "\n".join(lines) + "\n"
    assert done.stderr == (f"{place}/bin/activate{'.fish' * (shell == 'fish')} {said}"
                           if lines == made.moved else said)  # fmt: skip
    assert "fix: jupyter overlay sync " in said
    assert (done.returncode, done.stdout) == ((0, "active\n") if how == "receipts" else (1, ""))


def test_a_link_that_leads_to_the_environment_is_no_move(shell: str, made: Activation) -> None:
    """It is the same environment by another path."""
    link = made.directory.with_name("link")
    link.symlink_to(made.directory)
    assert source(shell, link, "echo active").stdout == "active\n"


def test_powershell_is_told_the_same(made: Activation) -> None:
    """No PowerShell is at hand, so that it is not run: its script says and sets what the others do."""
    script = powershell_script(made)
    for name in (*made.given, *made.taken, "PIP_CONFIG_FILE", "$env:PATH"):
        assert name in script
    for lines in (made.moved, made.no_python, made.no_base, made.lost):
        for line in lines:
            assert "'" + line.replace("'", "''") + "'" in script
