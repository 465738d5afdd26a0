"""The password of a package index is seen by nobody, at no moment of anything that is built.

Everybody can read the command line of every process, so an onlooker reads all of them, and every file that
is written, whenever the index is asked and in between.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_provisioner.errors import without_credentials
from tests.support.bases import REPOSITORY, Bench
from tests.support.launches import launches
from tests.support.notebooks import write_notebook
from tests.support.onlooker import Onlooker, onlooker
from tests.support.wheels import build_sdist

LOOPBACK = re.compile(rb"127\.0\.0\.1:\d+/[0-9a-f]{24}")
"""The address of our own index, with its secret."""


class Private:
    """A bench whose index wants a password that no other test knows, said where people say it."""

    def __init__(self, bench: Bench, name: str) -> None:
        self.bench = bench
        self.password = f"s3cret-{secrets.token_hex(8)}"
        login = f"://carol:{self.password}@"
        self.root = bench.home / f"overlays-{name}"
        self.data_dir = bench.home / f"data-{name}"
        self.env = {
            **bench.env,
            "UV_DEFAULT_INDEX": bench.index.default.replace("://", login),
            "TORCH_OVERLAY_INDEX": bench.index.template.replace("://", login),
            "PIP_INDEX_URL": bench.index.default.replace("://", login),
            "PIP_EXTRA_INDEX_URL": bench.index.template.format(tag="cpu").replace("://", login),
            "TORCH_OVERLAY_ROOT": str(self.root),
            "UV_CACHE_DIR": str(bench.home / f"cache-{name}"),
        }
        self.caches = (Path(self.env["UV_CACHE_DIR"]), Path(self.env["PIP_CACHE_DIR"]))

    def command(self, *words: str) -> str:
        """What ``jupyter overlay`` prints with these words. Fails where it fails, or tells the password."""
        done = subprocess.run(
            [sys.executable, "-m", "kernel_provisioner.cli.app", *words],
            env=self.env, cwd=REPOSITORY, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert self.password not in done.stdout + done.stderr
        return done.stdout

    @contextlib.contextmanager
    def watched(self) -> Iterator[Onlooker]:
        """Let everybody look, at every process and at all that is written; uv's and pip's caches last."""
        self.bench.index.require("carol", self.password)
        with onlooker(self.bench.index, [self.password], self.root, self.data_dir) as watch:
            yield watch
        assert watch.seen == []
        for cache in self.caches:
            assert holding(cache, self.password) == []


def holding(tree: Path, secret: str) -> list[Path]:
    """The files of a tree that hold a secret."""
    return [path for path in tree.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


@pytest.fixture
def private(bench: Bench, request: pytest.FixtureRequest) -> Private:
    """A base, and an index with a private package, which from now on wants a password."""
    bench.base()
    bench.publish("private-extra", requires=["torchvision"])
    bench.publish("private-later")
    return Private(bench, re.sub(r"\W+", "-", request.node.name))


def test_a_launch_shows_no_password_and_neither_does_adding_later(private: Private) -> None:
    """The builder that a launch starts, and the one that a cell starts with what its kernel has."""
    notebook = write_notebook(private.bench.home / "sight.ipynb", torch_env={"extras": ["private-extra"]})
    with private.watched() as watch:
        (told,) = launches([notebook], private.env, pinned="cpu")
        assert told["state"] == "ready", told["build"]
        builder = [*told["builder"], told["overlay"], "--add", "private-later"]
        done = subprocess.run(builder, env=private.env, cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "uv" in watch.programs
    assert private.password not in json.dumps(told) + done.stdout + done.stderr
    assert {one.user for one in private.bench.index.asked_for("torchvision")} == {"carol"}


def test_a_lock_and_a_projects_environment_show_no_password(private: Private) -> None:
    """Nor does the notebook that the lock is written into."""
    notebook = write_notebook(private.bench.home / "lock.ipynb", torch_env={"extras": ["private-extra"]})
    place = private.root / "project"
    with private.watched() as watch:
        private.command("lock", str(notebook))
        private.command("venv", str(place), "--base", "cpu", "private-extra")
    assert "uv" in watch.programs
    assert list(place.glob("lib/python*/site-packages/torchvision"))
    assert private.password not in notebook.read_text()


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_a_base_shows_no_password(private: Private, installer: str) -> None:
    """Whichever installer makes it."""
    private.env["JUPYTER_DATA_DIR"] = str(private.data_dir)
    with private.watched() as watch:
        said = private.command(
            "base", "create", "cpu", "--installer", installer, "--with", "torchvision", "--json"
        )
    held = json.loads(Path(json.loads(said)["path"]).with_name("base.json").read_text())["distributions"]
    assert held["torchvision"] == "0.21.0+cpu"
    if installer == "uv":
        assert "uv" in watch.programs


@pytest.mark.system
def test_pip_builds_nothing_where_it_would_show_its_password(private: Private) -> None:
    """It starts itself for what a build needs, with its indexes as arguments; the message says what helps."""
    mark = private.bench.home / "built"
    sdist = build_sdist(private.bench.wheels, "from-source", mark=mark, build_requires=["private-later"])
    private.bench.index.publish(sdist)
    private.env["JUPYTER_DATA_DIR"] = str(private.data_dir)
    create = ("base", "create", "cpu", "--installer", "pip", "--with", "from-source")
    with private.watched(), pytest.raises(AssertionError, match=r"~/\.netrc"):
        private.command(*create)
    assert not mark.exists()
    netrc = private.bench.home / "pips-netrc"
    netrc.write_text(f"machine 127.0.0.1 login carol password {private.password}\n")
    netrc.chmod(0o600)
    private.env["NETRC"] = str(netrc)
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        private.env[name] = without_credentials(private.env[name])
    with private.watched() as watch:
        private.command(*create)
    assert mark.exists()
    assert watch.programs


def test_the_loopback_indexs_secret_is_seen_by_nobody(private: Private) -> None:
    """Who knows it could ask for PyTorch's pages with the user's credentials."""
    notebook = write_notebook(private.bench.home / "loop.ipynb", torch_env={"extras": ["private-extra"]})
    found: list[str] = []

    def look() -> None:
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                ours = private.env["UV_CACHE_DIR"].encode() in (entry.parent / "environ").read_bytes()
                found.extend(LOOPBACK.findall(entry.read_bytes()) if ours else [])

    private.bench.index.require("carol", private.password)
    private.bench.index.onlooker = look
    try:
        (told,) = launches([notebook], private.env, pinned="cpu")
    finally:
        private.bench.index.onlooker = None
    assert told["state"] == "ready", told["build"]
    assert found == []
    files = [path for path in private.root.rglob("*") if path.is_file()]
    assert [path for path in files if LOOPBACK.search(path.read_bytes())] == []


@pytest.mark.parametrize(
    "words",
    [
        ("base", "create", "cpu", "--find-links", "https://me:pw-on-a-line@h/wheels"),
        ("show", "x.ipynb", "--TorchOverlay.index_template=https://me:pw-on-a-line@h/{tag}"),
    ],
)
def test_a_password_on_the_command_line_is_refused(bench: Bench, words: tuple[str, ...]) -> None:
    """Everybody can read it there; the message says where it belongs, and does not repeat it."""
    done = bench.command(*words, check=False)
    assert done.returncode == 2
    assert "which everybody on this machine can read now" in done.stderr
    assert "~/.netrc" in done.stderr
    assert "pw-on-a-line" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("base", "create", "cpu", "--find-links", "https://8d7f2e51c0b94a6f9e13@h/wheels"),
        ("run", "no.ipynb", "-p", "rate", "1", "--with", "x @ https://me:pw@h/x.whl"),
        ("exec", "no.ipynb", "--TorchOverlay.index_template=https://:pw@h/{tag}", "--", "true"),
        ("add", "no.ipynb", "--", "git+https://me:p@ss@h/x"),
    ],
)
def test_whatever_we_read_ourselves_is_looked_at(bench: Bench, words: tuple[str, ...]) -> None:
    """A token that stands alone is one too, and so is a password that has an @ in it."""
    done = bench.command(*words, check=False)
    assert done.returncode == 2
    assert "which everybody on this machine can read now" in done.stderr
    assert "****@" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("run", "no.ipynb", "-p", "path", "abfss://data@acct.dfs.core.windows.net/x"),
        ("run", "no.ipynb", "-p", "db", "postgresql://root@localhost/db"),
        ("run", "no.ipynb", "-p", "db", "postgresql://root:own@localhost/db"),
        ("exec", "no.ipynb", "--", "echo", "https://me@host/x"),
        ("exec", "no.ipynb", "--", "curl", "https://me:own@host/x"),
        ("exec", "no.ipynb", "echo", "https://me@host/x"),
        ("add", "no.ipynb", "git+https://git@host/x"),
        ("show", "no.ipynb", "--TorchOverlay.index_template=https://VssSessionToken@host/{tag}"),
    ],
)
def test_what_holds_no_password_and_what_is_the_users_own_is_let_through(
    bench: Bench, words: tuple[str, ...]
) -> None:
    """A user's name alone is no secret; values of parameters and commands to run never reach pip."""
    done = bench.command(*words, check=False)
    assert done.returncode == 2
    assert "password" not in done.stderr
    assert "no.ipynb" in done.stderr
