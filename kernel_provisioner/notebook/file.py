"""A notebook's file: opened so that nothing blocks, and replaced whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO, NoReturn

from ..errors import NotebookUnreadable


def open_notebook(path: Path) -> BinaryIO:
    """The notebook file, open for reading bytes; raises NotebookUnreadable unless it is a regular file."""
    try:
        _check_regular(path, path.stat())  # opening some devices already does something
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except NotebookUnreadable:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        fix = "check the name and the directory"
        refuse(path, error.strerror or str(error), error, fix=fix)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        refuse(path, getattr(error, "strerror", None) or str(error), error)
    file = os.fdopen(handle, "rb")
    try:
        _check_regular(path, os.fstat(handle))
    except NotebookUnreadable:
        file.close()
        raise
    return file


def read_bytes(path: Path, limit: int, *, fix: str = "") -> tuple[bytes, os.stat_result]:
    """What the notebook file holds, at most ``limit`` bytes, and its status; raises NotebookUnreadable."""
    with open_notebook(path) as file:
        status = os.fstat(file.fileno())
        if status.st_size > limit:
            refuse(
                path, f"it is {status.st_size / 1e6:,.0f} MB, and the limit is {limit / 1e6:,.0f} MB", fix=fix
            )
        try:
            return file.read(limit), status
        except OSError as error:
            refuse(path, error.strerror or str(error), error)


def refuse(path: Path, why: str, error: BaseException | None = None, *, fix: str = "") -> NoReturn:
    """Raise NotebookUnreadable for the file at ``path``."""
    raise NotebookUnreadable(
        f"the notebook {path} cannot be read",
        why=why,
        fix=fix or "open it in Jupyter and save it; if that fails, restore it from a checkpoint or a copy",
    ) from error


def _check_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(status.st_mode), "a device")
        refuse(path, f"it is {kind}", fix="choose a notebook file")


def replace(path: Path, data: bytes, before: os.stat_result | None, *, like: os.stat_result) -> None:
    """Put ``data`` in place of the file that ``before`` describes, whole or not at all.

    ``before`` is None where there is no file yet. Owner and permissions are those of ``like``. Raises
    NotebookUnreadable, also where the file is not as it was.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:60]}.", suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                own = os.fstat(handle)
                if (own.st_uid, own.st_gid) != (like.st_uid, like.st_gid):
                    os.fchown(handle, like.st_uid, like.st_gid)
                os.fchmod(handle, like.st_mode & 0o7777)
                file.write(data)
                file.flush()
                os.fsync(handle)
            if _identity(before) != _identity(path.stat() if path.exists() else None):
                raise NotebookUnreadable(
                    f"{path} changed while it was edited; nothing was written",
                    why="another program wrote it meanwhile, as JupyterLab does when it saves",
                    fix="run the command again",
                )
            Path(name).replace(path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()
    except OSError as error:
        raise NotebookUnreadable(
            f"{path} cannot be written; it is unchanged",
            why=error.strerror or str(error),
            fix=f"as the owner of the notebook, make {path.parent} writable and run the command again",
        ) from error


def _identity(status: os.stat_result | None) -> tuple[int, int, int] | None:
    return status and (status.st_ino, status.st_size, status.st_mtime_ns)
