"""The builder: whose code runs when, locks, and how a build ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from kernel_provisioner.overlay import store
from tests.support.bases import REPOSITORY, Bench, Built
from tests.support.tree import tree_hash
from tests.support.waiting import WITHIN, wait_for
from tests.support.wheels import build_sdist


@pytest.mark.parametrize("static", [True, False])
def test_a_source_distribution_waits_for_the_users_first_cell(
    bench: Bench, tmp_path: Path, static: bool
) -> None:
    """Not even its metadata are built before; then the builder, started again, builds and publishes."""
    mark = tmp_path / "mark"
    name = f"only-source-{static}".lower()
    sdist = build_sdist(tmp_path, name, mark=mark, requires=["torchvision"], static_metadata=static)
    bench.index.publish(sdist)
    built = bench.overlay(bench.base(), name)
    assert (built.done.returncode, built.ready, built.failure) == (0, False, {})
    assert built.phases[-1] == "needs-cell"
    assert not mark.exists()
    again = bench.build(built.generation, "--cell-ran")
    assert again.installed == {name: "1.0", "torchvision": "0.21.0+cpu"}
    assert "build_wheel" in mark.read_text()
    bench.enter(again)
    assert again.python(f"import {name.replace('-', '_')}") == ""


def test_an_old_wheel_does_not_stand_in_for_a_newer_source_distribution(bench: Bench, tmp_path: Path) -> None:
    """Nobody expects a version of years ago: the newest is waited for, unless the policy forbids builds."""
    mark = tmp_path / "mark"
    bench.publish("moved-on", "1.0")
    bench.index.publish(build_sdist(tmp_path, "moved-on", "2.0", mark=mark, static_metadata=True))
    waiting = bench.overlay(bench.base(), "moved-on")
    assert waiting.phases[-1] == "needs-cell"
    never = bench.overlay(bench.base(), "moved-on", source_builds="never")
    assert never.installed == {"moved-on": "1.0"}
    assert not mark.exists()
    assert bench.build(waiting.generation, "--cell-ran").installed == {"moved-on": "2.0"}


def test_an_old_wheel_does_not_stand_in_where_a_dependency_has_none(bench: Bench, tmp_path: Path) -> None:
    """The newest has a wheel but needs a package that has none: no reason to go back to an old version.

    hydra-core 1.3 needs antlr4-python3-runtime, a source distribution; 0.11 of years ago did not.
    """
    mark = tmp_path / "mark"
    bench.publish("needs-little", "0.11")
    bench.publish("needs-little", "1.3", requires=["old-school"])
    bench.index.publish(build_sdist(tmp_path, "old-school", mark=mark, static_metadata=True))
    waiting = bench.overlay(bench.base(), "needs-little")
    assert waiting.phases[-1] == "needs-cell"
    assert not mark.exists()
    built = bench.build(waiting.generation, "--cell-ran")
    assert built.installed == {"needs-little": "1.3", "old-school": "1.0"}


@pytest.mark.parametrize("static", [True, False])
def test_nor_of_what_nobody_has_named(bench: Bench, tmp_path: Path, static: bool) -> None:
    """An extra needs it: its newest version is waited for, be it without a wheel or in need of what has none.

    pymatgen needs bibtexparser, whose 1.4 has no wheel; dvc needs hydra-core, where a pre-release would do.
    """
    base, mark = bench.base(), tmp_path / "mark"

    def source(name: str, version: str) -> None:
        bench.index.publish(build_sdist(tmp_path, name, version, mark=mark, static_metadata=static))

    moved, old, little, far = (f"{name}-{static}".lower() for name in ("moved", "old", "little", "far"))
    source(moved, "2.0")
    bench.publish(moved, "1.0")
    source(old, "1.0")
    bench.publish(little, "1.3", requires=[old])
    bench.publish(little, "1.4rc1")
    source(far, "3.0")
    bench.publish(far, "1.0")
    for extra, needs, others in (
        ("plain", moved, {moved: "2.0"}),
        ("final", f"{little}>=1", {little: "1.3", old: "1.0"}),
    ):
        bench.publish(f"{extra}-{static}", requires=[needs])
        waiting = bench.overlay(base, f"{extra}-{static}", notebook=f"{extra}.ipynb")
        assert waiting.phases[-1] == "needs-cell"
        assert not mark.exists(), "its metadata are not built either"
        built = bench.build(waiting.generation, "--cell-ran")
        assert built.installed == {f"{extra}-{static}".lower(): "1.0", **others}
        mark.unlink()
    bench.publish(f"bounded-{static}", requires=[f"{far}<2"])
    assert bench.overlay(base, f"bounded-{static}", notebook="b.ipynb").ready


def test_a_newer_version_for_other_pythons_is_not_waited_for(bench: Bench, tmp_path: Path) -> None:
    """No build would bring it: what fits this Python is built ahead."""
    bench.publish("ahead", "1.0")
    bench.publish("ahead", "2.0", requires_python=">=3.99")
    bench.publish("ahead", "3.0", tag="cp399-cp399-win32")
    bench.publish("uses-ahead", requires=["ahead"])
    assert bench.overlay(bench.base(), "uses-ahead").installed == {"uses-ahead": "1.0", "ahead": "1.0"}


def test_what_can_be_installed_nowhere_here_hides_nothing_that_has_no_wheel(
    bench: Bench, tmp_path: Path
) -> None:
    """One package is passed over for want of any file, another for want of a wheel: that is waited for."""
    bench.publish("elsewhere-only", "1.0", tag="cp399-cp399-win32")
    bench.publish("flexible", "2.0", requires=["elsewhere-only"])
    bench.publish("flexible", "1.0")
    bench.publish("sourced-anew", "1.0")
    mark = tmp_path / "mark"
    bench.index.publish(build_sdist(tmp_path, "sourced-anew", "2.0", mark=mark, static_metadata=True))
    bench.publish("uses-both", requires=["flexible", "sourced-anew"])
    waiting = bench.overlay(bench.base(), "uses-both")
    assert waiting.phases[-1] == "needs-cell"
    built = bench.build(waiting.generation, "--cell-ran")
    assert built.installed == {"uses-both": "1.0", "flexible": "1.0", "sourced-anew": "2.0"}


def test_an_old_version_that_the_base_asks_for_waits_for_nobody(bench: Bench) -> None:
    """The newest wants another torch than the base's: the older one that fits is built at once."""
    bench.publish("keeps-up", "1.0")
    bench.publish("keeps-up", "2.0", requires=["torch>=9000"])
    assert bench.overlay(bench.base(), "keeps-up").installed == {"keeps-up": "1.0"}


