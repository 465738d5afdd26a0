"""A machine with several people: real users of the system, made for a test and removed after it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pwd
import secrets
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import psutil
import uv

from .environ import clean_environment
from .index import LocalIndex
from .parts import need
from .waiting import patient, wait_for

REPOSITORY = Path(__file__).parents[2]
PYTHONS = ("/usr/bin/python3", "/usr/local/bin/python3")
_PATH = "/usr/local/bin:/usr/bin:/bin"
ENDS_WITHIN = patient(120.0)
"""Seconds for a command of a user's."""


@dataclasses.dataclass(frozen=True)
class User:
    """One person: a user of the system with a group of the same name, and a private home."""

    name: str
    uid: int
    gid: int
    home: Path

    def environment(self, index: LocalIndex, **more: str) -> dict[str, str]:
        """A clean environment, all of whose directories lie in this user's home."""
        env = clean_environment(self.home, index=index)
        self.give(self.home)
        return {**env, "PATH": _PATH, "USER": self.name, "LOGNAME": self.name, **more}

    def give(self, *trees: Path) -> None:
        """Make all that root has put at these places this user's own; their builders may be at work there."""
        for tree in trees:
            below = (Path(folder, name) for folder, *names in os.walk(tree) for name in chain(*names))
            for path in (tree, *below):
                with contextlib.suppress(FileNotFoundError):
                    if path.lstat().st_uid == 0:
                        os.lchown(path, self.uid, self.gid)

    def run(self, *words: str | Path, env: dict[str, str] | None = None, umask: int = 0o022,
            check: bool = True) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """A command of this user's, run to its end; ``check`` fails with what it said."""
        done = subprocess.run(
            words, user=self.uid, group=self.gid, extra_groups=[], umask=umask, cwd="/", text=True,
            env={"PATH": _PATH, "HOME": str(self.home)} if env is None else env,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=ENDS_WITHIN, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done

    def shell(self, script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A shell script of this user's."""
        return self.run("/bin/sh", "-c", script, check=check)

    def wrapper(self, program: Path, *, umask: int = 0o022) -> str:
        """A program to be started by root that becomes ``program``, run by this user."""
        script = self.home.with_name(f"{self.name}-{program.name}-{umask:03o}")
        script.write_text(
            f"#!/bin/sh\numask {umask:03o}\n"
            f"exec setpriv --reuid={self.uid} --regid={self.gid} --clear-groups -- "
            f'{shlex.quote(str(program))} "$@"\n'
        )
        script.chmod(0o755)
        return str(script)


@contextlib.contextmanager
def public_place() -> Iterator[Path]:
    """A directory that everybody can look into, and only root can change; gone at the end."""
    place = Path(tempfile.mkdtemp(prefix="several-users-", dir="/tmp"))
    place.chmod(0o755)
    try:
        yield place
    finally:
        shutil.rmtree(place)


@contextlib.contextmanager
def users(place: Path, *names: str) -> Iterator[tuple[User, ...]]:
    """New users whose names begin so, with their homes in ``place``; removed with all they still run."""
    need(os.getuid() == 0, "root, who alone can make users: run the tests as root in a container")
    need(
        shutil.which("useradd") and shutil.which("setpriv"),
        "useradd and setpriv (Debian: passwd, util-linux)",
    )
    with contextlib.ExitStack() as stack:
        yield tuple(stack.enter_context(_user(place, name)) for name in names)


@contextlib.contextmanager
def _user(place: Path, beginning: str) -> Iterator[User]:
    name = f"{beginning}-{secrets.token_hex(3)}"
    home = place / name
    _locked_command("useradd", "--no-create-home", "--user-group", "--home-dir", str(home), name)
    person = pwd.getpwnam(name)
    try:
        home.mkdir()
        home.chmod(0o700)
        os.chown(home, person.pw_uid, person.pw_gid)
        yield User(name, person.pw_uid, person.pw_gid, home)
    finally:
        _end_all_of(person.pw_uid)
        _locked_command("userdel", "--force", name)


def system_python(user: User) -> Path:
    """A Python of the system that ``user`` can run, and that can make environments."""
    found = [
        path
        for path in PYTHONS
        if user.run("/bin/sh", "-c", f"{path} -c 'import venv'", check=False).returncode == 0
    ]
    need(
        found,
        "a Python that every user can run and that can make environments (Debian: python3, python3-venv)",
    )
    return Path(found[0])


def install(prefix: Path, python: Path, *more: str) -> None:
    """Make ``prefix`` an environment with this program in it, as an admin does who shares it."""
    env = clean_environment(prefix.with_name(f"{prefix.name}-admin"), UV_LINK_MODE="copy")
    tool, new = uv.find_uv_bin(), str(prefix / "bin/python")
    for words in (
        [tool, "venv", "-q", "--python", str(python), str(prefix)],
        [tool, "pip", "install", "-q", "--python", new, str(REPOSITORY), *more],
        ["chmod", "-R", "a+rX", str(prefix)],  # what lay in root's own cache may be for root alone
    ):
        done = subprocess.run(
            words, env=env, cwd="/", umask=0o022, text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr


def readable_by(user: User, tree: Path) -> list[Path]:
    """What ``user`` can read or list of a tree, the tree itself included."""
    return [Path(line) for line in _tested(user, tree, "-r")]


def writable_by(user: User, tree: Path) -> list[Path]:
    """What ``user`` can write to of a tree; links count as what they lead to, where that is in it."""
    return [Path(line) for line in _tested(user, tree, "-w")]


def _tested(user: User, tree: Path, test: str) -> Sequence[str]:
    paths = [path for path in (tree, *tree.rglob("*")) if not path.is_symlink()]
    listed = "\0".join(map(str, paths)) + "\0"
    script = f'for path; do [ {test} "$path" ] && echo "$path"; done; exit 0'
    done = subprocess.run(
        ["xargs", "-0", "/bin/sh", "-c", script, "sh"], user=user.uid, group=user.gid, extra_groups=[],
        cwd="/", input=listed, text=True, capture_output=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def _end_all_of(uid: int) -> None:
    """Kill what the user runs; nobody but this test made that user."""

    def running() -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.uids().real == uid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    for process in running():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    wait_for(lambda: not running(), "the user's processes to be gone")


def _locked_command(*words: str) -> None:
    """Run a command that changes the user database, which one at a time may."""
    said: list[str] = []

    def done() -> bool:
        ran = subprocess.run(words, capture_output=True, text=True, check=False)
        said[:] = [ran.stderr]
        return ran.returncode == 0

    try:
        wait_for(done, " ".join(words))
    except AssertionError as error:
        raise AssertionError(f"{error}: {said[0]}") from None


def _output(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
