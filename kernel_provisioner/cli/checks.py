"""What ``jupyter overlay doctor`` looks at: each check gives findings, and none can spoil the others."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

from traitlets import TraitError

from .. import locks, ownership
from ..accelerators import family_of, index_url
from ..base.current import is_current
from ..base.registry import Register, RegisteredBase, read_register
from ..choose import check_preference
from ..errors import OverlayError
from ..hardware import Hardware, detect
from ..inkernel.disk import human
from ..overlay import store
from ..pages import fetch
from ..policy.traits import refuse_unknown
from ..request import Request
from ..selection import creatable, select
from ..settings import CONFIG_NAME, Settings, read_files
from ..uv import find_uv
from ..venv.notes import known
from .kernels import PROVISIONER, OurKernel, our_kernels

OK, NOTE, WRONG = "ok", "note", "wrong"
_LITTLE_ROOM = 2e9  # bytes; an overlay with a few large extras takes that much


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at. ``level`` is OK, NOTE (worth knowing) or WRONG (has a fix)."""

    area: str
    level: str
    text: str
    fix: str = ""


def examine(settings: Callable[[], Settings], *, online: bool) -> Iterator[Finding]:
    """Look at everything; with ``online``, ask the package indexes too (a minute at most).

    Changes nothing, and leaves nothing behind.
    """
    try:
        known = settings()
    except OverlayError as error:
        yield Finding("settings", WRONG, _in_one_line(error), error.fix)
        return
    machine = detect()
    register = read_register()
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("hardware", lambda: _hardware(machine)),
        ("bases", lambda: _bases(register, machine, known)),
        ("kernels", lambda: _kernels(register, our_kernels())),
        ("jupyter", _jupyter),
        ("uv", lambda: _uv(known)),
        ("policy", lambda: _policy(known)),
        ("servers", _servers),
        ("overlays", lambda: _overlays(known)),
        *([("network", lambda: _network(register, known))] if online else []),
    ]
    for area, check in checks:
        yield from _told(area, check)


