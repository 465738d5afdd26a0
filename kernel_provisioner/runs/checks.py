"""What ``jupyter overlay doctor`` looks at: each check gives findings, and none can spoil the others."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_path
from traitlets import TraitError

from ..base.current import broken, is_current
from ..base.registry import Register, RegisteredBase, read_register
from ..base.trust import unsafe
from ..collector.shared import unneeded
from ..collector.wheels import Wheel, shared_places, wheels, wheels_in
from ..errors import OverlayError, clean
from ..hardware import Hardware, detect
from ..index.pages import fetch
from ..inkernel.shared import flock, layout
from ..inkernel.shared.disk import human
from ..inkernel.shared.links import FACTS
from ..launch.choose import check_preference
from ..model.accelerators import family_of, index_url
from ..model.request import Request
from ..overlay import store
from ..policy.traits import refuse_unknown
from ..project.standing import faults
from ..selection import creatable, select
from ..settings import CONFIG_NAME, Settings, read_files
from ..store.entry import are_there, danger, intact
from ..system import locks, permissions
from ..uv.client import find_uv
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
        ("overlays", lambda: _overlays(known, Path.cwd())),
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
        yield Finding(area, WRONG, f"this check failed: {type(error).__name__}: {error}")


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
        yield Finding("hardware", OK, "no GPU that torch can use")
    for note in machine.notes:
        yield Finding("hardware", NOTE, note)


def _bases(register: Register, machine: Hardware, settings: Settings) -> Iterator[Finding]:
    for base in register.bases:
        yield _base(base, means=register.aliases.get(base.manifest.tag) == base.manifest.id)
    for error in register.damaged:
        yield Finding("bases", WRONG, _in_one_line(error), error.fix)
    for left in register.leftovers:
        if os.access(left, os.W_OK):  # whoever else made it sees it
            yield _leftover(left)
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
    yield Finding("bases", OK, f"a notebook with accelerator auto runs on {chosen.base.id} ({chosen.reason})")
    for notice in chosen.notices:
        yield Finding("bases", NOTE, notice)
    best = creatable("auto", Request(), machine)
    if best and family_of(best) != "cpu" and family_of(chosen.base.tag) == "cpu" and not settings.preference:
        yield Finding(
            "bases", NOTE, "there is a GPU, but no base for it", f"jupyter overlay base create {best}"
        )


def _base(base: RegisteredBase, *, means: bool) -> Finding:
    manifest = base.manifest
    if error := unsafe(base) or broken(base):
        return Finding("bases", WRONG, error.what, error.fix)
    if not is_current(base):
        text = (
            f"{manifest.id}: {manifest.prefix} has changed since it was adopted; the"
            " next start reads it again"
        )
        return Finding("bases", NOTE, text, f"jupyter overlay base adopt {manifest.prefix}  reads it now")
    text = f"{manifest.id}: torch {manifest.torch}, Python {manifest.python}, {human(manifest.bytes)}"
    return Finding("bases", OK, text + (f"; what {manifest.tag} means" if means else ""))


def _leftover(directory: Path) -> Finding:
    """A directory of a base that is not registered: it is being made or removed, or that was killed."""
    if locks.is_held(directory.parent / f"{directory.name}.new.lock"):
        return Finding("bases", OK, f"{directory.name} is being created or removed")
    text = f"{directory} is what a creation or removal has left that was ended, and takes up space"
    return Finding("bases", WRONG, text, f"jupyter overlay base remove {directory.name}")


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
                "kernels",
                WRONG,
                f"{kernel.name} names {python}, which does not exist ({kernel.directory})",
                fix,
            )
        elif kernel.tag and kernel.tag not in tags:
            fix = f"jupyter overlay base create {kernel.tag}  or  jupyter kernelspec remove {kernel.name}"
            yield Finding("kernels", WRONG, f"{kernel.name} has no {kernel.tag} base to run on", fix)
        else:
            yield Finding("kernels", OK, f"{kernel.name} ({kernel.directory})")
    if not any(not kernel.tag for kernel in kernels.values()):
        fix = "install kernel-provisioner into the environment that runs Jupyter"
        yield Finding("kernels", WRONG, "the kernel torch (shared) is missing", fix)
    for tag in sorted(tags - {kernel.tag for kernel in kernels.values()}):
        fix = f"jupyter overlay base create {tag}  registers it (the base is not created again)"
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
            yield from _widgets(other, [other.parent / "share/jupyter/labextensions"])
            return
        if found or (own / command).exists():
            yield Finding("jupyter", OK, f"{command} is that of this environment")
            yield from _widgets(own, [Path(place) for place in jupyter_path("labextensions")])
            return
    yield Finding("jupyter", NOTE, "no JupyterLab, Notebook or server is in this environment or on the PATH")


def _widgets(bin_dir: Path, places: Sequence[Path]) -> Iterator[Finding]:
    """Whether JupyterLab or Notebook 7, which looks for extensions in ``places``, can draw widgets."""
    if not any((place / "@jupyter-widgets/jupyterlab-manager").is_dir() for place in places):
        text = f"widgets and the bars of tqdm are shown as text: {bin_dir.parent} lacks jupyterlab_widgets"
        yield Finding("jupyter", NOTE, text, f"{bin_dir}/python -m pip install jupyterlab_widgets")


def _uv(settings: Settings) -> Iterator[Finding]:
    uv = find_uv(policy=settings.policy)
    offline = ", offline" if settings.policy.offline else ""
    yield Finding("uv", OK, f"uv {'.'.join(map(str, uv.version))} ({uv.path}){offline}")


def _policy(settings: Settings) -> Iterator[Finding]:
    """Every rule in force and the file that sets it; all of them hold together."""
    for line in settings.policy.lines() or ["no policy is set"]:
        yield Finding("policy", OK, line)


def _servers() -> Iterator[Finding]:
    """What the files say of how servers start kernels; a mistake there stops none, so it is told here."""
    from importlib.metadata import entry_points

    section = read_files().section("TorchOverlayProvisioner")
    try:
        for entry in entry_points(group="jupyter_client.kernel_provisioners", name=PROVISIONER):
            provisioner: Any = entry.load()
            refuse_unknown(section, provisioner)
            made = provisioner()
            for name, value in section.items():
                made.traits()[name].validate(made, value)
        for name, value in section.items():
            yield Finding("servers", OK, f"{name} = {value}")
    except TraitError as error:
        fix = f"correct it in {CONFIG_NAME}.py or .json; jupyter --paths  lists these directories"
        yield Finding("servers", WRONG, str(error), fix)


def _overlays(settings: Settings, here: Path) -> Iterator[Finding]:
    root = Path(settings.overlay_root)
    there = next(path for path in (root, *root.parents) if path.exists())
    info = there.stat()
    elsewhere = "set TORCH_OVERLAY_ROOT to a directory that you and root alone can change"
    danger = None
    with contextlib.suppress(OSError):  # nothing can be there: told below
        danger = permissions.danger_at(root)
    if danger:
        text = f"other users can change {danger.path}: {danger.how}"
        yield Finding("overlays", WRONG, text, danger.remedy or elsewhere)
    elif there == root and info.st_uid != os.geteuid():
        yield Finding("overlays", WRONG, f"{root} belongs to uid {info.st_uid}", elsewhere)
    elif not os.access(there, os.W_OK | os.X_OK):
        fix = "make it writable, or set TORCH_OVERLAY_ROOT to your own directory"
        yield Finding("overlays", WRONG, f"{there} cannot be written to", fix)
    else:
        yield Finding("overlays", OK, f"in {root}" + ("" if there == root else ", not made yet"))
    if there == root and stat.S_IMODE(info.st_mode) & 0o077:
        yield Finding("overlays", NOTE, f"{root} is readable by other users; the next start makes it private")
    if line := store.Store(there).noexec():
        yield Finding("overlays", WRONG, line, elsewhere)
    free = shutil.disk_usage(there).free
    if free < _LITTLE_ROOM:
        fix = "jupyter overlay prune  and  uv cache prune  free space"
        yield Finding("overlays", WRONG, f"{human(free)} are free on the disk of {root}", fix)
    yield from _store(root)
    for path in settings.shared_stores:
        yield from _shared_store(Path(path))
    for lock in sorted(root.glob(f"{store.SCRATCH}-{store.WARM}-*/*/{layout.USE_LOCK}")):
        if pids := ", ".join(map(str, flock.holders(lock))):
            yield Finding("overlays", OK, f"a fork server for warm starts runs (process {pids})")
    for fault in faults(root, (here, here / ".venv")):
        yield Finding("overlays", NOTE if fault.minor else WRONG, fault.text, fault.fix)


def _store(root: Path) -> Iterator[Finding]:
    """The wheel store: what it takes, and what of it is not what it was."""
    if there := [wheel for wheel in wheels(root) if not wheel.shared]:
        yield Finding("overlays", OK, _counted(there, "the wheel store"))
    yield from _links(root)
    for wheel in there:
        if not intact(wheel.path):
            fix = f"rm -f {wheel.path / FACTS}  then restart the kernels that use it: it is unpacked again"
            yield Finding(
                "overlays", WRONG, f"{wheel.name} in the wheel store was changed: {wheel.path}", fix
            )


def _links(root: Path) -> Iterator[Finding]:
    """What of the wheel store is links to shared ones, and which of these serve no more."""
    linked = shared_places(str(wheel.path) for wheel in wheels(root) if wheel.shared)
    for place, paths in linked.items():
        gone = [path for path in paths if not are_there([path])]
        if len(gone) < len(paths):
            yield Finding("overlays", OK, f"{_packages(len(paths) - len(gone))} linked from {place}")
        if gone:
            text = f"{_packages(len(gone))} linked from {place} cannot be used there any more"
            fix = "restart the kernels that use them: each is replaced by a package of your own"
            yield Finding("overlays", NOTE, text, fix)


def _shared_store(store: Path) -> Iterator[Finding]:
    """A shared store; whoever can repair it has all of its files read."""
    if not store.is_dir():
        fix = f"jupyter overlay prebuild --store {store} NOTEBOOK…  fills it; or leave it out of the settings"
        yield Finding("overlays", WRONG, f"there is no shared wheel store {store}", fix)
        return
    if found := danger(store):
        text = f"the shared wheel store {store} is not used: others can change {found.path}: {found.how}"
        yield Finding("overlays", WRONG, text, found.remedy or "let nobody but root be able to change it")
        return
    there = list(wheels_in(store))
    yield Finding("overlays", OK, _counted(there, f"the shared wheel store {store}"))
    if os.access(store, os.W_OK) and (spare := unneeded(store)):
        text = f"{_packages(len(spare))} in {store} that nothing needs it was filled with"
        yield Finding("overlays", NOTE, text, f"jupyter overlay prune --store {store}")
    for wheel in there if os.access(store, os.W_OK) else ():
        if not intact(wheel.path):
            text = f"{wheel.name} in the shared wheel store was changed: {wheel.path}"
            again = f"jupyter overlay prebuild --store {store} …  with the same arguments fills it again"
            yield Finding("overlays", WRONG, text, f"rm -f {wheel.path / FACTS}  then {again}")


def _counted(there: Sequence[Wheel], place: str) -> str:
    return f"{_packages(len(there))} in {place}, {human(sum(wheel.bytes for wheel in there))}"


def _packages(count: int) -> str:
    return f"{count} package{'' if count == 1 else 's'}"


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
            yield Finding("network", WRONG, clean(f"PyTorch's index {page} cannot be reached: {error}"), fix)
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
        yield Finding("network", WRONG, clean(f"uv does not reach its package index: {why[0].strip()}"), fix)


def _in_one_line(error: OverlayError) -> str:
    return error.what + (f": {error.why.splitlines()[0]}" if error.why else "")
