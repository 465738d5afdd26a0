"""The oldest uv that is taken and the newest there is say what is read of their words, and plan alike."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import uv

from kernel_provisioner.builder.progress import Progress
from kernel_provisioner.errors import InstallFailed, OverlayError, ResolutionFailed
from kernel_provisioner.uv import client, discovery, messages
from tests.support.bases import Workshop
from tests.support.environ import clean_environment
from tests.support.parts import need
from tests.support.wheels import build_sdist

OLDEST = ".".join(map(str, discovery.MINIMUM))

pytestmark = [pytest.mark.network]


@pytest.fixture(scope="module", params=[f"uv=={OLDEST}", "uv"], ids=["oldest", "newest"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> client.Uv:
    """A uv from the registry, as the oldest one that pyproject.toml lets in, or as the newest."""
    place = tmp_path_factory.mktemp("uv")
    command = [
        uv.find_uv_bin(),
        "pip",
        "install",
        "-q",
        "--python",
        sys.executable,
        "--refresh-package",
        "uv",
    ]
    subprocess.run([*command, "--target", place, request.param], env=clean_environment(place), check=True)
    path = str(place / "bin/uv")
    return client.Uv(path, discovery.checked_version(path), {})


@pytest.fixture
def tool(shop: Workshop, program: client.Uv) -> client.Uv:
    """It, with the index and the cache of this test."""
    return shop.uv._replace(path=program.path, version=program.version)


@pytest.fixture
def python(shop: Workshop) -> Path:
    """The interpreter of an empty environment."""
    return shop.environment("venv") / "bin/python"


def failed(tool: client.Uv, python: Path, wanted: str, *options: str) -> OverlayError:
    """The error of a plan that cannot be made."""
    requirements = python.parents[1] / "wanted.txt"
    requirements.write_text(f"{wanted}\n")
    with pytest.raises(OverlayError) as caught:
        tool.plan(python, requirements, options)
    return caught.value


def test_packages_that_exclude_each_other_have_no_solution(
    shop: Workshop, tool: client.Uv, python: Path
) -> None:
    """That is a resolution that failed, and nothing that more time or another index setting would mend."""
    shop.publish("one", requires=["two<2"])
    shop.publish("two", "1.0")
    shop.publish("two", "2.0")
    error = failed(tool, python, "one\ntwo>=2")
    assert isinstance(error, ResolutionFailed)
    assert "two" in error.why
    assert not messages.wants_source(error)
    assert not messages.not_found(error.why)


@pytest.mark.parametrize("more", range(0, 60, 6))
def test_a_package_that_no_index_has_is_named(tool: client.Uv, python: Path, more: int) -> None:
    """So that the name can be compared with others; wherever uv breaks the line."""
    name = f"no-such-thing{'s' * more}"
    error = failed(tool, python, name)
    assert isinstance(error, ResolutionFailed)
    assert messages.not_found(error.why) == name


@pytest.mark.parametrize("options", [["--no-build"], ["--only-binary", ":all:"]], ids=" ".join)
def test_what_has_no_wheel_wants_a_build(
    shop: Workshop, tool: client.Uv, python: Path, options: list[str]
) -> None:
    """The builder then waits for a cell's consent."""
    shop.index.publish(build_sdist(shop.wheels, "source-only", mark=shop.home / "ran"))
    error = failed(tool, python, "source-only", *options)
    assert isinstance(error, ResolutionFailed)
    assert messages.wants_source(error)


def test_it_tells_how_it_searched(shop: Workshop, tool: client.Uv, python: Path, tmp_path: Path) -> None:
    """What it passed over, in which range, and whether another order could have led elsewhere."""
    shop.publish("moved-on", "1.0")
    shop.index.publish(build_sdist(shop.wheels, "moved-on", "1.5", mark=shop.home / "ran"))
    shop.publish("plain", requires=["moved-on<2"])
    shop.publish("other", "1.0")
    shop.publish("other", "2.0", requires=["moved-on>=9"])
    wanted, told = tmp_path / "wanted.txt", list[messages.Search]()
    for text in ("moved-on==1.0\n", "plain\n", "plain\nother\n"):
        wanted.write_text(text)
        tool.plan(python, wanted, ["--no-build"], told=told.append)
    assert told[:2] == [messages.Search(), messages.Search({"moved-on": "<2"})]
    assert told[2].backtracked
    wanted.write_text("plain\nother>=2\n")
    with pytest.raises(ResolutionFailed) as caught:
        tool.plan(python, wanted, ["--no-build"], told=told.append)
    assert "DEBUG" not in caught.value.why


def test_what_is_too_new_is_told_from_what_is_not_there(
    shop: Workshop, tool: client.Uv, python: Path
) -> None:
    """A rule that lets files in only after a while is then named."""
    shop.index.json = True
    shop.publish("fresh")
    error = failed(tool, python, "fresh", "--exclude-newer", "2001-01-01T00:00:00Z")
    assert isinstance(error, ResolutionFailed)
    assert messages.wants_newer(error)


def test_an_index_that_wants_other_credentials_is_told_as_that(
    shop: Workshop, tool: client.Uv, python: Path
) -> None:
    """Not as a package that is not there."""
    shop.publish("private")
    shop.index.require("me", "secret")
    assert "credentials" in failed(tool, python, "private").fix


