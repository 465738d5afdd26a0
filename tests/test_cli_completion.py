"""``jupyter overlay completion``: a shell completes commands and options."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from kernel_provisioner.cli.app import OverlayCommand
from tests.support.parts import need
from tests.support.waiting import WITHIN


def script(shell: str) -> str:
    """What the command prints for a shell."""
    command = [sys.executable, "-m", "kernel_provisioner.cli.app", "completion", shell]
    return subprocess.run(command, capture_output=True, text=True, timeout=WITHIN, check=True).stdout


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script for bash, and a function that tells what Tab would offer."""
    file = tmp_path_factory.mktemp("completion") / "completion.bash"
    offer = 'COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); _jupyter_overlay; echo "${COMPREPLY[*]}"'
    file.write_text(f"{script('bash')}\n{offer}\n")
    return file


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("jupyter overlay up", "upgrade"),
        ("jupyter-overlay base cr", "create"),
        ("jupyter overlay base create cu12", "cu124 cu126 cu128"),
        ("jupyter overlay add notes.ipynb --dr", "--dry-run"),
        ("/opt/bin/jupyter overlay base create cpu --up", "--upgrade"),
        ("jupyter overlay add not", ""),  # a file: the shell's own
        ("jupyter lab --no", ""),
        ("jupyter ov", "overlay"),
    ],
)
def test_tab_completes_in_bash(bash: Path, line: str, offered: str) -> None:
    """Commands after commands, options after a dash, tags where one belongs."""
    words = ["bash", str(bash), *line.split()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=WITHIN, check=True)
    assert (done.stdout, done.stderr) == (f"{offered}\n", "")


def test_tab_completes_in_zsh(tmp_path: Path) -> None:
    """Typed into a real one, with its completion as a user's .zshrc switches it on."""
    need(shutil.which("zsh"), "no zsh on PATH; on Debian: apt install zsh")
    (tmp_path / "completion.zsh").write_text(script("zsh"))
    env = {"TERM": "dumb", "PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    words = ["-f", "-i"]
    zsh = pexpect.spawn("zsh", words, env=env, cwd=str(tmp_path), encoding="utf-8", timeout=WITHIN)
    zsh.setwinsize(24, 200)
    zsh.sendline("PS1='READY''> '; autoload -Uz compinit && compinit -u; source completion.zsh")
    zsh.expect("READY> ")
    for typed, offered in (
        ("jupyter overlay up", "jupyter overlay upgrade "),
        ("jupyter-overlay base cr", "jupyter-overlay base create "),
        ("jupyter overlay base create cu12", "cu124 +cu126 +cu128"),
        ("jupyter overlay add notes.ipynb --dr", "jupyter overlay add notes.ipynb --dry-run "),
        ("jupyter ov", "jupyter overlay "),
    ):
        zsh.send(f"{typed}\t")
        zsh.expect(offered)
        zsh.send("\x15\n")  # take the line back
        zsh.expect("READY> ")
    zsh.close(force=True)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("jupyter overlay up", ["upgrade"]),
        ("jupyter-overlay base cr", ["create"]),
        ("jupyter overlay base create cu12", ["cu124", "cu126", "cu128"]),
        ("jupyter overlay add notes.ipynb --dr", ["--dry-run"]),
        ("jupyter-overlay base create cpu --up", ["--upgrade"]),
        ("jupyter overlay add not", ["notes.ipynb"]),
        ("jupyter lab --no", []),
        ("jupyter ov", ["overlay"]),
    ],
)
def test_tab_completes_in_fish(tmp_path: Path, line: str, offered: list[str]) -> None:
    """As in bash, with what each word is for; where a notebook belongs, files."""
    need(shutil.which("fish"), "no fish on PATH; on Debian: apt install fish")
    (tmp_path / "completion.fish").write_text(script("fish"))
    (tmp_path / "notes.ipynb").touch()
    asked = f"source completion.fish; complete -C '{line}'"
    env = {**os.environ, "HOME": str(tmp_path)}
    words = ["fish", "--no-config", "-c", asked]
    done = subprocess.run(
        words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=WITHIN, check=True
    )
    assert [said.partition("\t")[0] for said in done.stdout.splitlines()] == offered, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_is_told_all_commands(shell: str) -> None:
    """With their options."""
    text = script(shell)
    for name in OverlayCommand.subcommands:
        assert str(name) in text
    assert "dry-run" in text


def test_a_shell_that_is_not_known_is_refused() -> None:
    """With those that are."""
    command = [sys.executable, "-m", "kernel_provisioner.cli.app", "completion", "csh"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN, check=False)
    assert done.returncode == 2
    assert "completion bash|zsh|fish" in done.stderr
