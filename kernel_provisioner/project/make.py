"""Make an environment for a project: an overlay at a place of the user's own, ready at once.

Running the command is the consent that a notebook's first cell is elsewhere, so sources may be
built, and what was installed is moved in right away. Environments cannot be moved: a new one is
first built beside, which shows that it can be and leaves all of it in uv's cache, and then takes
the old one's place by being built there again from that, in moments.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..base import registry
from ..base.registry import RegisteredBase
from ..builder.build import build
from ..builder.progress import Progress
from ..builder.spec import BuildSpec
from ..builder.supply import compile_new
from ..errors import BuildFailed, InstallFailed, InvalidRequest, ResolutionFailed
from ..inkernel.shared import layout
from ..inkernel.shared.packages import packages
from ..inkernel.shared.settle import settle
from ..model.request import Request
from ..overlay import store
from ..overlay.guards import Terms
from ..overlay.skeleton import has_guards, remove_tree, write_interpreter, write_receipts
from ..settings import Settings
from ..system import locks
from ..uv.discovery import uv_path
from ..uv.projects import install_files
from . import notes
from .contents import discard, refuse_users_files
from .refusals import is_filled, refuse_broken, refuse_changed, refuse_foreign, refuse_moved, refuse_torch
from .scripts import write_scripts

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
) -> Made:
    """Make the environment ``directory`` (absolute) on ``base`` with the request's extras.

    Raises InvalidRequest where something else is there, NoBaseFits where the base's torch is not
    the one that is asked for, and OverlayError with cause and fix where it cannot be built; then
    what was there before is there still.
    """
    refuse_torch(request, base)
    if any(char in str(directory) for char in ":\n"):
        raise InvalidRequest(
            f"{str(directory)!r} cannot hold an environment",
            why="PATH ends a directory's name at a colon",
            fix="choose a name without one",
        )
    root = store.Store(Path(settings.overlay_root))
    root.prepare()
    job = _Job(base, request, settings, root, tell)
    directory = _followed(directory)
    with _alone(root.root, directory), _held(base), _told_for_a_project():
        return _make(directory, job, recreate=recreate)


def with_files(made: Made, files: Sequence[Path]) -> Made:
    """Let the environment's uv install what requirements files list; raises InstallFailed."""
    install_files(made.path, files)
    installed = {package.name: package.version for package in packages(made.path)}
    lost = tuple(name for name in made.lost if name not in installed)
    return dataclasses.replace(made, installed=installed, lost=lost)


@dataclasses.dataclass(frozen=True)
class _Job:
    base: RegisteredBase
    request: Request
    settings: Settings
    root: store.Store
    tell: Callable[[str], None]

    @property
    def spec(self) -> dict[str, Any]:
        return store.spec_of(self.request, self.base.manifest, self.settings)


def _followed(directory: Path) -> Path:
    """Where the environment of ours is that ``directory`` is a link to; itself where it is no such link.

    What is built again takes the place of the environment, and the link stays.
    """
    if directory.is_symlink():
        target = directory.resolve()
        if notes.spec_at(target) is not None or _beside(target, _PREVIOUS):
            return target
    return directory


def _make(directory: Path, job: _Job, *, recreate: bool) -> Made:
    _tidy(directory)
    before = notes.spec_at(directory)
    if before is None:
        refuse_foreign(directory)
    elif not _published(directory):
        discard(directory)  # an earlier run was cut short
        before = None
    lost: tuple[str, ...] = ()
    if before is not None:
        if not recreate:
            refuse_moved(directory, before)
            refuse_changed(directory, before["order"], job.spec)
            refuse_broken(directory, job.base)
            _complete(directory, Path(before.get("place", directory)), job)
            return _made(directory, job.base, existed=True)
        refuse_users_files(directory)
        lost = tuple(package.name for package in packages(directory) if not package.declared)
        _build_beside(directory, job)
    notes.note(job.root.root, directory, job.base)
    try:
        with _out_of_the_way(directory):
            _build_at(directory, job)
    finally:
        if notes.spec_at(directory) is None:
            notes.note_path(job.root.root, directory).unlink(missing_ok=True)
    return dataclasses.replace(_made(directory, job.base, existed=False), lost=lost)


def _build_beside(directory: Path, job: _Job) -> None:
    trial = _new_beside(directory, _TRIAL)
    try:
        _build_at(trial, job)
    finally:
        remove_tree(trial)


def _build_at(directory: Path, job: _Job) -> None:
    """Build at a place where nothing is, or an empty directory; published last of all."""
    base, generation = job.base, store.Generation(directory)
    directory.mkdir(parents=True, exist_ok=True)
    notes.write_spec(  # first: a run that is killed must leave nothing that nobody knows
        directory,
        {
            "order": job.spec,
            "base_directory": str(base.directory),
            "alternatives": [],
            "settings": job.settings.as_dict(),
            "notebook": "",
            "project": True,
            "place": str(directory),
        },
    )
    write_interpreter(directory, base)
    _lay_out(directory, job)
    if job.request.empty:
        generation.publish_empty(base.manifest.id)
    else:
        spec = BuildSpec.read(generation, job.root.root, job.settings.index_template)
        build(spec, _Told(directory / layout.PROGRESS, job.tell), cell_ran=True)
        settle(directory, generation.read(layout.OVERLAY))
        compile_new(spec)
    write_scripts(directory, job.base, job.settings)


def _complete(directory: Path, place: Path, job: _Job) -> None:
    """Do what a run that was killed, or an earlier version, has left undone in a published environment.

    ``place`` is the path that it was made at, to which a link may lead.
    """
    generation = store.Generation(directory)
    if not generation.entered:
        settle(directory, generation.read(layout.OVERLAY))
    if not has_guards(directory):  # made when activate set variables
        _lay_out(directory, job)
    write_scripts(place, job.base, job.settings)


def _lay_out(directory: Path, job: _Job) -> None:
    terms = Terms(job.settings.policy, job.settings.index_template, kernel=False)
    write_receipts(directory, job.base, terms, uv=uv_path())


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
    content = store.Generation(directory).read(layout.OVERLAY)
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
    previous = None
    if notes.spec_at(directory) is not None:
        previous = _new_beside(directory, _PREVIOUS)
        try:
            directory.rename(previous)
        except OSError:
            previous.rmdir()
            raise
    try:
        yield
    except BaseException:
        remove_tree(directory)
        if previous:
            previous.rename(directory)
        raise
    if previous:
        discard(previous)


def _tidy(directory: Path) -> None:
    """Put right what a run that was killed left beside ``directory``."""
    for trial in _beside(directory, _TRIAL):
        discard(trial)
    for previous in _beside(directory, _PREVIOUS):
        if _published(directory):
            discard(previous)
        elif notes.spec_at(directory) is not None or not is_filled(directory):
            discard(directory)
            previous.rename(directory)


def _published(directory: Path) -> bool:
    return store.Generation(directory).state() is store.State.READY


def _new_beside(directory: Path, what: str) -> Path:
    """A new directory, so that nobody else's is taken for ours."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f".{directory.name}.{what}-", dir=directory.parent))


def _beside(directory: Path, what: str) -> list[Path]:
    """What ``_new_beside`` has made and a killed run left: environments of this command alone."""
    found = directory.parent.glob(f".{glob.escape(directory.name)}.{what}-????????")
    return [path for path in found if notes.spec_at(path) is not None]


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