def test_an_index_that_cannot_be_reached_is_told_from_one_without_the_package(
    shop: Workshop, tool: client.Uv, python: Path
) -> None:
    """No server at all, or one that is broken."""
    nobody = tool._replace(env={**tool.env, "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple"})
    shop.index.misbehave("/simple/broken/", 503)
    for error in (failed(nobody, python, "any"), failed(tool, python, "broken")):
        assert isinstance(error, InstallFailed)
        assert "network" in error.fix


def test_without_network_the_cache_is_told_as_what_lacks(tool: client.Uv, python: Path) -> None:
    """The fix is to go online once."""
    assert "go online once" in failed(tool, python, "any", "--offline").fix


def test_a_variable_that_uv_cannot_read_is_named(tool: client.Uv, python: Path) -> None:
    """Whoever set it can then unset it."""
    wrong = tool._replace(env={**tool.env, "UV_CONCURRENT_BUILDS": "many"})
    assert "unset UV_CONCURRENT_BUILDS" in failed(wrong, python, "any").fix


def test_an_error_of_the_system_is_told_with_its_number(
    shop: Workshop, tool: client.Uv, python: Path, tmp_path: Path
) -> None:
    """Here a file that may not grow: what the machine lacks is named, and how to get it."""
    need(shutil.which("prlimit"), "prlimit (Debian: util-linux)")
    shop.publish("large", files={"large.bin": b"x" * 200_000})
    limited = tmp_path / "limited-uv"
    limited.write_text(f'#!/bin/sh\nexec prlimit --fsize=50000 "{tool.path}" "$@"\n')
    limited.chmod(0o755)
    done = tool._replace(path=str(limited)).run("pip", "install", "--python", python, "large")
    error = messages.failure("it failed", done.stderr)
    assert "grow any larger" in error.what, done.stderr


def test_its_progress_is_heard(shop: Workshop, tool: client.Uv, python: Path) -> None:
    """Builds as they begin and end, and that what was fetched is unpacked."""
    archive = build_sdist(shop.wheels, "built-here", mark=shop.home / "ran", static_metadata=True)
    shop.index.publish(archive)
    heard: list[messages.Step] = []

    def hear(line: str) -> None:
        if step := messages.step_of(line):
            heard.append(step)

    tool.run("pip", "install", "--python", python, "built-here", on_line=hear).check("install")
    assert [step.verb for step in heard] == ["Building", "Built", "Prepared"], heard
    assert heard[0].what.startswith("built-here")
    assert heard[0].begins
    assert heard[1].ends


def test_a_plan_and_a_lock_are_read(shop: Workshop, tool: client.Uv, python: Path, tmp_path: Path) -> None:
    """What goes in and out, with the index of each, and what is locked can be installed."""
    shop.publish("moves", "1.0")
    shop.publish("moves", "2.0")
    tool.run("pip", "install", "--python", python, "moves==1.0").check("install")
    wanted, lock = tmp_path / "wanted.txt", tmp_path / "pylock.toml"
    wanted.write_text("moves>=2\n")
    assert tool.plan(python, wanted, []) == [client.Change("moves", "2.0", replaces="1.0")]
    assert tool.list_alone(python, wanted, []) == {"moves": client.Listed("2.0", shop.index.default)}
    wanted.write_text("moves==2.0\n")
    lock.write_text(tool.lock(python, wanted, []))
    assert [entry["index"] for entry in client.locked_packages(lock.read_text())] == [shop.index.default]
    tool.install_lock(python, lock, tmp_path / "prefix", [])
    assert list((tmp_path / "prefix").glob("lib/python*/site-packages/moves-2.0.dist-info"))


def test_words_that_nobody_knows_are_shown_as_they_are() -> None:
    """A uv of the future may say anything: its own words, the least that can be advised, and no guess."""
    said = "Resolved 3 packages in 2ms\nerror: The moon is in the wrong house\n  cause: it is waning\n"
    error = messages.failure("it failed", said)
    assert type(error) is InstallFailed
    assert error.why == "The moon is in the wrong house\nit is waning"
    assert error.fix.startswith("try again")
    assert not messages.wants_source(error)
    assert not messages.wants_newer(error)
    assert messages.step_of("Contemplating 3 packages") is None


def test_a_build_tells_what_has_come_of_all_that_was_begun(tmp_path: Path) -> None:
    """In bytes as uv rounds them, so that a bar shows how far it is; what has no size is counted."""
    progress = Progress(tmp_path / "progress.jsonl")
    for line in ("Downloading numpy (15.5MiB)", "Building own", "Downloading pandas (512.0KiB)"):
        progress.hear(line)
    progress.hear(" Downloaded numpy")
    events = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    sizes = [(event["done"], event["total"], event["bytes"], event["total_bytes"]) for event in events]
    numpy, pandas = round(15.5 * 2**20), 2**19
    assert sizes == [
        (0, 1, 0, numpy),
        (0, 2, 0, numpy),
        (0, 3, 0, numpy + pandas),
        (1, 3, numpy, numpy + pandas),
    ]
