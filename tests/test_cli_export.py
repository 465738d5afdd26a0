"""``jupyter overlay export``: what other tools take from a notebook, tried with these tools."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_provisioner.uv.client import locked_packages
from kernel_provisioner.uv.discovery import uv_path
from tests.support.desk import Desk
from tests.support.notebooks import write_notebook
from tests.support.waiting import WITHIN

pytestmark = pytest.mark.slow

NEEDED_BY_TORCH = "torch-plain-dependency"
CELLS = ("# /// script\n# dependencies = []\n# ///", "!pip list\nprint('exported')", "%%bash\nls")


@pytest.fixture
def notebook(desk: Desk) -> Path:
    """A notebook with an extra that needs another one, and one of PyTorch's own packages."""
    desk.publish("carried")
    desk.publish("carrier", requires=["carried", "torch"])
    extras = {"extras": ["carrier", "torchvision"]}
    return write_notebook(desk.home / "ex port.ipynb", *CELLS, torch_env=extras)


def exported(desk: Desk, notebook: Path, form: str, name: str) -> Path:
    """The file that is written in this form; the notebook keeps every byte."""
    before = notebook.read_bytes()
    file = desk.home / name
    done = desk.command("export", str(notebook), "--format", form, "--output", str(file))
    assert done.stdout.splitlines()[-1] == f"wrote {file}"
    assert notebook.read_bytes() == before
    return file


def uv(desk: Desk, *words: object) -> subprocess.CompletedProcess[str]:
    """uv as somebody else would run it."""
    return subprocess.run(
        [uv_path(), *map(str, words)],
        env=desk.env,
        capture_output=True,
        text=True,
        timeout=WITHIN,
        check=False,
    )


@pytest.mark.parametrize(
    ("form", "name"), [("requirements", "requirements.txt"), ("pylock", "pylock.toml")], ids=str
)
def test_another_tool_installs_just_that(desk: Desk, notebook: Path, form: str, name: str) -> None:
    """The same versions, checked by their hashes; torch stays out of it."""
    file = exported(desk, notebook, form, name)
    prefix = desk.environment(f"elsewhere-{form}")
    hashes = ["--require-hashes"] if form == "requirements" else ["--preview-features", "pylock"]
    index = ["--index", desk.index.template.format(tag="cpu")]
    done = uv(desk, "pip", "install", "--python", prefix, "--no-deps", *hashes, *index, "-r", file)
    assert done.returncode == 0, done.stderr
    listed = uv(desk, "pip", "list", "--python", prefix, "--format", "json").stdout
    got = {entry["name"]: entry["version"] for entry in json.loads(listed)}
    vision = {} if form == "requirements" else {"torchvision": "0.21.0+cpu"}
    assert got == {"carrier": "1.0", "carried": "1.0", NEEDED_BY_TORCH: "1.0", **vision}


def test_a_lock_for_other_tools_has_the_hashes_of_the_notebooks(desk: Desk, notebook: Path) -> None:
    """A file that the index has replaced since then is refused."""
    desk.lock(notebook)
    lock = json.loads(notebook.read_text())["metadata"]["torch_env"]["lock"]
    file = exported(desk, notebook, "pylock", "pylock.locked.toml")
    hashes = {one["name"]: one["wheels"][0]["hashes"] for one in locked_packages(file.read_text())}
    assert hashes["carrier"] == next(
        one["wheels"][0]["hashes"] for one in lock["packages"] if one["name"] == "carrier"
    )


