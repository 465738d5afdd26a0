"""From a snapshot to a registered base, and back: publish, withdraw, read-only trees."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ..errors import InstallFailed, InvalidRequest
from ..inkernel.shared.disk import usage
from ..system import locks
from ..system.files import replace_text
from . import registry
from .kernels import register_kernel, unregister_kernel
from .registry import RegisteredBase
from .snapshot import Snapshot

LOCK_WAIT = 3600.0  # seconds: another process may be making the same base


@dataclasses.dataclass(frozen=True)
class Created:
    """The outcome of ``create`` or ``adopt``: the base, its kernel's directory if any, and what was used."""

    base: RegisteredBase
    kernel: Path | None
    source: str
    existed: bool


def publish(
    picture: Snapshot, directory: Path, data_dir: Path, source: str, *, existed: bool, default: bool = True
) -> Created:
    """Register the base of ``picture`` in ``directory``, its manifest last, and its kernel.

    With ``default`` the tag means this base from now on. One that runs no kernels gets neither.
    """
    used = usage(picture.manifest.site_dirs)
    manifest = picture.manifest._replace(
        bytes=used.own_bytes + used.linked_bytes, files=used.own_files + used.linked_files
    )
    directory.chmod(0o755)  # whatever the umask: who can see the data directory may use its bases
    skeleton = {"files": picture.skeleton, "links": picture.links}
    replace_text(directory / registry.SKELETON, json.dumps(skeleton))
    _replace_receipts(directory / registry.RECEIPTS, picture.receipts)
    replace_text(directory / registry.CONSTRAINTS, "\n".join(manifest.constraints) + "\n")
    base = RegisteredBase(manifest, directory)
    base.lock_path.touch()
    with contextlib.suppress(PermissionError):  # another admin's, who has done this
        base.lock_path.chmod(0o644)
    with _registering(directory.parent):
        replace_text(directory / registry.MANIFEST, json.dumps(manifest.as_dict(), indent=1) + "\n")
        if not manifest.runs_kernels:
            return Created(base, None, source, existed)
        kernel = register_kernel(manifest.tag, data_dir)
        if default:  # last: an alias must not be left of a base whose kernel could not be registered
            registry.set_alias(directory.parent, manifest.tag, manifest.id)
        return Created(base, kernel, source, existed)


def withdraw(base: RegisteredBase, data_dir: Path) -> list[str]:
    """Take a base out of the register, with its aliases, and its kernel if it was the tag's last base.

    Another base of the tag becomes what the tag means. Returns what was done, a line each.
    """
    manifest = base.manifest
    done = [f"base {manifest.id}"]
    with _registering(base.directory.parent):
        (base.directory / registry.MANIFEST).unlink()  # from here on it is no base any more
        tags = registry.remove_alias(base.directory.parent, manifest.id)
        done += [f"alias {tag}" for tag in tags]
        left = registry.read_register([base.directory.parent])
        heirs = [
            other.manifest
            for other in left.bases
            if other.manifest.tag == manifest.tag and other.manifest.runs_kernels
        ]
        if heirs and manifest.tag in tags:
            heir = max(heirs, key=lambda other: other.created)
            registry.set_alias(base.directory.parent, manifest.tag, heir.id)
            done.append(f"{manifest.tag} now means {heir.id}")
        if not heirs and manifest.runs_kernels:
            unregister_kernel(manifest.tag, data_dir)
            done.append(f"kernel torch-{manifest.tag}")
    remove_tree(base.directory)
    return done


def _registering(root: Path) -> locks.Lock:
    """The lock under which a tag's alias and kernel follow its bases: one comes while another goes."""
    return locks.exclusive(root / "register.lock", timeout=LOCK_WAIT)


def remove_tree(tree: Path) -> None:
    """Remove a tree, read-only or not; one that is gone is no error."""
    if tree.exists():
        make_writable(tree)
        shutil.rmtree(tree)


def make_writable(tree: Path) -> None:
    """Undo ``make_read_only``, so that the tree can be removed."""
    _chmod(tree, lambda mode: mode | stat.S_IWUSR)


def make_read_only(tree: Path) -> None:
    """Take every write permission from a tree, and give others what its owner can read."""
    _chmod(tree, lambda mode: (mode | (mode & 0o500) >> 3 | (mode & 0o500) >> 6) & ~0o222)


def refuse_line_breaks(*places: str | Path) -> None:
    """Raise InvalidRequest for a path that no ``.pth`` file can hold, as each overlay's has to."""
    for place in places:
        if len(str(place).splitlines()) > 1:
            raise InvalidRequest(
                f"no base can lie in {str(place)!r}",
                why="the path holds a line break, and Python's .pth files hold one path in each line",
                fix="choose another place, with --user, --sys-prefix or --prefix, or move the environment",
            )


@contextlib.contextmanager
def told_disk_errors(data_dir: Path) -> Iterator[None]:
    """Turn what a disk does while a base is written into a message."""
    try:
        yield
    except OSError as error:
        if isinstance(error, TimeoutError):
            raise
        raise InstallFailed(
            f"bases cannot be kept in {data_dir}: {error.strerror or error}",
            why=str(error),
            fix=(
                "free space there and make it writable, or choose another place with --user,"
                " --sys-prefix or --prefix"
            ),
        ) from error


def now() -> str:
    """This moment in UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def _replace_receipts(directory: Path, wheels: Mapping[str, bytes]) -> None:
    directory.mkdir(exist_ok=True)
    directory.chmod(0o755)
    for name, content in wheels.items():
        (directory / name).write_bytes(content)
        (directory / name).chmod(0o644)
    for left in directory.iterdir():
        if left.name not in wheels:
            left.unlink()


def _chmod(tree: Path, change: Callable[[int], int]) -> None:
    for folder, _, names in os.walk(tree):
        for path in (Path(folder), *(Path(folder, name) for name in names)):
            info = path.lstat()
            if not stat.S_ISLNK(info.st_mode):
                path.chmod(change(stat.S_IMODE(info.st_mode)))
