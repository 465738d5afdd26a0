"""Make a base, or adopt an environment as one; both end with a photograph and a manifest.

A base is filled in place, under a lock, because environments cannot be moved. The manifest is
written last: before it there is no base, and what a failed attempt left is removed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from .. import locks
from ..accelerators import parse_tag
from ..errors import BaseNotFound, InstallFailed
from ..inkernel.disk import usage
from ..uv import Uv
from . import registry
from .installers import BaseSpec, Installer, PipInstaller, Plan, UvInstaller, first_that_plans
from .kernels import register_kernel
from .photograph import Photograph, base_id, photograph, probe
from .registry import DIRECTORY, RegisteredBase

Progress = Callable[[str], None]
_LOCK_WAIT = 3600.0  # seconds: another process may be making the same base


@dataclasses.dataclass(frozen=True)
class Created:
    """The outcome of ``create`` or ``adopt``: the base, its kernel's directory, and what was used."""

    base: RegisteredBase
    kernel: Path
    source: str
    existed: bool


def create_base(
    spec: BaseSpec,
    *,
    data_dir: Path,
    python: str,
    installer: str,
    template: str,
    uv: Uv,
    progress: Progress,
    environ: Mapping[str, str] = os.environ,
) -> Created:
    """Install a base of ``spec.tag`` under ``data_dir``, publish it and register its kernel.

    ``installer`` is ``uv``, ``pip`` or ``auto``: the PyTorch index through uv, and where that
    has no answer, wherever the user's pip looks. ``python`` is a path or a version; empty for
    the interpreter that runs this. Raises OverlayError; nothing half-made stays behind.
    """
    parse_tag(spec.tag)
    root = data_dir / DIRECTORY
    root.mkdir(parents=True, exist_ok=True)
    interpreter = find_interpreter(python, uv)
    with tempfile.TemporaryDirectory(prefix="torch-overlay-") as name:
        scratch = Path(name)
        makers: dict[str, Callable[[], Installer]] = {
            "uv": lambda: UvInstaller(uv, interpreter, scratch, template),
            "pip": lambda: PipInstaller(interpreter, scratch, environ),
        }
        chosen = [(key, make) for key, make in makers.items() if installer in (key, "auto")]
        used, worker, plan = first_that_plans(chosen, spec, progress)
        _refuse_foreign(spec.tag, plan)
        return _install(spec, data_dir, interpreter, uv, worker, plan, used, progress)


def adopt_base(path: Path, *, data_dir: Path, tag: str | None, progress: Progress) -> Created:
    """Register an existing environment (venv, conda, system) as a base, without writing into it.

    ``path`` is its prefix or its interpreter. Raises BaseNotFound where it holds no torch or no
    ipykernel.
    """
    if tag:
        parse_tag(tag)
    progress(f"Asking {path} what it holds")
    python = path if path.is_file() else path / "bin/python"
    if not python.exists() and (path / "bin/python3").exists():
        python = path / "bin/python3"
    if not python.exists():
        raise BaseNotFound(
            f"{path} is no Python environment",
            why=f"there is no {python}",
            fix="name an environment's directory (it holds bin/python) or interpreter",
        )
    picture = photograph(
        probe(python.absolute(), torch=True), tag=tag, adopted=True, installer="adopted", created=_now()
    )
    picture = dataclasses.replace(
        picture,
        manifest=dataclasses.replace(picture.manifest, fingerprint=fingerprint(picture.manifest.site_dirs)),
    )
    directory = data_dir / DIRECTORY / picture.manifest.id
    directory.mkdir(parents=True, exist_ok=True)
    existed = (directory / registry.MANIFEST).exists()
    with locks.exclusive(directory.parent / f"{picture.manifest.id}.new.lock", timeout=_LOCK_WAIT):
        return _publish(picture, directory, data_dir, f"adopted from {path}", existed)


def find_interpreter(python: str, uv: Uv) -> Path:
    """The true interpreter that ``python`` (path, version or nothing) names; raises BaseNotFound."""
    import sys

    wanted = python or sys._base_executable  # type: ignore[attr-defined] # CPython's, since 3.3
    done = uv.run("python", "find", "--no-project", "--system", wanted)
    if done.returncode != 0:
        raise BaseNotFound(
            f"no Python {wanted!r} is on this machine",
            why=done.stderr.strip(),
            fix=f"name an interpreter's path, or: uv python install {wanted}",
        )
    return Path(os.path.realpath(done.stdout.strip()))


def fingerprint(site_dirs: tuple[str, ...]) -> str:
    """A cheap mark of an environment's content: names and times of its site directories' entries.

    Installing, upgrading or removing a distribution changes it; running the environment does not.
    """
    seen = []
    for directory in site_dirs:
        with contextlib.suppress(OSError):
            seen += [
                (entry.name, entry.stat(follow_symlinks=False).st_mtime_ns)
                for entry in os.scandir(directory)
                if entry.name.endswith((".dist-info", ".egg-info", ".pth", ".egg-link"))
            ]
    return hashlib.sha256(json.dumps(sorted(seen)).encode()).hexdigest()[:16]


