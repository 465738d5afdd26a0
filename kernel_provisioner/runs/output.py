"""The file that a run writes its notebook to, outputs and all."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import NotebookUnreadable, OverlayError
from ..notebook.file import replace
from ..notebook.text import is_text

_LONGEST_STEM = 200  # bytes, of the 255 that a name can have
_CHANGED = "was changed while the cells ran, as by saving it, so it is kept, and the outputs are in"
# A user's namespace answers EINVAL for owners that it does not know, and some disks know no owners at all.
_NOT_OURS = (errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
_ANOTHER = "name another file: --output FILE"


@dataclasses.dataclass(frozen=True)
class Written:
    """Where the notebook was written, and in one sentence why it is not the file that was asked for."""

    path: Path
    notice: str = ""


@dataclasses.dataclass(frozen=True)
class Output:
    """A file to write once a run has ended, as it was before; ``before`` is None where there was none."""

    path: Path
    before: os.stat_result | None

    @classmethod
    def at(cls, name: str) -> Output:
        """The output of this name, looked at before anything runs; raises OverlayError."""
        path = Path(name).absolute()
        try:
            path = Path(os.path.realpath(path))  # a link stays a link
            before = path.stat()
        except FileNotFoundError:
            before = None
        except (OSError, ValueError) as error:  # a name that is too long, or links in a circle
            raise OverlayError(f"{name!r} cannot be written", why=str(error), fix=_ANOTHER) from error
        kind = before.st_mode if before else stat.S_IFREG
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            why = "that is a device or a pipe"
            raise OverlayError(f"{path} cannot be written", why=why, fix=_ANOTHER)
        if is_text(path):
            raise OverlayError(
                f"{path.name} cannot hold outputs",
                why="a text notebook has the code and the text of a notebook only",
                fix=f"--output {path.stem}.ipynb",
            )
        if stat.S_ISDIR(kind) or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
            raise OverlayError(
                f"{path} cannot be written",
                why="that is a directory"
                if stat.S_ISDIR(kind)
                else f"{path.parent} is no directory that you can write",
                fix="name a file in a directory of yours: --output FILE",
            )
        return cls(path, before)

    def write(self, nb: Any, source: Path) -> Written:
        """Write ``nb``, whole or not at all; raises OverlayError.

        A file that another program has changed since ``at`` is left alone: it may be the notebook itself,
        saved meanwhile. A new one beside it is written then. Nobody may read it who can not read ``source``.
        """
        mode = self.before.st_mode if self.before else _mode_of(source)
        try:
            data = _bytes_of(nb)
            if self._put(data, mode):
                return Written(self.path)
            for path in _names_beside(self.path):
                with contextlib.suppress(FileExistsError):
                    _create(path, data, mode)
                    return Written(path, f"{self.path.name} {_CHANGED} {path}")
            raise AssertionError("the names have no end")
        except NotebookUnreadable as error:
            raise OverlayError(error.what, why=error.why, fix=_ANOTHER) from error
        except OSError as error:
            raise OverlayError(f"{self.path} cannot be written", why=str(error), fix=_ANOTHER) from error

    def _put(self, data: bytes, mode: int) -> bool:
        """Write the file that was asked for; False where it is not as it was."""
        try:
            if self.before is None:
                _create(self.path, data, mode)
            else:
                _replace(self.path, data, self.before)
        except FileExistsError:
            return False
        except NotebookUnreadable as error:
            if isinstance(error.__cause__, OSError):
                raise
            return False
        return True


def _bytes_of(nb: Any) -> bytes:
    import nbformat

    try:
        return f"{nbformat.writes(nb)}\n".encode()  # type: ignore[no-untyped-call]
    except UnicodeEncodeError:  # half of a pair, which a cell can print and JSON can only escape
        return f"{nbformat.writes(nb, ensure_ascii=True)}\n".encode()  # type: ignore[no-untyped-call]


def _names_beside(path: Path) -> Iterator[Path]:
    """Names for what cannot be written to ``path``: ``train.executed.ipynb``, ``train.executed-2.ipynb`` …"""
    stem = path.stem.encode(errors="surrogateescape")[:_LONGEST_STEM].decode(errors="ignore")
    for number in itertools.count(1):
        yield path.with_name(f"{stem}.executed{f'-{number}' if number > 1 else ''}{path.suffix}")


def _mode_of(notebook: Path) -> int:
    """Its permissions; the narrowest for one that is gone."""
    try:
        return notebook.stat().st_mode
    except OSError:
        return 0o600


def _create(path: Path, data: bytes, mode: int) -> None:
    """Write a new file, seen empty or whole; raises FileExistsError where there is one."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        path.chmod(mode & 0o777)
        own = path.stat()
        replace(path, data, own, like=own)
    except BaseException:
        with contextlib.suppress(OSError):
            if not path.stat().st_size:  # else somebody else's, as it is now
                path.unlink()
        raise


def _replace(path: Path, data: bytes, before: os.stat_result) -> None:
    """Write in place of a file, whose owner it stays if the system allows that."""
    try:
        replace(path, data, before, like=before)
    except NotebookUnreadable as error:
        if getattr(error.__cause__, "errno", None) not in _NOT_OURS:
            raise
        with tempfile.TemporaryFile(dir=path.parent) as ours:  # a colleague's file in a shared directory
            os.fchmod(ours.fileno(), before.st_mode & 0o777)
            like = os.fstat(ours.fileno())
        replace(path, data, before, like=like)
