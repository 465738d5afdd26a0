"""The ways to give a notebook a torch and a few packages: how each is made, started and found on disk.

Each way is told here as its own README or manual tells it. What a way has to install comes from
caches that an uncounted round has filled.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from kernels import ipykernel, ours, write_notebook

from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.model.accelerators import index_url
from kernel_provisioner.settings import load_settings
from kernel_provisioner.uv.discovery import uv_path

Command = Sequence[str]


@dataclasses.dataclass(frozen=True)
class Work:
    """The same for every way: a base's torch and Python, and the packages that a notebook needs.

    ``system`` is a Python installation that has torch in its own site-packages, as on a machine
    whose admin installed it there; None where none could be made.
    """

    base: RegisteredBase
    extras: tuple[str, ...]
    cache: Path
    system: Path | None

    @property
    def python(self) -> str:
        """The interpreter that environments are made from."""
        return self.base.manifest.interpreter

    @property
    def needs(self) -> list[str]:
        """What an environment of one's own needs, besides itself."""
        held = self.base.manifest.distributions
        return [f"torch=={held['torch']}", f"ipykernel=={held['ipykernel']}", *self.extras]


@dataclasses.dataclass(frozen=True)
class Trial:
    """One environment to be: the ``commands`` that make it, what is started, and where it lies then.

    ``pattern`` says where, under ``place``.
    """

    commands: tuple[Command, ...]
    spec: KernelSpec
    notebook: Path
    place: Path
    pattern: str

    @property
    def trees(self) -> list[Path]:
        """The directories that the environment takes now."""
        return list(self.place.glob(self.pattern)) if self.pattern else []

    def make(self) -> None:
        """Run the commands; raises CalledProcessError, which holds what was said."""
        for command in self.commands:
            subprocess.run(command, check=True, capture_output=True, text=True)


@dataclasses.dataclass(frozen=True)
class Way:
    """A name, and how a trial looks in a directory of its own.

    ``slow``: takes tens of seconds. ``needs_system``: a Python with torch in its own site-packages.
    """

    name: str
    trial: Callable[[Work, Path], Trial]
    slow: bool = False
    needs_system: bool = False
    impossible: Callable[[Work], str] = lambda _: ""


def overlay(work: Work, folder: Path) -> Trial:
    """This package: the notebook declares its packages, and its kernel is one of ours."""
    notebook = _notebook(folder, {"extras": work.extras})
    spec = ours(work.base.manifest.tag)
    return Trial((), spec, notebook, folder.parent / "overlays", f"{folder.name}-*")


def _first_overlay(work: Work, folder: Path) -> Trial:
    shutil.rmtree(folder.parent / "overlays/locks", ignore_errors=True)
    return overlay(work, folder)


def uv_venv(*options: str) -> Callable[[Work, Path], Trial]:
    """An environment of the notebook's own, made by uv."""

    def trial(work: Work, folder: Path) -> Trial:
        venv, python = folder / ".venv", str(folder / ".venv/bin/python")
        make = [uv_path(), "venv", "--quiet", "--python", work.python, str(venv)]
        fill = [uv_path(), "pip", "install", "--quiet", "--python", python, *options, *work.needs]
        return Trial((make, fill), ipykernel(python), _notebook(folder), folder, ".venv")

    return trial


def _pip(work: Work, folder: Path) -> Trial:
    venv, python = folder / ".venv", str(folder / ".venv/bin/python")
    make = [work.python, "-m", "venv", str(venv)]
    fill = [python, "-m", "pip", "install", "--quiet", *work.needs]
    return Trial((make, fill), ipykernel(python), _notebook(folder), folder, ".venv")


def _system_site(work: Work, folder: Path) -> Trial:
    assert work.system is not None
    venv, python = folder / ".venv", str(folder / ".venv/bin/python")
    make = [str(work.system), "-m", "venv", "--system-site-packages", str(venv)]
    # pip, for uv does not see what lies outside the environment (astral-sh/uv 15162).
    fill = [python, "-m", "pip", "install", "--quiet", *work.extras]
    return Trial((make, fill), ipykernel(python), _notebook(folder), folder, ".venv")


