"""One machine for all tests of several people."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.environ import clean_environment, default_index
from tests.support.index import serve_index
from tests.support.torch_wheels import build_torch
from tests.support.users import (
    User,
    install,
    public_place,
    system_python,
    users,
)
from tests.support.wheels import build_wheel
from tests.users.machine import Machine


@pytest.fixture(scope="package")
def place() -> Iterator[Path]:
    """A directory in which everybody has a home."""
    with public_place() as path:
        yield path


@pytest.fixture(scope="package")
def people(place: Path) -> Iterator[tuple[User, ...]]:
    """Two people."""
    with users(place, "alice", "bob") as made:
        yield made


@pytest.fixture(scope="package")
def machine(place: Path, people: tuple[User, ...]) -> Iterator[Machine]:
    """The machine, set up by an admin who keeps files private unless told otherwise (umask 077)."""
    with serve_index(upstream=default_index()) as index:
        wheels = place / "wheels"
        index.publish_torch("cpu", build_torch(wheels, "cpu"))
        index.publish(build_wheel(wheels, "shared-extra", "1.5"))
        prefix = place / "jupyter"
        install(prefix, system_python(people[0]), "jupyter_server")
        env = clean_environment(
            place / "admin", UV_DEFAULT_INDEX=index.default, UV_INDEX="", TORCH_OVERLAY_INDEX=index.template
        )
        words = ["base", "create", "cpu", "--sys-prefix", "--installer", "uv", "--json"]
        done = subprocess.run(
            [prefix / "bin/python", "-m", "kernel_provisioner.cli.app", *words],
            env=env, cwd="/", umask=0o077, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        yield Machine(place, prefix, Path(json.loads(done.stdout)["path"]), index)


@pytest.fixture
def alice(people: tuple[User, ...]) -> User:
    """Somebody with a notebook."""
    return people[0]


@pytest.fixture
def bob(people: tuple[User, ...]) -> User:
    """Somebody else, who can be up to something."""
    return people[1]