def test_a_source_distribution_among_find_links_waits_for_the_users_first_cell(
    bench: Bench, tmp_path: Path
) -> None:
    """As one of an index does; also where another package needs it."""
    links = tmp_path / "links"
    build_sdist(links, "linked-source", mark=tmp_path / "mark")
    bench.publish("needs-linked", requires=["linked-source"])
    bench.env["UV_FIND_LINKS"] = str(links)
    waiting = bench.overlay(bench.base(), "needs-linked")
    assert (waiting.phases[-1], waiting.failure) == ("needs-cell", {})
    built = bench.build(waiting.generation, "--cell-ran")
    assert built.installed == {"needs-linked": "1.0", "linked-source": "1.0"}


def test_where_source_builds_are_forbidden_the_reason_is_told(bench: Bench, tmp_path: Path) -> None:
    """Also once a cell has run: the policy is the owner's."""
    mark = tmp_path / "mark"
    bench.index.publish(build_sdist(tmp_path, "forbidden", mark=mark, static_metadata=True))
    built = bench.overlay(bench.base(), "forbidden", source_builds="never")
    assert not built.ready
    assert "forbidden" in built.told
    assert "wheel" in built.told
    assert not bench.build(built.generation, "--cell-ran").ready
    assert not mark.exists()


def test_a_source_build_sees_the_bases_torch_and_fetches_no_other(bench: Bench, tmp_path: Path) -> None:
    """What a package needs at build time is held by the same pins."""
    mark = tmp_path / "mark"
    sdist = build_sdist(
        tmp_path, "builds-on-torch", mark=mark, build_requires=["torch"], static_metadata=True
    )
    bench.index.publish(sdist)
    waiting = bench.overlay(bench.base(), "builds-on-torch")
    built = bench.build(waiting.generation, "--cell-ran")
    assert built.installed == {"builds-on-torch": "1.0"}
    assert not bench.fetched("torch", default=True), "neither 9.9.0 nor any other"