def test_a_script_has_the_code_and_what_it_needs(desk: Desk, notebook: Path) -> None:
    """With torch from the index of the base's accelerator; what only IPython runs is a comment."""
    file = exported(desk, notebook, "script", "ex.py")
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, timeout=WITHIN, check=True)
    assert done.stdout == "exported\n"
    text = file.read_text()
    assert text.count("# /// script") == 1
    assert "# !pip list" in text
    needs = re.findall(r'^#     "([^"]+)",$', text, re.MULTILINE)
    assert needs == [
        "torch==2.6.0", "carried==1.0", "carrier==1.0", f"{NEEDED_BY_TORCH}==1.0", "torchvision==0.21.0",
    ]  # fmt: skip
    plan = uv(desk, "lock", "--script", file, "--python", sys.executable)
    assert plan.returncode == 0, plan.stderr
    locked = Path(f"{file}.lock").read_text()
    assert 'version = "2.6.0+cpu"' in locked


def test_a_dockerfile_has_the_packages_of_base_and_notebook(desk: Desk, notebook: Path) -> None:
    """All of them, exactly; what its commands install is tried with the files that it writes."""
    text = exported(desk, notebook, "dockerfile", "Dockerfile").read_text()
    assert text.startswith("# syntax=docker/dockerfile:1\n")
    assert 'COPY ["ex port.ipynb", "./"]' in text
    files = dict(re.findall(r'COPY <<"END" (\S+)\n(.*?)\nEND\n', text, re.DOTALL))
    base = desk.cpu.manifest
    assert files["/opt/base.txt"].splitlines() == [*base.constraints, "torchvision==0.21.0"]
    prefix = desk.environment("image")
    for place, content in files.items():
        file = desk.home / Path(place).name
        file.write_text(content + "\n")
        (command,) = re.findall(rf"RUN uv (.*) -r {place}$", text, re.MULTILINE)
        words = command.replace("--system", f"--python {prefix}").replace("--torch-backend cpu", "").split()
        done = uv(desk, *words, "--index", desk.index.template.format(tag="cpu"), "-r", file)
        assert done.returncode == 0, done.stderr
    listed = uv(desk, "pip", "list", "--python", prefix, "--format", "json").stdout
    got = {entry["name"]: entry["version"] for entry in json.loads(listed)}
    assert got == {**base.distributions, "carrier": "1.0", "carried": "1.0", "torchvision": "0.21.0+cpu"}


def test_without_a_file_it_is_printed(desk: Desk, notebook: Path) -> None:
    """As it is, or as JSON; a form that does not exist is refused with those that do."""
    text = desk.command("export", str(notebook)).stdout
    assert "carrier==1.0 \\\n    --hash=sha256:" in text
    assert json.loads(desk.command("export", str(notebook), "--json").stdout)["text"] == text
    done = desk.command("export", str(notebook), "--format", "conda", check=False)
    assert done.returncode == 2
    assert "requirements" in done.stderr


def test_a_script_is_printed_as_it_is_written(desk: Desk) -> None:
    """Joined emoji, right-to-left text and addresses are the author's; notices go to stderr."""
    code = "face = '👩\u200d💻 \u05d0\u200f https://me@example.org'"
    notebook = write_notebook(desk.home / "verbatim.ipynb", code, "files = !ls", torch_env={"extras": []})
    done = desk.command("export", str(notebook), "--format", "script", PYTHONIOENCODING="utf-8")
    assert code in done.stdout.splitlines()
    assert "cell 2: files = !ls is a comment" in done.stderr
    assert exported(desk, notebook, "script", "verbatim.py").read_text() == done.stdout


def test_no_form_has_the_password_of_an_index(desk: Desk, notebook: Path) -> None:
    """It stays on the machine that it was set on; the script says where to keep it."""
    desk.lock(notebook)
    told = desk.index.template.replace("://", "://bob:s3cret@")
    made = {
        form: desk.command("export", str(notebook), "--format", form, TORCH_OVERLAY_INDEX=told)
        for form in ("requirements", "pylock", "script", "dockerfile")
    }
    assert [form for form, done in made.items() if "s3cret" in done.stdout + done.stderr] == []
    assert f'# url = "{desk.index.template.format(tag="cpu")}"' in made["script"].stdout
    assert "keep it in ~/.netrc" in made["script"].stdout
