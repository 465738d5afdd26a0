"""Where a user's overlays lie: a place that nobody else reads or changes, or a refusal that says why."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import jupyter_server
from tests.support.tree import tree_hash
from tests.support.users import (
    User,
    readable_by,
    writable_by,
)
from tests.users.machine import Machine, notebook_of

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.network, pytest.mark.slow]

RECORDS = {"overlay.json", "build.json", "builder.log", "entered", "notebook.txt"}


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_an_overlay_is_for_its_owner_alone(machine: Machine, alice: User, bob: User, umask: int) -> None:
    """Whatever the umask: nobody else sees a name in it, and no file in it lets others write."""
    root = alice.home / f"overlays-{umask:03o}"
    alice.home.chmod(0o755)  # as homes often are
    told = machine.launch(alice, notebook_of(alice, "mine"), umask, TORCH_OVERLAY_ROOT=str(root))
    plain = machine.launch(alice, notebook_of(alice, "plain", {}), umask, TORCH_OVERLAY_ROOT=str(root))
    assert (told["state"], plain["state"]) == ("ready", "ready"), told
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert readable_by(bob, root) == []
    assert writable_by(bob, root) == []
    for overlay in (told["overlay"], plain["overlay"]):
        assert bob.shell(f"ls {overlay}; cat {overlay}/build.json", check=False).stdout == ""
    files = [path for path in root.rglob("*") if not path.is_symlink()]
    assert {path.stat().st_uid for path in files} == {alice.uid}
    # uv opens its lock files to everybody; under a private directory that lets nobody in.
    assert [path for path in files if path.stat().st_mode & 0o022 and path.name != ".lock"] == []
    records = {path.name: stat.S_IMODE(path.stat().st_mode) for path in files if path.name in RECORDS}
    assert records == dict.fromkeys(RECORDS, 0o600)


def _theirs(place: Path, alice: User, bob: User) -> tuple[Path, str, Path, str]:
    """A root that bob owns."""
    root = place / "overlays"
    root.mkdir()
    os.chown(root, bob.uid, bob.gid)
    return root, "it belongs to another user", root, f"chown {alice.uid} {root}"


def _link_of_bobs(place: Path, alice: User, bob: User) -> tuple[Path, str, Path, str]:
    """A link in a place like /tmp that bob made to a directory of alice's: he can change it at any time."""
    place.chmod(0o1777)
    link = place / "overlays"
    bob.run("ln", "-s", alice.home, link)
    return link, "it belongs to another user", link, f"chown -h {alice.uid} {link}"


def _link_in_bobs_place(place: Path, alice: User, bob: User) -> tuple[Path, str, Path, str]:
    """A link of alice's own through a directory of bob's, who can put another directory in its place."""
    (place / "bobs").mkdir()
    (place / "bobs/real").mkdir()
    os.chown(place / "bobs/real", alice.uid, alice.gid)
    os.chown(place / "bobs", bob.uid, bob.gid)
    link = alice.home / "through-bobs"
    alice.run("ln", "-s", "-f", "-n", place / "bobs/real", link)
    return link / "overlays", "it belongs to another user", place / "bobs", f"chown root {place / 'bobs'}"


def _open_to_all(place: Path, alice: User, bob: User) -> tuple[Path, str, Path, str]:
    """A shared directory of root's that everybody can write to, without the sticky bit."""
    place.chmod(0o777)
    return place / "alice/overlays", "every user can write to it", place, f"chmod +t {place}"


def _open_to_a_group(place: Path, alice: User, bob: User) -> tuple[Path, str, Path, str]:
    """A directory of alice's that bob's group can write to."""
    os.chown(place, alice.uid, bob.gid)
    place.chmod(0o770)
    return (
        place / "overlays",
        f"its group, which {bob.name} are in, may write to it",
        place,
        f"chmod g-w {place}",
    )


def _open_to_a_guest(place: Path, alice: User, bob: User) -> tuple[Path, str, Path, str]:
    """A directory that alice's own group can write to, which bob was let into."""
    subprocess.run(["gpasswd", "--add", bob.name, alice.name], check=True, capture_output=True)
    os.chown(place, alice.uid, alice.gid)
    place.chmod(0o2770)
    how = f"its group, which {bob.name} are in, may write to it"
    return place / "overlays", how, place, f"gpasswd --delete {bob.name} {alice.name}"