def test_no_pth_file_of_an_extra_runs_before_it_is_entered(bench: Bench, tmp_path: Path) -> None:
    """Not in the builder, not when the overlay's interpreter starts; the gate honours it."""
    mark = tmp_path / "mark"
    pth = f"import pathlib; pathlib.Path({str(mark)!r}).touch()\n"
    bench.publish("startup", files={"startup.py": "", "startup.pth": pth})
    built = bench.overlay(bench.base(), "startup")
    assert built.ready
    assert "startup.pth" in built.staged
    assert built.python("import sys; print(sys.version_info[0])") == "3"
    assert "ModuleNotFoundError" in built.python("import startup")
    assert not mark.exists()
    bench.enter(built)
    assert built.python("import startup; print('there')") == "there"
    assert mark.exists()


def test_the_same_request_in_another_notebook_asks_no_index(bench: Bench) -> None:
    """Names, versions and hashes are known, the wheels are in uv's cache."""
    bench.publish("common", requires=["torchvision"])
    first = bench.overlay(bench.base(), "common")
    bench.index.asked.clear()
    second = bench.overlay(bench.base(), "common", notebook="other.ipynb")
    assert second.installed == first.installed
    assert bench.index.asked == []
    assert "plan" not in second.phases


def test_with_an_empty_cache_the_known_versions_are_fetched_again(bench: Bench) -> None:
    """The lock holds, although there is something newer by now; where its file is gone, it gives way."""
    wheel = bench.publish("steady", "1.0")
    bench.overlay(bench.base(), "steady")
    bench.publish("steady", "2.0")
    bench.forget_wheels()
    again = bench.overlay(bench.base(), "steady", notebook="other.ipynb")
    assert again.installed == {"steady": "1.0"}
    bench.forget_wheels()
    del bench.index.files["/simple/steady/"][wheel.name]
    replaced = bench.overlay(bench.base(), "steady", notebook="third.ipynb")
    assert replaced.installed == {"steady": "2.0"}


def test_another_base_has_a_lock_of_its_own(bench: Bench) -> None:
    """What fits one torch need not fit another."""
    cpu = bench.overlay(bench.base("cpu"), "torchvision")
    cuda = bench.overlay(bench.base("cu124"), "torchvision")
    assert (cpu.installed, cuda.installed) == ({"torchvision": "0.21.0+cpu"}, {"torchvision": "0.21.0+cu124"})


@pytest.mark.fault(18)
@pytest.mark.parametrize("content", ["", "lock-version = ", 'lock-version = "1.0"\npackages = []\n', "\0"])
def test_a_damaged_lock_is_set_aside(bench: Bench, content: str) -> None:
    """The order is solved again."""
    bench.publish("locked-before")
    first = bench.overlay(bench.base(), "locked-before")
    bench.known(first).write_text(content)
    assert bench.overlay(bench.base(), "locked-before", notebook="other.ipynb").installed == first.installed


def test_offline_a_known_lock_still_works_and_an_unknown_one_is_told(bench: Bench) -> None:
    """``offline`` uses uv's cache alone; what is not there is said, with the way out."""
    bench.publish("at-home")
    bench.publish("far-away")
    bench.overlay(bench.base(), "at-home")
    bench.index.asked.clear()
    assert bench.overlay(bench.base(), "at-home", offline=True, notebook="other.ipynb").ready
    built = bench.overlay(bench.base(), "far-away", offline=True)
    assert not built.ready
    assert built.failure["error"] == "InstallFailed"
    assert "go online once" in built.failure["fix"]
    assert bench.index.asked == []


def test_offline_a_wrong_build_from_a_cache_is_never_taken(bench: Bench) -> None:
    """The default index's torchaudio is in the cache, PyTorch's was never looked up."""
    bench.publish("torchaudio", "1.0")
    bench.publish("torchaudio", "2.6.0+cpu", tag="cpu", requires=["torch==2.6.0"])
    venv = bench.environment("elsewhere")
    bench.uv.run("pip", "install", "--python", venv / "bin/python", "torchaudio==1.0").check("fill the cache")
    built = bench.overlay(bench.base(), "torchaudio", offline=True)
    assert not built.ready
    assert "go online" in built.told