def _pyproject_local(work: Work, folder: Path) -> Trial:
    folder.mkdir(parents=True, exist_ok=True)
    uv, here = uv_path(), ("--directory", str(folder))
    make = [uv, "init", "--quiet", "--bare", "--name", "project", "--python", work.python, *here]
    fill = [uv, "add", "--quiet", *here, *work.needs]
    return Trial((make, fill), _installed("pyproject_local_kernel"), _notebook(folder), folder, ".venv")


def _uvkernel(work: Work, folder: Path) -> Trial:
    notebook = _notebook(folder, script=_script(work))
    return Trial((), _installed("uvkernel"), notebook, work.cache, "environments-v2")


def _uvk(work: Work, folder: Path) -> Trial:
    notebook = _notebook(folder, script=_script(work))
    return Trial((), _installed("uvk"), notebook, work.cache, "environments-v2")


def _too_old(_: Work) -> str:
    return "" if sys.version_info >= (3, 11) else "it needs Python 3.11"


WAYS = (
    Way("overlay, nothing known", _first_overlay),
    Way("overlay, packages known from another notebook", overlay),
    Way("uv, private venv, hard links", uv_venv("--link-mode", "hardlink")),
    Way("uv, private venv, copies", uv_venv("--link-mode", "copy"), slow=True),
    Way("pip, private venv", _pip, slow=True),
    Way(
        "venv --system-site-packages, pip",
        _system_site,
        slow=True,
        needs_system=True,
        impossible=lambda work: (
            "" if work.system else "no Python here can be copied to have torch of its own"
        ),
    ),
    Way("pyproject-local-kernel", _pyproject_local),
    Way("uvkernel", _uvkernel, impossible=_too_old),
    Way("uvk", _uvk, impossible=_too_old),
)
"""All that are compared. Copies are what uv makes where its cache is on another file system."""


def bare(work: Work, folder: Path) -> Trial:
    """The measure of all: ipykernel in the base, with none of the packages."""
    python = str(Path(work.base.manifest.prefix) / "bin/python")
    return Trial((), ipykernel(python), _notebook(folder), folder, "")


def set_environment(work: Work) -> None:
    """One environment for all: a cache of uv's for this run, and torch from where the base's came.

    It is this process's own, for the server that it plays looks for uv, and reads settings, there.
    """
    env = os.environ
    env.pop("VIRTUAL_ENV", None)
    env["PATH"] = os.pathsep.join(
        [str(Path(sys.executable).parent), str(Path(uv_path()).parent), env["PATH"]]
    )
    env["UV_CACHE_DIR"] = str(work.cache)
    if links := env.get("PIP_FIND_LINKS"):
        env["UV_FIND_LINKS"] = ",".join([*links.split(), *filter(None, [env.get("UV_FIND_LINKS")])])
    else:
        index = index_url(load_settings().index_template, work.base.manifest.tag)
        env |= {"UV_INDEX": index, "UV_INDEX_STRATEGY": "unsafe-best-match", "PIP_EXTRA_INDEX_URL": index}


def _installed(name: str) -> KernelSpec:
    spec: KernelSpec = KernelSpecManager().get_kernel_spec(name)
    if spec.argv[0] == "python":
        spec.argv[0] = sys.executable
    return spec


def _script(work: Work) -> str:
    lines = [
        "# /// script",
        f'# requires-python = "=={work.base.manifest.python_xy}.*"',
        "# dependencies = [",
    ]
    return "\n".join([*lines, *(f'#   "{need}",' for need in work.needs), "# ]", "# ///"])


def _notebook(folder: Path, torch_env: Mapping[str, Any] | None = None, *, script: str = "") -> Path:
    return write_notebook(folder / f"{folder.name}.ipynb", torch_env, script=script)


def set_aside(work: Work, trial: Trial, folder: Path) -> None:
    """Let the next trial begin with nothing.

    Moved into its ``folder``, not removed: where thousands of files were deleted a moment ago, ext4 without
    a journal takes many times as long to make new ones (``recently_deleted`` in the kernel's ialloc.c).
    """
    for tree in trial.trees:
        if tree.is_relative_to(work.cache):
            tree.rename(folder / tree.name)