def _told(area: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """A check's findings; whatever breaks in it is one more, and does not hide the other checks'."""
    try:
        yield from check()
    except OverlayError as error:
        yield Finding(area, WRONG, _in_one_line(error), error.fix)
    except Exception as error:
        yield Finding(area, WRONG, f"looking at it failed: {type(error).__name__}: {error}")


def _hardware(machine: Hardware) -> Iterator[Finding]:
    yield Finding(
        "hardware", OK, f"{machine.platform} on {machine.machine}" + (", WSL" if machine.wsl else "")
    )
    for gpu in machine.gpus:
        capability = (
            ""
            if gpu.compute_capability is None
            else " (compute capability {}.{})".format(*gpu.compute_capability)
        )
        memory = f", {human(gpu.memory)}" if gpu.memory else ""
        yield Finding("hardware", OK, f"{gpu.name}{capability}{memory}, driver {machine.driver}")
    for name in machine.amd:
        yield Finding("hardware", OK, f"AMD {name}")
    if machine.xpu:
        yield Finding("hardware", OK, "Intel GPU")
    if machine.mps:
        yield Finding("hardware", OK, "Apple GPU (MPS)")
    if not (machine.gpus or machine.amd or machine.xpu or machine.mps):
        yield Finding("hardware", OK, "no GPU that torch could use")
    for note in machine.notes:
        yield Finding("hardware", NOTE, note)


def _bases(register: Register, machine: Hardware, settings: Settings) -> Iterator[Finding]:
    for base in register.bases:
        yield _base(base, means=register.aliases.get(base.manifest.tag) == base.manifest.id)
    for error in register.damaged:
        yield Finding("bases", WRONG, _in_one_line(error), error.fix)
    ids = {base.manifest.id for base in register.bases}
    for tag, target in sorted(register.aliases.items()):
        if target not in ids:
            heirs = [base.manifest.id for base in register.bases if base.manifest.tag == tag]
            fix = (
                f"jupyter overlay base default {tag} {heirs[0]}"
                if heirs
                else f"jupyter overlay base create {tag}"
            )
            yield Finding("bases", WRONG, f"{tag} means {target}, and there is no such base", fix)
    try:
        check_preference(settings.preference)
        chosen = select(
            Request(), machine, register.manifests, aliases=register.aliases, preference=settings.preference
        )
    except OverlayError as error:
        yield Finding("bases", WRONG, error.what, error.fix)
        return
    yield Finding(
        "bases", OK, f"a notebook that leaves the choice open runs on {chosen.base.id} ({chosen.reason})"
    )
    for notice in chosen.notices:
        yield Finding("bases", NOTE, notice)
    best = creatable("auto", Request(), machine)
    if best and family_of(best) != "cpu" and family_of(chosen.base.tag) == "cpu" and not settings.preference:
        yield Finding(
            "bases", NOTE, "there is a GPU, and no base that uses it", f"jupyter overlay base create {best}"
        )


def _base(base: RegisteredBase, *, means: bool) -> Finding:
    manifest = base.manifest
    anew = f"jupyter overlay base remove {manifest.id}  then  jupyter overlay base create {manifest.tag}"
    for needed in (Path(manifest.interpreter), base.skeleton_path, *map(Path, manifest.site_dirs)):
        if not needed.exists():
            return Finding("bases", WRONG, f"{manifest.id} lacks {needed}", anew)
    if not is_current(base):
        text = f"{manifest.id}: {manifest.prefix} is not what was adopted; the next start looks at it anew"
        return Finding("bases", NOTE, text, f"jupyter overlay base adopt {manifest.prefix}  does so now")
    text = f"{manifest.id}: torch {manifest.torch}, Python {manifest.python}, {human(manifest.bytes)}"
    return Finding("bases", OK, text + (f"; what {manifest.tag} means" if means else ""))


def _kernels(register: Register, kernels: dict[str, OurKernel]) -> Iterator[Finding]:
    tags = {base.manifest.tag for base in register.bases}
    for kernel in kernels.values():
        python = kernel.argv[0] if kernel.argv else ""
        if python.startswith("/") and not os.access(python, os.X_OK):
            fix = (
                f"jupyter overlay base create {kernel.tag}"
                if kernel.tag
                else "install kernel-provisioner again"
            )
            yield Finding(
                "kernels", WRONG, f"{kernel.name} names {python}, which is gone ({kernel.directory})", fix
            )
        elif kernel.tag and kernel.tag not in tags:
            fix = f"jupyter overlay base create {kernel.tag}  or  jupyter kernelspec remove {kernel.name}"
            yield Finding("kernels", WRONG, f"{kernel.name} has no {kernel.tag} base to run on", fix)
        else:
            yield Finding("kernels", OK, f"{kernel.name} ({kernel.directory})")
    if not any(not kernel.tag for kernel in kernels.values()):
        fix = "install kernel-provisioner into the environment that runs Jupyter"
        yield Finding(
            "kernels", WRONG, "the kernel torch, which chooses by metadata and hardware, is missing", fix
        )
    for tag in sorted(tags - {kernel.tag for kernel in kernels.values()}):
        fix = f"jupyter overlay base create {tag}  registers it, and makes nothing twice"
        yield Finding("kernels", WRONG, f"the {tag} base has no kernel torch-{tag}", fix)


def _jupyter() -> Iterator[Finding]:
    from importlib.metadata import entry_points

    names = {entry.name for entry in entry_points(group="jupyter_client.kernel_provisioners")}
    here = Path(sys.prefix)
    if PROVISIONER in names:
        yield Finding("jupyter", OK, f"the provisioner is installed in {here}")
    else:
        fix = f"{sys.executable} -m pip install kernel-provisioner"
        yield Finding("jupyter", WRONG, f"the provisioner is not installed in {here}", fix)
    own = Path(sys.executable).parent
    for command in ("jupyter-lab", "jupyter-notebook", "jupyter-server"):
        found = shutil.which(command)
        if found and Path(found).parent.resolve() != own.resolve():
            other = Path(os.path.realpath(found)).parent
            text = f"{command} on the PATH is that of {other.parent}, which needs the provisioner too"
            yield Finding("jupyter", NOTE, text, f"{other}/python -m pip install kernel-provisioner")
            return
        if found or (own / command).exists():
            yield Finding("jupyter", OK, f"{command} is that of this environment")
            return
    yield Finding("jupyter", NOTE, "no JupyterLab, Notebook or server is in this environment or on the PATH")


def _uv(settings: Settings) -> Iterator[Finding]:
    uv = find_uv(policy=settings.policy)
    offline = ", offline" if settings.policy.offline else ""
    yield Finding("uv", OK, f"uv {'.'.join(map(str, uv.version))} ({uv.path}){offline}")


def _policy(settings: Settings) -> Iterator[Finding]:
    """Every rule in force and the file that sets it; all of them hold together."""
    for line in settings.policy.lines() or ["no rule is set"]:
        yield Finding("policy", OK, line)


def _servers() -> Iterator[Finding]:
    """What the files say of how servers start kernels; a mistake there stops none, so it is told here."""
    from importlib.metadata import entry_points

    section = read_files().section("TorchOverlayProvisioner")
    try:
        for entry in entry_points(group="jupyter_client.kernel_provisioners", name=PROVISIONER):
            provisioner: Any = entry.load()
            refuse_unknown(section, provisioner)
            for name, value in section.items():
                provisioner.class_traits()[name].validate(None, value)
        for name, value in section.items():
            yield Finding("servers", OK, f"{name} = {value}")
    except TraitError as error:
        fix = f"correct it in {CONFIG_NAME}.py or .json; jupyter --paths  lists where these lie"
        yield Finding("servers", WRONG, str(error), fix)


def _overlays(settings: Settings) -> Iterator[Finding]:
    root = Path(settings.overlay_root)
    there = next(path for path in (root, *root.parents) if path.exists())
    info = there.stat()
    elsewhere = "set TORCH_OVERLAY_ROOT to a directory that you and root alone can change"
    danger = None
    with contextlib.suppress(OSError):  # nothing can be there: told below
        danger = ownership.danger_at(root)
    if danger:
        text = f"others can change {danger.path}: {danger.how}"
        yield Finding("overlays", WRONG, text, danger.remedy or elsewhere)
    elif there == root and info.st_uid != os.geteuid():
        yield Finding("overlays", WRONG, f"{root} belongs to uid {info.st_uid}", elsewhere)
    elif not os.access(there, os.W_OK | os.X_OK):
        fix = "make it writable, or set TORCH_OVERLAY_ROOT to a directory of yours"
        yield Finding("overlays", WRONG, f"{there} cannot be written to", fix)
    else:
        yield Finding("overlays", OK, f"in {root}" + ("" if there == root else ", not made yet"))
    if there == root and stat.S_IMODE(info.st_mode) & 0o077:
        yield Finding("overlays", NOTE, f"{root} is open to others; the next start closes it")
    free = shutil.disk_usage(there).free
    if free < _LITTLE_ROOM:
        fix = "jupyter overlay prune  and  uv cache prune  make room"
        yield Finding("overlays", WRONG, f"{human(free)} are left on the disk of {root}", fix)
    yield _linking(settings, there)
    for lock in sorted(root.glob(f"{store.SCRATCH}-{store.WARM}-*/*/{store.USE_LOCK}")):
        if pids := ", ".join(map(str, locks.holders(lock))):
            yield Finding("overlays", OK, f"a fork server for warm starts runs (process {pids})")
    bases = read_register().bases
    for venv in known(root):
        if not any(venv.base == base.manifest.id for base in bases):
            fix = f"jupyter overlay venv {venv.path} --base TAG … --recreate"
            text = f"{venv.path} stands on {venv.base}, which is not registered here"
            yield Finding("overlays", NOTE if venv.unseen else WRONG, text, fix)
        elif not venv.ready and not venv.unseen:
            fix = f"jupyter overlay venv {venv.path} …  with its arguments makes it"
            yield Finding("overlays", NOTE, f"{venv.path} is being made, or was left half-made", fix)


def _linking(settings: Settings, there: Path) -> Finding:
    """Whether packages can be hard links to uv's cache: only within one file system."""
    cache = Path(find_uv(policy=settings.policy).run("cache", "dir").stdout.strip())
    kept = next(path for path in (cache, *cache.parents) if path.exists())
    if kept.stat().st_dev == there.stat().st_dev:
        return Finding(
            "overlays", OK, f"on the disk of uv's cache ({cache}): packages take no room of their own"
        )
    fix = "set TORCH_OVERLAY_ROOT or UV_CACHE_DIR so that both are on one"
    return Finding("overlays", NOTE, f"not on the disk of uv's cache ({cache}): packages are copied", fix)


def _network(register: Register, settings: Settings) -> Iterator[Finding]:
    for tag in sorted({base.manifest.tag for base in register.bases} or {"cpu"}):
        page = f"{index_url(settings.index_template, tag)}/torch/"
        try:
            fetch(page)
        except (OSError, ValueError, HTTPException) as error:
            fix = (
                "check the network and its proxy, or set TorchOverlay.index_template to a mirror; "
                "base create --installer pip  takes torch from where pip looks"
            )
            yield Finding("network", WRONG, f"PyTorch's index {page} cannot be reached: {error}", fix)
        else:
            yield Finding("network", OK, f"PyTorch's index answers for {tag}")
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder, "wanted.txt")
        wanted.write_text("ipykernel\n")
        uv = find_uv(policy=settings.policy)
        quick = uv._replace(env={**uv.env, "UV_HTTP_TIMEOUT": "10", "UV_HTTP_RETRIES": "0"})
        done = quick.run("pip", "compile", "-q", "--no-deps", "--refresh", wanted)
    if done.returncode == 0:
        yield Finding("network", OK, "uv reaches its package index")
    else:
        why = done.stderr.strip().splitlines()[-1:] or ["no answer"]
        fix = "check the network, its proxy, and uv's settings (UV_DEFAULT_INDEX)"
        yield Finding("network", WRONG, f"uv does not reach its package index: {why[0].strip()}", fix)


def _in_one_line(error: OverlayError) -> str:
    return error.what + (f": {error.why.splitlines()[0]}" if error.why else "")
