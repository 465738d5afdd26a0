"""The systemd unit of the documentation, for a project's environment."""

from __future__ import annotations

import getpass
import re
import shlex
import shutil
import subprocess
from pathlib import Path

from tests.support.bases import REPOSITORY, Workshop
from tests.support.index import LocalIndex
from tests.support.parts import need

PAGE = REPOSITORY / "docs/how-to/share-torch-between-projects.md"


def test_the_unit_is_accepted_and_its_python_finds_torch(tmp_path: Path, index: LocalIndex) -> None:
    """By systemd's own check; started as a service is, with nothing of a shell's environment."""
    analyze = shutil.which("systemd-analyze")
    need(analyze, "systemd-analyze is not there: apt install systemd")
    assert analyze
    shop = Workshop(tmp_path, index, TORCH_OVERLAY_ROOT=str(tmp_path / "overlays"))
    shop.stock("cpu")
    shop.create("cpu")
    project = tmp_path / "ranker"
    shop.command("venv", str(project / ".venv"), "--base", "cpu")
    found = re.search(r"```ini\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    text = found[1].replace("/home/you/notebooks/ranker", str(project))
    unit = tmp_path / "ranker.service"
    unit.write_text(text.replace("User=you", f"User={getpass.getuser()}"))
    done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, check=False)
    told = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, told) == (0, [])
    (start,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    python, *words = shlex.split(start)
    code = "import torch, http.server; print(torch.__version__)"
    assert subprocess.check_output([python, "-c", code], env={}, cwd=project, text=True) == "2.6.0+cpu\n"
    shown = subprocess.check_output([python, *words[:2], "--help"], env={}, cwd=project, text=True)
    assert words[2] in shown
