"""A base that somebody else can change is not used: whose code it is, is known before any of it runs."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernel_provisioner.base.create import find_interpreter
from kernel_provisioner.base.maintain import verify_base
from kernel_provisioner.base.registry import MANIFEST, RegisteredBase, set_alias
from kernel_provisioner.base.trust import unsafe
from kernel_provisioner.errors import BaseUnsafe
from tests.support.bases import Bench, Workshop
from tests.support.launches import launches
from tests.support.notebooks import write_notebook
from tests.support.parts import need

SOMEBODY = 54321
"""A user of the system that nobody here is."""


@pytest.fixture
def base(bench: Bench) -> Iterator[RegisteredBase]:
    """A base whose permissions are put back."""
    base = bench.base()
    places = (base.directory, base.directory / MANIFEST, *map(Path, base.manifest.site_dirs))
    before = [(place, place.stat()) for place in places]
    yield base
    for place, info in before:
        os.chown(place, info.st_uid, info.st_gid)
        place.chmod(stat.S_IMODE(info.st_mode))


PLACES: dict[str, Callable[[RegisteredBase], Path]] = {
    "directory": lambda base: base.directory,
    "manifest": lambda base: base.directory / MANIFEST,
    "packages": lambda base: Path(base.manifest.site_dirs[0]),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_base_that_everybody_can_write_to_is_not_used(base: RegisteredBase, place: str) -> None:
    """The message names the place, how it can be changed, and the command that closes it."""
    assert unsafe(base) is None
    path = PLACES[place](base)
    path.chmod(path.stat().st_mode | 0o002)
    error = unsafe(base)
    assert error is not None
    assert error.what == f"{base.manifest.id} is not used: others can change {path}"
    assert error.why == "every user can write to it: who can change it can run code as you"
    assert error.fix.startswith(f"chmod o-w {path}")
    assert "jupyter overlay base create cpu" in error.fix


def test_a_base_that_belongs_to_somebody_else_is_not_used(base: RegisteredBase) -> None:
    """Root's is, and one's own."""
    need(os.geteuid() == 0, "root, who alone can give files away: run the tests as root in a container")
    os.chown(Path(base.manifest.site_dirs[0]), SOMEBODY, -1)
    error = unsafe(base)
    assert error is not None
    assert f"it belongs to another user (uid {SOMEBODY})" in error.why


def test_the_next_base_that_fits_is_taken_and_the_reason_said(bench: Bench, base: RegisteredBase) -> None:
    """Where none is left every cell says so; closed as the message says, the base serves again."""
    bench.publish("another")
    other = bench.create("cpu", packages=["another"]).base
    set_alias(base.directory.parent, "cpu", base.manifest.id)
    notebook = write_notebook(bench.home / bench.notebook, torch_env={"accelerator": "cpu"})
    (told,) = launches([notebook], bench.env)
    assert told["base"]["id"] == base.manifest.id
    for each in (base, other):
        Path(each.manifest.site_dirs[0]).chmod(0o777)
        (told,) = launches([notebook], bench.env)
        if each is base:
            assert told["base"]["id"] == other.manifest.id
            (notice,) = [line for line in told["notices"] if "is not used" in line]
            assert notice.startswith(
                f"{base.manifest.id} is not used: others can change {base.manifest.prefix}"
            )
            assert f"running on {other.manifest.id}" in notice
    assert told["failure"]["error"] == "BaseUnsafe"
    assert told["failure"]["what"].startswith(f"{base.manifest.id} is not used: others can change")
    assert other.manifest.id in told["failure"]["why"]
    subprocess.run(told["failure"]["fix"].partition(";")[0], shell=True, check=True)
    (told,) = launches([notebook], bench.env)
    assert (told["base"]["id"], told["state"]) == (base.manifest.id, "ready")
    bench.command("base", "remove", other.manifest.id)


def test_no_environment_is_made_on_it(bench: Bench, base: RegisteredBase) -> None:
    """Nor does ``verify`` run its interpreter, or ``doctor`` call it well; it can still be removed."""
    Path(base.manifest.site_dirs[0]).chmod(0o777)
    refused = bench.command("venv", str(bench.home / "project"), "--base", "cpu", check=False)
    assert refused.returncode == 2
    assert f"{base.manifest.id} is not used: others can change" in refused.stderr
    verdict = verify_base(base)
    assert not verdict.sound
    assert verdict.torch == ""
    found = json.loads(bench.command("doctor", "--json", check=False).stdout)
    assert [one["level"] for one in found if f"{base.manifest.id} is not used" in one["text"]] == ["wrong"]


def test_an_environment_that_others_can_change_is_not_adopted(shop: Workshop) -> None:
    """Its interpreter is not even asked what it holds."""
    mark, prefix = shop.home / "mark", shop.home / "theirs"
    (prefix / "bin").mkdir(parents=True)
    python = prefix / "bin/python"
    python.write_text(f"#!/bin/sh\necho ran > {mark}\n")
    python.chmod(0o755)
    (prefix / "bin").chmod(0o777)
    with pytest.raises(BaseUnsafe, match=f"cannot be a base: others can change {prefix}/bin"):
        shop.adopt(prefix)
    with pytest.raises(BaseUnsafe, match=f"no base can stand on {python}"):
        find_interpreter(str(python), shop.uv)
    assert not mark.exists()


def test_no_base_is_made_where_others_could_change_it(shop: Workshop) -> None:
    """Before anything is fetched."""
    shop.data_dir.mkdir(exist_ok=True)
    shop.data_dir.chmod(0o777)
    with pytest.raises(BaseUnsafe, match=f"others can change {shop.data_dir}"):
        shop.create("cpu")
    assert shop.index.asked == []
