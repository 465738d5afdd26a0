"""The gate: what a first cell waits for, what it then finds in its place, and what it is told otherwise."""

from __future__ import annotations

import asyncio
import dataclasses
import fcntl
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel_provisioner.inkernel.display import Line
from kernel_provisioner.inkernel.gate import Gate, Interrupted, imported_before
from kernel_provisioner.inkernel.shared.heartbeat import Watch
from kernel_provisioner.inkernel.shared.info import Info
from tests.support.waiting import wait_for

SITE = f"lib/python3.{sys.version_info.minor}/site-packages"
STATE = {
    "installed": [{"name": "needed", "version": "2.0"}, {"name": "tiny", "version": "1.0"}],
    "replaced": {}, "seconds": 1.25,
}  # fmt: skip
BUILDER = """\
import json, os, sys
overlay, consent, option, fd = sys.argv[1:]
assert (consent, option) == ("--cell-ran", "--lock-fd"), sys.argv
os.fstat(int(fd))  # the lock, handed over
with open(os.path.join(overlay, "overlay.new"), "w") as file:
    json.dump({"installed": [{"name": "tiny", "version": "1.0"}]}, file)
os.replace(file.name, os.path.join(overlay, "overlay.json"))  # at once, as the real one does
"""


STOPS = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"


@dataclasses.dataclass
class Screen:
    """In place of a notebook: the texts shown, one after another; ``on_show`` hears each."""

    shown: list[str] = dataclasses.field(default_factory=list)
    on_show: Callable[[str], object] = lambda _: None

    def publish(self, data: dict[str, str], metadata: dict[str, Any], **how: Any) -> None:
        """As IPython's display publisher."""
        self.shown.append(data["text/plain"])
        self.on_show(data["text/plain"])


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    """A skeleton as a launch leaves it, of which the builder has not said anything yet."""
    path = tmp_path / "0001"
    (path / SITE).mkdir(parents=True)
    (path / "bin").mkdir()
    (path / SITE / "zzz_torch_base.pth").write_text("")
    (path / "build.json").write_text(json.dumps({"order": {"extras": ["tiny>=1"]}}))
    return path


@pytest.fixture
def python_path() -> Iterator[list[str]]:
    """This process's ``sys.path``, as it was before once the test has ended."""
    before = list(sys.path)
    yield sys.path
    sys.path[:] = before


def test_a_kernel_without_overlay_or_with_an_entered_one_does_not_wait(overlay: Path) -> None:
    """The base alone, and an overlay whose packages a user has run before, are open from the start."""
    assert Gate(Info()).open
    assert not Gate(Info(overlay=str(overlay))).open
    (overlay / "entered").touch()
    assert Gate(Info(overlay=str(overlay))).open


def test_a_failed_launch_stays_closed() -> None:
    """What the launch found wrong is what every cell tells."""
    gate = Gate(Info(failure={"what": "no base"}))
    assert not gate.open
    assert gate.failure == {"what": "no base"}


def test_staged_packages_are_moved_to_where_python_looks(overlay: Path) -> None:
    """Modules, metadata, scripts, and files for the environment's own folders; then staging is gone."""
    new = ["bin/tiny", "lib/libtiny.so", "share/tiny/data.txt", f"{SITE}/tiny/__init__.py",
           f"{SITE}/tiny-1.0.dist-info/RECORD", f"{SITE}/namespace/part.py"]  # fmt: skip
    publish(overlay, dict.fromkeys(new, ""))
    (overlay / SITE / "namespace").mkdir()
    (overlay / SITE / "namespace/other.py").touch()
    (overlay / "bin/python").touch()
    gate, screen = enter(overlay)
    assert gate.open
    assert (overlay / "entered").exists()
    assert not (overlay / "staging").exists()
    for name in [*new, "bin/python", f"{SITE}/namespace/other.py"]:
        assert (overlay / name).exists(), name
    assert screen.shown[-1] == "torch-cpu: tiny 1.0 and 1 more added to torch 2.13.0 in 1.2 s"


def test_paths_that_packages_add_count_at_once(overlay: Path, python_path: list[str]) -> None:
    """A ``.pth`` file of an extra works in the kernel that is already running."""
    publish(overlay, {f"{SITE}/tiny.pth": "beside\n", f"{SITE}/beside/late_module.py": "here = True"})
    enter(overlay)
    assert f"{overlay / SITE / 'beside'}" in python_path


