"""Make a base: plan, install, snapshot, publish.

A base is filled in place, under a lock, because environments cannot be moved. The manifest is
written last: before it there is no base, and what a failed attempt left is removed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from ..errors import BaseNotFound, InstallFailed, InvalidRequest, OverlayError
from ..model.accelerators import BESIDE_TORCH, parse_tag
from ..system import locks
from ..uv.client import Uv
from . import registry
from .installers import BaseSpec, Installer, PipInstaller, Plan, UvInstaller, first_that_plans
from .kernels import register_kernel
from .progress import Progress
from .publish import (
    LOCK_WAIT,
    Created,
    make_read_only,
    now,
    publish,
    refuse_line_breaks,
    remove_tree,
    told_disk_errors,
    withdraw,
)
from .registry import DIRECTORY, RegisteredBase
from .snapshot import Snapshot, base_id, probe, snapshot
from .trust import refuse_unsafe_places


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
    the interpreter that runs this. Raises OverlayError; nothing unfinished stays behind.
    """
    parse_tag(spec.tag)
    _check(spec)
    refuse_line_breaks(data_dir)
    refuse_unsafe_places([data_dir / DIRECTORY], f"no base can be kept in {data_dir}")
    with told_disk_errors(data_dir):
        registry.make_shared(data_dir / DIRECTORY)
    interpreter = find_interpreter(python, uv)
    with told_disk_errors(data_dir), tempfile.TemporaryDirectory(prefix="torch-overlay-") as name:
        scratch = Path(name)
        makers: dict[str, Callable[[], Installer]] = {
            "uv": lambda: UvInstaller(uv, interpreter, scratch, template),
            "pip": lambda: PipInstaller(interpreter, scratch, environ),
        }
        chosen = [(key, make) for key, make in makers.items() if installer in (key, "auto")]
        used, worker, plan = first_that_plans(chosen, spec, progress)
        _refuse_foreign(spec.tag, plan)
        return _install(spec, data_dir, interpreter, uv, worker, plan, used, progress)


def find_interpreter(python: str, uv: Uv) -> Path:
    """The true interpreter that ``python`` (path, version or nothing) names.

    Raises BaseNotFound, or BaseUnsafe where somebody else can change it.
    """
    wanted = python or sys._base_executable  # type: ignore[attr-defined] # noqa: SLF001 - what venv itself asks
    if "/" in wanted:  # a version names no place
        refuse_unsafe_places([Path(wanted)], f"no base can stand on {wanted}")  # before it runs
    done = uv.run("python", "find", "--no-project", "--system", wanted)
    if done.returncode != 0:
        raise BaseNotFound(
            f"there is no Python {wanted!r} on this machine",
            why=done.stderr.strip(),
            fix=f"give the path of an interpreter, or: uv python install {wanted}",
        )
    return Path(os.path.realpath(done.stdout.strip()))


def _check(spec: BaseSpec) -> None:
    """Raise InvalidRequest where what was asked for is not written as requirements are."""
    for text in (spec.torch_requirement, *spec.packages):
        try:
            Requirement(text)
        except InvalidRequirement as error:  # noqa: PERF203 - a handful of names
            raise InvalidRequest(
                f"{text!r} is no requirement",
                why=str(error),
                fix="write versions as pip does: --torch 2.8.0, --torch '>=2.6,<2.8', --with 'timm>=1.0'",
            ) from error


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
    with locks.exclusive(directory.parent / f"{directory.name}.new.lock", timeout=LOCK_WAIT):
        if (directory / registry.MANIFEST).exists():
            base = RegisteredBase(registry.read_manifest(directory), directory)
            kernel = register_kernel(spec.tag, data_dir)
            registry.set_alias(directory.parent, spec.tag, directory.name)
            return Created(base, kernel, plan.source, existed=True)
        remove_tree(directory)
        directory.mkdir()
        try:
            venv = directory / "venv"
            progress(f"Installing torch {plan.pins['torch']} and {len(plan.pins) - 1} more with {used}")
            uv.run("venv", "--python", interpreter, venv).check("a virtual environment cannot be made")
            worker.install(plan, venv, progress)
            progress("Importing torch once, to find out what it was built for")
            facts = probe(venv / "bin/python", torch=True, beside=BESIDE_TORCH)
            picture = snapshot(facts, adopted=False, installer=used, created=now())
            named = picture.manifest._replace(id=directory.name)
            picture = dataclasses.replace(picture, manifest=named)
            _refuse_other_build(spec.tag, picture)
            _refuse_broken(facts["broken"], picture, plan)
            progress("Making it read-only")
            make_read_only(venv)
            return publish(picture, directory, data_dir, plan.source, existed=False)
        except BaseException:
            _take_back(directory, data_dir)
            raise


def _take_back(directory: Path, data_dir: Path) -> None:
    """Remove what a failed attempt left: where the base was registered already, with its alias and kernel."""
    with contextlib.suppress(OSError, OverlayError):
        withdraw(RegisteredBase(registry.read_manifest(directory), directory), data_dir)
    remove_tree(directory)


def _refuse_foreign(tag: str, plan: Plan) -> None:
    """A cpu base never receives nvidia packages, whatever asked for them."""
    foreign = sorted(name for name in plan.pins if name.startswith(("nvidia-", "cuda-", "triton")))
    if tag == "cpu" and foreign:
        raise InstallFailed(
            "a cpu base would receive " + ", ".join(foreign),
            why=f"one of the packages asked for needs them; source: {plan.source}",
            fix="leave that package out of --with, or name a CUDA tag",
        )


def _refuse_other_build(tag: str, picture: Snapshot) -> None:
    if picture.manifest.tag != tag:
        raise InstallFailed(
            f"the torch that was installed is a {picture.manifest.tag} build, not {tag}",
            why=f"torch {picture.manifest.torch} reports this itself",
            fix=f"jupyter overlay base create {picture.manifest.tag}, or name another source",
        )


def _refuse_broken(broken: Mapping[str, str], picture: Snapshot, plan: Plan) -> None:
    """PyPI's torchvision, for example, is a build for PyPI's torch, and its metadata do not say so."""
    if not broken:
        return
    manifest = picture.manifest
    names = {module: manifest.modules.get(module, module) for module in broken}
    told = [f"{name} {manifest.distributions.get(name, '')}".strip() for name in names.values()]
    raise InstallFailed(
        f"{', '.join(dict.fromkeys(told))} cannot be imported beside torch {manifest.torch}",
        why="\n".join(f"import {module}: {error}" for module, error in broken.items())
        + f"\nit is a build for another torch, or this machine lacks what it needs (source: {plan.source})",
        fix="name a place with builds for this torch with --find-links, or leave the package out of --with",
    )
