"""Make an environment for a project: an overlay at a place of the user's own, ready at once.

Running the command is the consent that a notebook's first cell is elsewhere, so sources may be
built, and what was installed is moved in right away. Environments cannot be moved: a new one is
first built beside, which shows that it can be and leaves all of it in uv's cache, and then takes
the old one's place by being built there again from that, in moments.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

from .. import locks
from ..base import registry
from ..base.registry import RegisteredBase
from ..builder.build import build
from ..builder.order import Order
from ..builder.progress import Progress
from ..errors import BuildFailed, InstallFailed, InvalidRequest, NoBaseFits, ResolutionFailed
from ..inkernel.gate import settle
from ..inkernel.packages import packages
from ..overlay import store
from ..overlay.environment import REMOVED, kernel_environment
from ..overlay.skeleton import remove_tree, write_skeleton
from ..request import Request
from ..settings import Settings
from ..uv_facts import uv_path
from . import notes
from .activate import activate_script, pip_config

_WAIT = 600.0  # seconds for another run of the command on the same directory
_PREVIOUS, _TRIAL = "previous", "new"


@dataclasses.dataclass(frozen=True)
class Made:
    """An environment that is there. ``existed``: nothing had to be done.

    ``installed`` and ``replaced`` (name → the base's version, its own) are what it adds to its
    base; ``lost`` names what the one before it held that somebody had installed by hand.
    """

    path: Path
    base: RegisteredBase
    existed: bool
    installed: Mapping[str, str]
    replaced: Mapping[str, tuple[str, str]]
    lost: tuple[str, ...] = ()


def make_venv(
    directory: Path,
    base: RegisteredBase,
    request: Request,
    *,
    settings: Settings,
    recreate: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    environ: Mapping[str, str] = os.environ,
) -> Made:
    """Make the environment ``directory`` (absolute) on ``base`` with the request's extras.

    Raises InvalidRequest where something else is there, NoBaseFits where the base's torch is not
    the one that is asked for, and OverlayError with cause and fix where it cannot be built; then
    what was there before is there still.
    """
    _refuse_torch(request, base)
    if any(char in str(directory) for char in ":\n"):
        raise InvalidRequest(
            f"{str(directory)!r} cannot hold an environment",
            why="PATH ends a directory's name at a colon",
            fix="choose a name without one",
        )
    root = store.Store(Path(settings.overlay_root))
    root.prepare()
    job = _Job(base, request, settings, root, tell, environ)
    with _alone(root.root, directory), _held(base), _told_for_a_project():
        return _make(directory, job, recreate=recreate)


@dataclasses.dataclass(frozen=True)
class _Job:
    base: RegisteredBase
    request: Request
    settings: Settings
    root: store.Store
    tell: Callable[[str], None]
    environ: Mapping[str, str]

    @property
    def order(self) -> dict[str, Any]:
        return store.order_of(self.request, self.base.manifest, self.settings)


def _make(directory: Path, job: _Job, *, recreate: bool) -> Made:
    _tidy(directory)
    before = notes.order_at(directory)
    if before is None:
        _refuse_foreign(directory)
    elif not _complete(directory):
        remove_tree(directory)  # an earlier run was cut short
        before = None
    lost: tuple[str, ...] = ()
    if before is not None:
        if before["order"] == job.order and not recreate:
            return _made(directory, job.base, existed=True)
        if not recreate:
            raise InvalidRequest(
                f"{directory} is there, and was made from something else",
                why=_differences(before["order"], job.order),
                fix="the same command with --recreate builds it anew;\n"
                f"or add to it: . {directory}/bin/activate; uv pip install …",
            )
        lost = tuple(package.name for package in packages(directory) if not package.declared)
        _build_beside(directory, job)
    notes.note(job.root.root, directory, job.base)
    try:
        with _out_of_the_way(directory):
            _build_at(directory, job)
    finally:
        if notes.order_at(directory) is None:
            notes.note_path(job.root.root, directory).unlink(missing_ok=True)
    return dataclasses.replace(_made(directory, job.base, existed=False), lost=lost)


def _build_beside(directory: Path, job: _Job) -> None:
    trial = _beside(directory, _TRIAL)
    try:
        _build_at(trial, job)
    finally:
        remove_tree(trial)


def _build_at(directory: Path, job: _Job) -> None:
    """Build at a place where nothing is, or an empty directory; published last of all."""
    base, generation = job.base, store.Generation(directory)
    directory.mkdir(parents=True, exist_ok=True)
    notes.write_order(  # first: a run that is killed must leave nothing that nobody knows
        directory,
        {
            "order": job.order,
            "base_directory": str(base.directory),
            "alternatives": [],
            "settings": job.settings.as_dict(),
            "notebook": "",
        },
    )
    write_skeleton(directory, base.manifest, base.skeleton_path, uv=uv_path())
    if job.request.empty:
        _write_scripts(directory, job)
        generation.publish_empty(base.manifest.id)
        return
    order = Order.read(generation, job.root.root)
    build(order, job.root, _Told(directory / store.PROGRESS, job.tell), cell_ran=True)
    settle(directory, generation.read(store.OVERLAY))
    _write_scripts(directory, job)


def _write_scripts(directory: Path, job: _Job) -> None:
    """What lets shells, pip and git know the environment; after the packages, which may bring such files."""
    # Of this shell's variables only those count that say where pip's configuration files are.
    files = {name: text for name, text in job.environ.items() if name in _PIP_FILES}
    manifest, receipts = job.base.manifest, job.base.receipts
    variables = kernel_environment(files, directory, manifest, receipts, job.settings.policy)
    for name in ("VIRTUAL_ENV", "PATH", *files):
        variables.pop(name)
    for path, text in (
        (directory / "bin" / "activate", activate_script(directory, variables, REMOVED)),
        (directory / "pip.conf", pip_config(variables)),
        (directory / ".gitignore", "*\n"),
    ):
        path.unlink(missing_ok=True)  # it may be a hard link into uv's cache
        path.write_text(text, encoding="utf-8", errors="surrogateescape")


_PIP_FILES = frozenset({"HOME", "PIP_CONFIG_FILE", "XDG_CONFIG_DIRS", "XDG_CONFIG_HOME"})


class _Told(Progress):
    """The builder's progress, told as it comes, too."""

    def __init__(self, path: Path, tell: Callable[[str], None]) -> None:
        super().__init__(path)
        self._tell = tell

    def say(self, phase: str, message: str, **fields: object) -> None:
        """See the base class."""
        super().say(phase, message, **fields)
        self._tell(message)


def _made(directory: Path, base: RegisteredBase, *, existed: bool) -> Made:
    content = store.Generation(directory).read(store.OVERLAY)
    return Made(
        directory,
        base,
        existed,
        {entry["name"]: entry["version"] for entry in content["installed"]},
        {name: (old, new) for name, (old, new) in content["replaced"].items()},
    )


@contextlib.contextmanager
def _out_of_the_way(directory: Path) -> Iterator[None]:
    """Let what is at ``directory`` be somewhere else, and be there again where the block fails."""
    previous = _beside(directory, _PREVIOUS)
    there = notes.order_at(directory) is not None
    if there:
        directory.rename(previous)
    try:
        yield
    except BaseException:
        remove_tree(directory)
        if there:
            previous.rename(directory)
        raise
    remove_tree(previous)


def _tidy(directory: Path) -> None:
    """Put right what a run that was killed left beside ``directory``."""
    remove_tree(_beside(directory, _TRIAL))
    previous = _beside(directory, _PREVIOUS)
    if notes.order_at(previous) is None:
        return
    if _complete(directory):
        remove_tree(previous)
    elif notes.order_at(directory) is not None or not _filled(directory):
        remove_tree(directory)
        previous.rename(directory)


def _complete(directory: Path) -> bool:
    """Whether an environment is published and has its scripts, of which either may come last."""
    ready = store.Generation(directory).state() is store.State.READY
    return ready and (directory / "bin" / "activate").exists()


def _beside(directory: Path, what: str) -> Path:
    return directory.with_name(f".{directory.name}.{what}")


def _filled(directory: Path) -> bool:
    try:
        return any(directory.iterdir())
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        return True


def _refuse_foreign(directory: Path) -> None:
    if _filled(directory) or directory.is_symlink():
        raise InvalidRequest(
            f"{directory} is there, and is no environment that this command made",
            fix="name a directory that does not exist, or remove that one yourself",
        )


def _refuse_torch(request: Request, base: RegisteredBase) -> None:
    manifest = base.manifest
    if request.torch and not SpecifierSet(request.torch).contains(manifest.torch, prereleases=True):
        raise NoBaseFits(
            f"torch{request.torch} is asked for, and {manifest.id} holds torch {manifest.torch}",
            why="an environment on a base runs on the base's torch",
            fix="name another base, listed by  jupyter overlay base list",
        )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    lines = [
        f"{key.replace('_', '-')}: {_shown(before.get(key))}, and now {_shown(now[key])}"
        for key in now
        if before.get(key) != now[key]
    ]
    return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key}={text}" for key, text in value.items())
    return str(value) or "none"


@contextlib.contextmanager
def _told_for_a_project() -> Iterator[None]:
    """Turn the fix of a failed build, which is told to notebooks otherwise, into this command's."""
    try:
        yield
    except ResolutionFailed as error:
        fix = "change the packages that the reason names, or choose another base with --base, listed by\n"
        raise ResolutionFailed(error.what, why=error.why, fix=f"{fix}jupyter overlay base list") from error
    except (BuildFailed, InstallFailed) as error:
        again = error.fix.replace("restart the kernel", "run the command again").replace(
            "restart", "try again"
        )
        raise type(error)(error.what, why=error.why, fix=again) from error


@contextlib.contextmanager
def _alone(root: Path, directory: Path) -> Iterator[None]:
    with locks.exclusive(notes.note_path(root, directory).with_suffix(".lock"), timeout=_WAIT):
        yield


@contextlib.contextmanager
def _held(base: RegisteredBase) -> Iterator[None]:
    """Hold the base, so that nobody removes it before the environment is noted."""
    lock = registry.hold(base)
    try:
        yield
    finally:
        if lock:
            lock.release()