def test_what_another_kernel_moved_in_counts_too(overlay: Path, python_path: list[str]) -> None:
    """Two kernels of one notebook: the second one finds the packages in place, and honours their paths."""
    publish(overlay, {f"{SITE}/tiny.pth": "beside\n", f"{SITE}/beside/late_module.py": "here = True"})
    second = Gate(info(overlay))
    enter(overlay)
    python_path.remove(str(overlay / SITE / "beside"))  # as it is in the other kernel's process
    asyncio.run(second.enter(Line(Screen())))
    assert second.open
    assert str(overlay / SITE / "beside") in python_path


def test_a_move_that_was_cut_short_is_finished(overlay: Path, python_path: list[str]) -> None:
    """The kernel was killed half-way: the next one moves the rest in, and honours what was moved before."""
    publish(overlay, {f"{SITE}/first.py": "", f"{SITE}/second.py": "", f"{SITE}/early.pth": "beside\n"})
    (overlay / "staging" / SITE / "first.py").rename(overlay / SITE / "first.py")
    (overlay / "staging" / SITE / "early.pth").rename(overlay / SITE / "early.pth")
    (overlay / SITE / "beside").mkdir()
    gate, _ = enter(overlay)
    assert gate.open
    assert (overlay / SITE / "second.py").exists()
    assert str(overlay / SITE / "beside") in python_path


def test_a_replaced_base_package_loses_its_receipt_and_is_named(overlay: Path) -> None:
    """Two versions listed of one package would confuse uv and pip; the user is told of the newer one."""
    publish(overlay, {f"{SITE}/needed-2.0.dist-info/RECORD": ""}, replaced={"needed": ["1.0", "2.0"]})
    (overlay / SITE / "needed-1.0.dist-info").mkdir()
    _, screen = enter(overlay)
    assert [path.name for path in (overlay / SITE).glob("needed-*")] == ["needed-2.0.dist-info"]
    assert "needed is 2.0 instead of the base's 1.0" in screen.shown[-1]


def test_what_is_replaced_and_in_memory_already_takes_one_restart(
    overlay: Path, tmp_path: Path, python_path: list[str]
) -> None:
    """Only what the kernel has imported from the base is named with it."""
    python_path.insert(0, str(tmp_path))
    (tmp_path / "old_one.py").write_text("")
    importlib.import_module("old_one")
    names = ("old_one", "not_yet")
    files = {f"{SITE}/{name}.py": "" for name in names}
    files |= {f"{SITE}/{name}-2.0.dist-info/RECORD": f"{name}.py,,\n" for name in names}
    publish(overlay, files, replaced={"old-one": ["1.0", "2.0"], "not-yet": ["1.0", "2.0"]})
    _, screen = enter(overlay)
    assert screen.shown[-1].splitlines()[1:] == [
        "in this notebook only, old-one is 2.0 instead of the base's 1.0: the extras need it",
        "in this notebook only, not-yet is 2.0 instead of the base's 1.0: the extras need it",
        "Restart the kernel to use the new old-one: the base's is already imported",
    ]
    python_path[:] = [str(overlay / SITE), *python_path]
    del sys.modules["old_one"]
    importlib.import_module("old_one")
    assert not imported_before(overlay, "old-one")


def test_progress_is_shown_until_the_overlay_is_published(overlay: Path) -> None:
    """The cell follows the builder, a line cut off in the middle included, and opens when it is done."""
    tell(overlay, {"phase": "plan", "message": "Resolving tiny"})
    with (overlay / "progress.jsonl").open("a") as file:
        file.write('{"phase": "fetch", "mess')
    builder = locked(overlay)

    def go_on(text: str) -> None:
        if "Resolving" in text:
            (overlay / "progress.jsonl").write_text("")
            tell(overlay, {"phase": "fetch", "message": "Downloading tiny", "done": 1, "total": 2})
        elif "1/2" in text:
            publish(overlay, {f"{SITE}/tiny.py": ""})
            os.close(builder)

    gate, screen = enter(overlay, on_show=go_on)
    assert gate.open
    assert ["Resolving tiny" in screen.shown[0], "Downloading tiny" in screen.shown[1]] == [True, True]
    assert len(screen.shown) == 3