def _root_that_stood_open(place: Path, alice: User, bob: User) -> tuple[Path, str, Path, str]:
    """A root of alice's own that everybody could have put something into."""
    root = place / "overlays"
    root.mkdir()
    root.chmod(0o1777)
    os.chown(root, alice.uid, alice.gid)
    return root, "every user can write to it", root, f"chmod o-w {root}"


@pytest.mark.parametrize(
    "arranged",
    [_theirs, _link_of_bobs, _link_in_bobs_place, _open_to_all, _open_to_a_group, _open_to_a_guest,
     _root_that_stood_open],
)  # fmt: skip
def test_a_root_that_others_can_change_is_refused(
    arranged: Any, machine: Machine, alice: User, bob: User
) -> None:
    """Every cell names the place, who can change it and what to do; that done, the notebook runs."""
    place = machine.place / f"shared{arranged.__name__}"
    place.mkdir()
    root, how, where, fix = arranged(place, alice, bob)
    notebook = notebook_of(alice, "refused")
    before = tree_hash(place)
    failure = machine.launch(alice, notebook, TORCH_OVERLAY_ROOT=str(root))["failure"]
    assert failure["what"] == f"overlays cannot be kept in {root}: other users can change {where}"
    assert how in failure["why"]
    assert "TORCH_OVERLAY_ROOT" in failure["fix"]
    assert fix in failure["fix"] or fix.startswith(("chown", "gpasswd")), "what others own, they must give"
    assert tree_hash(place) == before, "nothing is left there"
    subprocess.run(fix, shell=True, check=True, capture_output=True)
    again = machine.launch(alice, notebook, TORCH_OVERLAY_ROOT=str(root))
    assert again.get("state") == "ready", again["failure"]


def test_a_kernel_explains_a_root_that_is_refused(machine: Machine, alice: User, bob: User) -> None:
    """Through a real server: the session opens, and the cell tells."""
    shared = machine.place / "scratch"
    shared.mkdir()
    shared.chmod(0o777)
    env = alice.environment(machine.index, TORCH_OVERLAY_ROOT=str(shared / "alice"))
    notebook_of(alice, "told")
    python = alice.wrapper(machine.python)
    with (
        jupyter_server(alice.home, env, python=python) as server,
        server.session("told.ipynb", "torch") as session,
    ):
        done = session.execute("print('ran')")
        assert done.stdout == ""
        told = " ".join(done.text.split())
        assert f"other users can change {shared}" in told
        assert f"chmod +t {shared}" in told
        shared.chmod(0o1777)
        session.restart()
        assert session.execute("import shared_extra; print('ran')").stdout == "ran\n"


@pytest.mark.parametrize("kind", ["sticky", "private group", "link of root's", "others' home above"])
def test_ordinary_places_are_taken(kind: str, machine: Machine, alice: User, bob: User) -> None:
    """A directory like /tmp; a home that one's own group can write to (umask 002); a link by the admin."""
    place = machine.place / f"ordinary-{kind.replace(' ', '-').strip(chr(39))}"
    place.mkdir()
    root = place / "overlays"
    if kind == "sticky":
        place.chmod(0o1777)
    elif kind == "private group":
        os.chown(place, alice.uid, alice.gid)
        place.chmod(0o2775)
    elif kind == "link of root's":
        (place / "to").symlink_to("../" + alice.home.name)
        root = place / "to" / "linked-overlays"
    else:
        place.chmod(0o711)
        (place / "alice").mkdir()
        os.chown(place / "alice", alice.uid, alice.gid)
        root = place / "alice/a/b/overlays"
    told = machine.launch(alice, notebook_of(alice, "ordinary"), TORCH_OVERLAY_ROOT=str(root))
    assert told.get("state") == "ready", told["failure"]
    assert root.stat().st_mode & 0o777 == 0o700


def test_a_cache_of_uvs_that_others_can_change_is_refused(machine: Machine, alice: User, bob: User) -> None:
    """What is unpacked there becomes part of overlays, so a cache for everybody is nobody's to trust."""
    cache = machine.place / "uv-cache"
    cache.mkdir()
    cache.chmod(0o1777)
    notebook = notebook_of(alice, "cached", {"extras": ["shared-extra<9"]})
    failure = machine.launch(alice, notebook, UV_CACHE_DIR=str(cache))["failure"]
    assert failure["what"] == f"uv's cache cannot be used: other users can change {cache}"
    assert "UV_CACHE_DIR" in failure["fix"]
    assert list(cache.iterdir()) == []
    private = cache / "alice"  # below a sticky directory it is hers
    told = machine.launch(alice, notebook, UV_CACHE_DIR=str(private))
    assert told["state"] == "ready", told["failure"]
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