def test_exclude_newer_reaches_the_resolver(bench: Bench) -> None:
    """A moment before every upload: nothing is new enough to have been there."""
    bench.publish("recent")
    built = bench.overlay(bench.base(), "recent", exclude_newer="2001-01-01T00:00:00Z")
    assert not built.ready
    assert "recent" in built.told
    assert "2001-01-01" in built.told


def test_exclude_newer_leaves_pytorchs_index_to_the_base(bench: Bench) -> None:
    """That index names no dates, and a cut-off must not make torchvision impossible."""
    built = bench.overlay(bench.base(), "torchvision", exclude_newer="2001-01-01T00:00:00Z")
    assert built.installed == {"torchvision": "0.21.0+cpu"}


@pytest.mark.fault(19)
def test_a_second_builder_of_one_overlay_steps_back(bench: Bench) -> None:
    """One builds; the other ends at once and leaves everything to the first."""
    bench.publish("slow-one")
    bench.index.misbehave("/simple/slow-one/", "wait")
    generation = bench.begin(bench.base(), "slow-one")
    command = [sys.executable, "-m", "kernel_provisioner.builder", str(generation.path)]
    with subprocess.Popen(command, env=bench.env, cwd=REPOSITORY) as first:
        wait_for(lambda: bench.index.asked_for("slow-one"), "the first builder is at it")
        assert generation.state() is store.State.BUILDING
        second = bench.build(generation)
        assert (second.done.returncode, second.ready) == (0, False)
        bench.index.behave()
        assert first.wait(WITHIN) == 0
    assert Built(generation, second.done).installed == {"slow-one": "1.0"}


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGKILL])
def test_a_builder_that_is_ended_leaves_no_overlay(bench: Bench, signal_: signal.Signals) -> None:
    """Not ready, and no uv that writes on; a new generation then succeeds."""
    name = f"cut-off-{signal_.name.lower()}"
    bench.publish(name)
    bench.index.misbehave(f"/simple/{name.replace('-', '_')}-1.0-py3-none-any.whl", "wait")
    generation = bench.begin(bench.base(), name)
    command = [sys.executable, "-m", "kernel_provisioner.builder", str(generation.path)]
    with subprocess.Popen(command, env=bench.env, cwd=REPOSITORY) as builder:
        wait_for(lambda: bench.fetched(name), "the wheel is being fetched")
        builder.send_signal(signal_)
        builder.wait(WITHIN)
    assert generation.state() is not store.State.READY
    bench.index.behave()
    if signal_ is signal.SIGTERM:
        assert generation.state() is store.State.ABANDONED
        wait_for(lambda: not _named_in_processes(str(generation.path)), "uv has ended as well")
    assert bench.overlay(bench.base(), name).ready


def test_a_ready_overlay_is_not_built_again(bench: Bench) -> None:
    """Whoever starts the builder once more changes nothing."""
    built = bench.overlay(bench.base(), "torchvision")
    before = tree_hash(built.path / "staging")
    assert bench.build(built.generation).done.returncode == 0
    assert tree_hash(built.path / "staging") == before


@pytest.mark.fault(30)
@pytest.mark.parametrize(
    "name", ["with blank", "it's", 'a "quoted" one', "größe-日本", "a$HOME;b", "x" * 120]
)
def test_overlays_lie_anywhere(bench: Bench, tmp_path: Path, name: str) -> None:
    """Blanks, quotes, other alphabets, shells' own characters, paths longer than a shebang may be."""
    code = "def say():\n    import sys\n    print('hello from', sys.prefix)\n"
    scripts = {"console_scripts": {"speak": "speaks:say"}}
    bench.publish("speaks", entry_points=scripts, files={"speaks.py": code})
    bench.overlays = store.Store(tmp_path / name)
    built = bench.overlay(bench.base(), "speaks", "torchvision", overlay_root=str(tmp_path / name))
    assert built.ready, built.told + built.done.stderr
    bench.enter(built)
    for script, says in (("speak", f"hello from {built.path}"), ("torchrun", "2.6.0+cpu")):
        command = [built.path / "bin" / script]
        done = subprocess.run(command, env={"PATH": os.defpath}, capture_output=True, text=True, check=False)
        assert done.stdout.strip() == says, done.stderr
    assert built.python("import torch, torchvision, speaks; print(torch.__version__)") == "2.6.0+cpu"
    assert "compatible" in bench.pip(built, "check")


def _named_in_processes(text: str) -> bool:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if text in " ".join(process.cmdline()):
                return True
    return False