def test_a_failed_build_is_told_in_full(overlay: Path) -> None:
    """The failure that the builder wrote is the gate's own from then on."""
    failure = {"error": "ResolutionFailed", "what": "tiny does not fit", "why": "because", "fix": "change it"}
    (overlay / "failed.json").write_text(json.dumps({"schema": 1, "failure": failure}))
    gate, screen = enter(overlay)
    assert not gate.open
    assert gate.failure == failure
    assert len(screen.shown) == 1


def test_a_builder_that_vanished_is_told_with_the_fix(overlay: Path) -> None:
    """Nobody builds and nothing was published: it was killed."""
    tell(overlay, {"phase": "fetch", "message": "Downloading"})
    gate, _ = enter(overlay)
    assert gate.failure["error"] == "BuildFailed"
    assert "restart the kernel" in gate.failure["fix"]


def test_a_disk_that_refuses_is_told_in_the_cell(overlay: Path) -> None:
    """Where the packages cannot be moved, the cell fails with the path; it never stays without an answer."""
    publish(overlay, {f"{SITE}/tiny.py": ""})
    (overlay / "enter.lock").mkdir()
    gate, _ = enter(overlay)
    assert not gate.open
    assert gate.failure["error"] == "BuildFailed"
    assert "enter.lock" in gate.failure["why"]
    assert "restart" in gate.failure["fix"]


def test_a_build_that_needs_a_cell_is_started_by_it(overlay: Path, tmp_path: Path) -> None:
    """Source builds run code: the builder had stopped for want of a cell, and is asked again with consent."""
    tell(overlay, {"phase": "needs-cell", "message": "tiny is built from source"})
    script = tmp_path / "builder.py"
    script.write_text(BUILDER)
    gate, _ = enter(overlay, builder=(sys.executable, str(script)))
    assert gate.open, (overlay / "builder.log").read_text()


def test_a_builder_that_needs_a_cell_again_is_not_asked_for_ever(overlay: Path) -> None:
    """Where the second builder ends without a result, the cell fails."""
    tell(overlay, {"phase": "needs-cell", "message": "tiny is built from source"})
    gate, _ = enter(overlay, builder=(sys.executable, "-c", "pass"))
    assert gate.failure["error"] == "BuildFailed"


def test_the_wait_ends_at_an_interrupt_and_can_be_taken_up_again(overlay: Path) -> None:
    """SIGINT ends the wait; signals then go where they went before; the next cell waits on."""
    tell(overlay, {"phase": "plan", "message": "Resolving tiny"})
    builder = locked(overlay)
    gate = Gate(info(overlay))
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted):
        asyncio.run(gate.enter(Line(Screen(on_show=lambda _: signal.raise_signal(signal.SIGINT)))))
    assert signal.getsignal(signal.SIGINT) is handler
    assert not gate.open
    assert not gate.failure
    publish(overlay, {f"{SITE}/tiny.py": ""})
    os.close(builder)
    asyncio.run(gate.enter(Line(Screen())))
    assert gate.open


@pytest.mark.fault(35)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_packages_are_moved_in_is_answered(overlay: Path, number: signal.Signals) -> None:
    """They are moved in to the end, the cell does not run and has its answer; the next one runs."""
    line = f"import signal; signal.raise_signal({int(number)})\n"
    publish(overlay, {f"{SITE}/tiny.py": "", f"{SITE}/early.pth": line, f"{SITE}/second.py": ""})
    gate = Gate(info(overlay))
    handler = signal.getsignal(number)
    with pytest.raises(Interrupted) as caught:
        asyncio.run(gate.enter(Line(Screen())))
    assert caught.value.last is (number == signal.SIGTERM)
    assert signal.getsignal(number) is handler
    assert (gate.open, gate.failure) == (True, {})
    assert (overlay / SITE / "second.py").exists()


@pytest.mark.fault(31)
def test_a_frozen_builder_is_ended_and_another_one_begun(overlay: Path, tmp_path: Path) -> None:
    """A process that is stopped keeps its lock: the cell would wait for ever."""
    tell(overlay, {"phase": "plan", "message": "Resolving tiny"})
    fd = locked(overlay)
    words = [sys.executable, "-c", STOPS, "kernel_provisioner.builder", str(overlay)]
    frozen = subprocess.Popen(words, pass_fds=(fd,))
    os.close(fd)
    script = tmp_path / "builder.py"
    script.write_text(BUILDER)
    gate = Gate(info(overlay, (sys.executable, str(script))), patience=0.5)
    asyncio.run(gate.enter(Line(Screen())))
    assert gate.open, gate.failure
    assert frozen.wait() == -signal.SIGKILL


