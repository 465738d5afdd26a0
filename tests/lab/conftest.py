"""A JupyterLab with the extension as it is built in this tree, a base, and an index of tiny packages."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.conftest import TorchBase
from tests.support.bases import Workshop
from tests.support.browser import chromium, tab_name
from tests.support.environ import clean_environment, default_index
from tests.support.index import LocalIndex, serve_index
from tests.support.labpage import LabPage, want_no_news
from tests.support.server import JupyterServer, jupyter_server
from tests.support.tiny import offer_tiny_torch, serve_extras
from tests.support.torch_wheels import build_torch
from tests.support.waiting import WITHIN
from tests.support.wheels import build_wheel

REPOSITORY = Path(__file__).parents[2]
TINY = (
    "tiny-plot",
    "tiny-frames",
    "tiny-pins",
    "tiny-slow",
    "tiny-aged",
    "tiny-stale",
    "tiny-stiff",
    "tiny-leaf",
)
"""Packages that the index has in version 1.0; tiny-tree needs tiny-branch, which needs tiny-leaf."""

Open = Callable[..., LabPage]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One Chromium for all of these tests; first, so that nothing else is made where there is none."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="package")
def lab_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the servers of these tests keep everything."""
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="package")
def tiny_index(browser: Browser, lab_home: Path) -> Iterator[LocalIndex]:
    """This machine's registry with a few tiny packages before it."""
    with serve_extras(lab_home / "wheels", *TINY) as served:
        for name, needs in (("tiny-tree", "tiny-branch"), ("tiny-branch", "tiny-leaf")):
            served.publish(build_wheel(lab_home / "wheels", name, requires=[needs]))
        yield served


@pytest.fixture(scope="package")
def lab_environment(
    browser: Browser, tiny_index: LocalIndex, lab_home: Path, request: pytest.FixtureRequest
) -> dict[str, str]:
    """Where the servers run: the shared base, caches that are empty at first, the extension of this tree."""
    # Not an argument: it would be made, which takes minutes, before the lack of Chromium is noticed.
    base: TorchBase = request.getfixturevalue("torch_base_home")
    share = REPOSITORY / "share/jupyter"
    env = clean_environment(
        lab_home,
        index=tiny_index,
        JUPYTER_PATH=os.pathsep.join([str(base.data_dir), str(share)]),
        JUPYTER_CONFIG_PATH=str(share.parent / "etc"),
    )
    want_no_news(env)
    return env


@pytest.fixture(scope="package")
def lab(lab_environment: dict[str, str]) -> Iterator[JupyterServer]:
    """One JupyterLab for all of these tests."""
    work = Path(lab_environment["XDG_CACHE_HOME"], "work")
    with jupyter_server(work, lab_environment, app="jupyterlab") as running:
        yield running


@pytest.fixture(scope="package")
def torches(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalIndex]:
    """An index with tiny torches for several accelerators, before this machine's registry."""
    with serve_index(upstream=default_index()) as index:
        folder = tmp_path_factory.mktemp("torches")
        offer_tiny_torch(index, folder, "cpu", "cu126", "rocm6.2")
        index.publish_torch("cpu", build_torch(folder / "newer", "cpu", "2.13.0"))
        yield index


@pytest.fixture
def bare(torches: LocalIndex, tmp_path: Path) -> Workshop:
    """A new user's home, with the extension of this tree and no base."""
    share = REPOSITORY / "share"
    shop = Workshop(
        tmp_path, torches, JUPYTER_PATH=str(share / "jupyter"), JUPYTER_CONFIG_PATH=str(share / "etc"),
        PATH=os.environ["PATH"],
    )  # fmt: skip
    want_no_news(shop.env)
    return shop


@pytest.fixture
def tab(browser: Browser, pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Iterator[Open]:
    """Open a tab on a server; closed at the end, with a last picture.

    ``lab=False`` for Notebook 7; ``who`` tells apart the tabs of several people.
    """
    opened: list[LabPage] = []
    pictures, test = pytestconfig.rootpath / "test-artefacts" / "lab", tab_name(request.node.name)
    for old in pictures.glob(f"{test}-*.png"):
        old.unlink()

    def open_tab(server: JupyterServer, *, lab: bool = True, who: str = "") -> LabPage:
        opened.append(LabPage(browser, server, pictures, test + who, lab=lab))
        return opened[-1]

    yield open_tab
    for page in opened:
        page.close()


def overlay(env: dict[str, str], *words: str) -> list[str]:
    """``jupyter overlay`` with these words; the lines that it prints."""
    command = [sys.executable, "-m", "kernel_provisioner.cli.app", *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=WITHIN, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