def make_writable(tree: Path) -> None:
    """Undo ``make_read_only``, so that the tree can be removed."""
    _chmod(tree, lambda mode: mode | stat.S_IWUSR)


def make_read_only(tree: Path) -> None:
    """Take every write permission from a tree, and give others what its owner can read."""
    _chmod(tree, lambda mode: (mode | (mode & 0o500) >> 3 | (mode & 0o500) >> 6) & ~0o222)


def _install(
    spec: BaseSpec,
    data_dir: Path,
    interpreter: Path,
    uv: Uv,
    worker: Installer,
    plan: Plan,
    used: str,
    progress: Progress,
) -> Created:
    version = uv.run("python", "find", "--no-project", "--show-version", interpreter).stdout.strip()
    digest = hashlib.sha256(
        json.dumps([str(interpreter), version, sorted(plan.pins.items())]).encode()
    ).hexdigest()
    directory = data_dir / DIRECTORY / base_id(spec.tag, plan.pins["torch"], version, digest)
    with locks.exclusive(directory.parent / f"{directory.name}.new.lock", timeout=_LOCK_WAIT):
        if (directory / registry.MANIFEST).exists():
            base = RegisteredBase(registry.read_manifest(directory), directory)
            registry.set_alias(directory.parent, spec.tag, directory.name)
            return Created(base, register_kernel(spec.tag, data_dir), plan.source, existed=True)
        _remove(directory)
        directory.mkdir()
        try:
            venv = directory / "venv"
            progress(f"Installing torch {plan.pins['torch']} and {len(plan.pins) - 1} more with {used}")
            uv.run("venv", "--python", interpreter, venv).check("a virtual environment cannot be made")
            worker.install(plan, venv, progress)
            progress("Importing torch once, to learn what it was built for")
            facts = probe(venv / "bin/python", torch=True)
            picture = photograph(facts, adopted=False, installer=used, created=_now())
            named = dataclasses.replace(picture.manifest, id=directory.name)
            picture = dataclasses.replace(picture, manifest=named)
            _refuse_other_build(spec.tag, picture)
            progress("Making it read-only")
            make_read_only(venv)
            return _publish(picture, directory, data_dir, plan.source, existed=False)
        except BaseException:
            _remove(directory)
            raise


def _publish(picture: Photograph, directory: Path, data_dir: Path, source: str, existed: bool) -> Created:
    used = usage(picture.manifest.site_dirs)
    manifest = dataclasses.replace(
        picture.manifest, bytes=used.own_bytes + used.linked_bytes, files=used.own_files + used.linked_files
    )
    skeleton = {"files": picture.skeleton, "links": picture.links}
    registry.replace_text(directory / registry.SKELETON, json.dumps(skeleton))
    registry.replace_text(directory / registry.CONSTRAINTS, "\n".join(manifest.constraints) + "\n")
    base = RegisteredBase(manifest, directory)
    base.lock_path.touch(mode=0o644)
    registry.replace_text(directory / registry.MANIFEST, json.dumps(manifest.as_dict(), indent=1) + "\n")
    registry.set_alias(directory.parent, manifest.tag, manifest.id)
    return Created(base, register_kernel(manifest.tag, data_dir), source, existed)


def _refuse_foreign(tag: str, plan: Plan) -> None:
    """A cpu base never receives nvidia packages, whatever asked for them."""
    foreign = sorted(name for name in plan.pins if name.startswith(("nvidia-", "cuda-", "triton")))
    if tag == "cpu" and foreign:
        raise InstallFailed(
            "a cpu base would receive " + ", ".join(foreign),
            why=f"one of the packages asked for needs them; source: {plan.source}",
            fix="leave that package out of --with, or name a CUDA tag",
        )


def _refuse_other_build(tag: str, picture: Photograph) -> None:
    if picture.manifest.tag != tag:
        raise InstallFailed(
            f"the torch that was installed is a {picture.manifest.tag} build, not {tag}",
            why=f"torch {picture.manifest.torch} says so of itself",
            fix=f"jupyter overlay base create {picture.manifest.tag}, or name another source",
        )


def _remove(directory: Path) -> None:
    if directory.exists():
        make_writable(directory)
        shutil.rmtree(directory)


def _chmod(tree: Path, change: Callable[[int], int]) -> None:
    for folder, _, names in os.walk(tree):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            info = os.lstat(path)
            if not stat.S_ISLNK(info.st_mode):
                os.chmod(path, change(stat.S_IMODE(info.st_mode)))


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