@pytest.mark.fault(31)
def test_a_frozen_builder_that_cannot_be_ended_fails_the_cell(overlay: Path) -> None:
    """It may run on another machine that shares the disk; a restart begins another overlay."""
    tell(overlay, {"phase": "plan", "message": "Resolving tiny"})
    fd = locked(overlay)
    gate = Gate(info(overlay), patience=0.2)
    asyncio.run(gate.enter(Line(Screen())))
    os.close(fd)
    assert "no sign of life" in gate.failure["what"]
    assert "restart the kernel" in gate.failure["fix"]


@pytest.mark.fault(31)
def test_a_builder_that_beats_is_waited_for(overlay: Path) -> None:
    """However long it takes: its lock's file is touched every second."""
    builder = locked(overlay)
    clock = iter(range(1000))
    watch = Watch(overlay, clock=lambda: float(next(clock)))
    watch.silence()
    for moment in range(100):
        os.utime(overlay / "builder.lock", (moment, moment))
        assert watch.silence() == 0.0
    assert [watch.silence() for _ in range(3)] == [1.0, 2.0, 3.0]
    os.close(builder)


def test_two_cells_wait_side_by_side(overlay: Path) -> None:
    """The main shell and a subshell, each in its thread: both pass, and the packages are moved once."""
    tell(overlay, {"phase": "plan", "message": "Resolving tiny"})
    builder = locked(overlay)
    gate = Gate(info(overlay))
    screens = [Screen(), Screen()]
    cells = [threading.Thread(target=asyncio.run, args=(gate.enter(Line(screen)),)) for screen in screens]
    for cell in cells:
        cell.start()
    wait_for(lambda: all(screen.shown for screen in screens), "both cells to wait")
    publish(overlay, {f"{SITE}/tiny.py": ""})
    os.close(builder)
    for cell in cells:
        cell.join(10)
    assert gate.open
    assert not gate.failure
    assert (overlay / SITE / "tiny.py").exists()


@pytest.mark.parametrize("harm", ["an event that is none", "a state that is none", "no site-packages"])
def test_an_overlay_that_was_tampered_with_is_told_and_never_raises(overlay: Path, harm: str) -> None:
    """A cell whose execution raises would never be answered."""
    if harm == "an event that is none":
        held = locked(overlay)
        (overlay / "progress.jsonl").write_text("5\n")
    else:
        held = -1
        publish(overlay, {f"{SITE}/tiny.py": ""})
        if harm == "no site-packages":
            (overlay / SITE / "zzz_torch_base.pth").unlink()
        else:
            (overlay / "overlay.json").write_text("5")
    gate, screen = enter(overlay)
    if held >= 0:
        os.close(held)
    assert not gate.open
    assert "could not be put in their place" in gate.failure["what"]
    assert screen.shown[-1] == "This notebook's packages could not be added"


def info(overlay: Path, builder: tuple[str, ...] = ()) -> Info:
    """What the launch told the kernel."""
    base = {"kernel": "torch-cpu", "torch": "2.13.0"}
    return Info(overlay=str(overlay), base=base, builder=builder)


def enter(
    overlay: Path, *, builder: tuple[str, ...] = (), on_show: Callable[[str], object] = lambda _: None
) -> tuple[Gate, Screen]:
    """Run a first cell: the gate afterwards, and what was shown."""
    gate, screen = Gate(info(overlay, builder)), Screen(on_show=on_show)
    asyncio.run(gate.enter(Line(screen, clock=lambda: 0.0)))
    return gate, screen


def publish(overlay: Path, files: dict[str, str], **state: Any) -> None:
    """Stage ``files`` and publish the overlay, as the builder does."""
    for name, content in files.items():
        path = overlay / "staging" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (overlay / "overlay.json").write_text(json.dumps({**STATE, **state}))


def tell(overlay: Path, event: dict[str, Any]) -> None:
    """Append a line to the builder's progress."""
    with (overlay / "progress.jsonl").open("a") as file:
        file.write(json.dumps(event) + "\n")


def locked(overlay: Path) -> int:
    """Hold the builder's lock, as long as the returned descriptor is open."""
    fd = os.open(overlay / "builder.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd
