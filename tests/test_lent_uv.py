"""``bin/uv`` of an overlay: its guards are for what uv installs into that overlay, and for nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from kernel_provisioner.inkernel.lent_uv import changes, held
from kernel_provisioner.uv.discovery import uv_path
from tests.support.environ import clean_environment
from tests.support.wheels import build_wheel


class Place(NamedTuple):
    """Two environments: ``here``, in which the package ``mark`` is installed, and ``other``."""

    here: Path
    other: Path
    env: Mapping[str, str]

    def filled(self, text: str) -> str:
        """A word of a case, with the paths of this place."""
        return text.format(here=self.here, other=self.other, up=self.here.parent)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """``desk/.venv`` is the environment, ``desk/sub`` a directory beside it."""
    top = tmp_path_factory.mktemp("lent uv")
    wheel = build_wheel(top / "wheels", "mark")
    env = clean_environment(top / "home", index=None, inherited=None, UV_FIND_LINKS=wheel.parent.as_uri(),
                            UV_NO_INDEX="1", PATH=f"{top}/desk/.venv/bin:/usr/bin:/bin")  # fmt: skip
    here, other = top / "desk/.venv", top / "elsewhere/other"
    (top / "desk/sub").mkdir(parents=True)
    for prefix in (here, other):
        subprocess.run([uv_path(), "venv", "-q", "--python", sys.executable, prefix], env=env, check=True)
    install = [uv_path(), "pip", "install", "-q", "--python", str(here), "mark"]
    subprocess.run(install, env=env, cwd=top, check=True)
    (top / "linked").symlink_to(here)
    return Place(here, other, env)


IN_HERE = {"VIRTUAL_ENV": "{here}"}
IN_OTHER = {"VIRTUAL_ENV": "{other}"}
CASES: dict[str, tuple[Mapping[str, str], str, list[str]]] = {
    "active": (IN_HERE, "/", ["pip", "install", "mark"]),
    "active by a link": ({"VIRTUAL_ENV": "{up}/../linked"}, "/", ["pip", "install", "mark"]),
    "options first": (IN_HERE, "/", ["--color", "never", "-q", "pip", "--cache-dir", "{up}/c", "install",
                             "mark"]),
    "found in the directory": ({}, "{up}/sub", ["pip", "install", "mark"]),
    "found by --directory": ({}, "/", ["--directory", "{up}/sub", "pip", "install", "mark"]),
    "found by UV_WORKING_DIR": ({"UV_WORKING_DIR": "{up}/sub"}, "/", ["pip", "install", "mark"]),
    "an active one that is gone": ({"VIRTUAL_ENV": "/gone"}, "{up}", ["pip", "install", "mark"]),
    "conda's": ({"CONDA_PREFIX": "{here}"}, "/", ["pip", "install", "mark"]),
    "its interpreter": (IN_OTHER, "/", ["pip", "install", "--python", "{here}/bin/python", "mark"]),
    "its directory": (IN_OTHER, "/", ["pip", "install", "--python={here}", "mark"]),
    "short": (IN_OTHER, "/", ["pip", "install", "-p", "{here}", "mark"]),
    "short and close": (IN_OTHER, "/", ["pip", "install", "-p{here}", "mark"]),
    "short with others": (IN_OTHER, "/", ["pip", "install", "-qp", "{here}", "mark"]),
    "relative": (IN_OTHER, "{up}/sub", ["pip", "install", "--python", "../.venv", "mark"]),
    "the first python": (IN_OTHER, "/", ["pip", "install", "--python", "python", "mark"]),
    "a version": (IN_HERE, "/", ["pip", "install", "--python", "3", "mark"]),
    "UV_PYTHON": ({**IN_OTHER, "UV_PYTHON": "{here}"}, "/", ["pip", "install", "mark"]),
    "another active": (IN_OTHER, "{up}", ["pip", "install", "mark"]),
    "another's interpreter": (IN_HERE, "/", ["pip", "install", "--python", "{other}/bin/python", "mark"]),
    "another's version": (IN_OTHER, "/", ["pip", "install", "--python", "3", "mark"]),
    "another by UV_PYTHON": ({**IN_HERE, "UV_PYTHON": "{other}"}, "/", ["pip", "install", "mark"]),
    "a directory of packages": (IN_HERE, "/", ["pip", "install", "--target", "{up}/t", "mark"]),
    "a short directory of packages": (IN_HERE, "/", ["pip", "install", "-t", "{up}/t", "mark"]),
    "another prefix": (IN_HERE, "/", ["pip", "install", "--prefix={other}", "mark"]),
    "the first in PATH": ({}, "/", ["pip", "install", "mark"]),
    "another first in PATH": ({"PATH": "{other}/bin"}, "/", ["pip", "install", "mark"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_it_tells_as_uv_does_whether_the_environment_is_meant(place: Place, case: str) -> None:
    """uv itself is asked: the package is there already, or it would be installed."""
    more, cwd, words = CASES[case]
    env = {**place.env, **{name: place.filled(text) for name, text in more.items()}}
    words, folder = [place.filled(word) for word in words], Path(place.filled(cwd))
    asked = ["-p" if word == "-qp" else word for word in words if word != "-q"]
    done = subprocess.run([uv_path(), *asked, "--dry-run"], env=env, cwd=folder, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert ("Would make no changes" in done.stderr) is changes(words, env, place.here, folder), done.stderr


@pytest.mark.parametrize(
    "words",
    [["pip", "list"], ["pip", "compile", "install"], ["pip", "uninstall", "mark"], ["lock"], ["add", "pip"],
     ["tool", "install", "pip"], ["run", "pip", "install", "mark"], ["pip"], [], ["venv", "pip"],
     ["--project", "pip", "sync"], ["pip", "install", "--system", "mark"]],
    ids=" ".join,
)  # fmt: skip
def test_what_installs_nothing_here_is_left_alone(place: Place, words: list[str]) -> None:
    """Whatever words it consists of."""
    env = {**place.env, "VIRTUAL_ENV": str(place.here)}
    assert not changes(words, env, place.here, Path("/"))
    assert changes(["pip", "sync", "r.txt"], env, place.here, Path("/"))
    assert not changes(["pip", "sync", "r.txt"], {**env, "UV_SYSTEM_PYTHON": "true"}, place.here, Path("/"))


def test_what_the_user_has_set_stays_behind_it(place: Place) -> None:
    """Constraints of both count; the backend is the base's, for another's packages do not go with it."""
    env = held({"UV_CONSTRAINT": "mine.txt", "UV_TORCH_BACKEND": "cu99"}, place.here, "cpu")
    ours = f"{place.here.as_uri()}/constraints.txt"
    assert env["UV_CONSTRAINT"] == f"{ours} mine.txt"
    assert " " not in ours
    assert env["UV_BUILD_CONSTRAINT"] == f"{place.here.as_uri()}/build-constraints.txt"
    assert env["UV_TORCH_BACKEND"] == "cpu"
    assert "UV_TORCH_BACKEND" not in held({}, place.here, "")


def test_it_needs_no_packages_and_no_settings_of_python(tmp_path: Path) -> None:
    """Run as ``bin/uv`` runs it: by its path, without site, in a directory that holds traps."""
    (tmp_path / "re.py").write_text("raise SystemExit('trapped')")
    words = ["-c", "echo ${UV_CONSTRAINT-none} $0", "pip"]
    command = [sys.executable, "-IS", changes.__code__.co_filename, str(tmp_path), "/bin/sh", "cpu", *words]
    done = subprocess.run(command, env={"PATH": os.defpath, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.stdout == "none pip\n", done.stderr
