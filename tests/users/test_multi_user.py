"""Several people on one machine: one base of root's, and nothing else that they share."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.environ import clean_environment
from tests.support.parts import need
from tests.support.server import jupyter_server
from tests.support.tree import tree_hash
from tests.support.users import (
    User,
    readable_by,
    writable_by,
)
from tests.support.wheels import build_wheel
from tests.users.machine import LAUNCH, Machine, notebook_of

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.network, pytest.mark.slow]


@pytest.mark.fault(12)
def test_two_people_run_notebooks_on_one_base_of_roots(machine: Machine, alice: User, bob: User) -> None:
    """Each in an overlay of their own, through a Jupyter server of their own, both at once."""
    before = tree_hash(machine.base)
    code = "import os, shared_extra, torch; print(os.getuid(), shared_extra.__file__, torch.__file__)"
    seen = {}
    with (
        jupyter_server(
            alice.home, alice.environment(machine.index), python=alice.wrapper(machine.python)
        ) as a,
        jupyter_server(bob.home, bob.environment(machine.index), python=bob.wrapper(machine.python)) as b,
    ):
        notebook_of(alice, "one")
        notebook_of(bob, "one")
        with a.session("one.ipynb", "torch") as one, b.session("one.ipynb", "torch-cpu") as two:
            for user, session in ((alice, one), (bob, two)):
                done = session.execute(code)
                assert done.status == "ok", done.text
                uid, extra, torch = done.stdout.split()
                assert int(uid) == user.uid
                assert Path(extra).is_relative_to(user.home)
                assert Path(torch).is_relative_to(machine.base)
                seen[user.name] = extra
                harm = session.execute(f"open({torch!r}, 'a')")
                assert harm.error.startswith("PermissionError"), harm.text
    assert len(set(seen.values())) == 2
    assert tree_hash(machine.base) == before


def test_a_base_is_roots_and_nobody_elses(machine: Machine, alice: User) -> None:
    """All of it can be read, whatever root's umask was, and nothing of it can be changed."""
    owners = {path.lstat().st_uid for path in (machine.base, *machine.base.rglob("*"))}
    assert owners == {0}
    assert writable_by(alice, machine.base.parent) == []
    everything = [path for path in machine.base.rglob("*") if not path.is_symlink()]
    assert set(everything) <= set(readable_by(alice, machine.base))
    for deed in (
        "touch {0}/new",
        "rm {0}/base.json",
        "chmod u+w {0}/venv",
        "mv {0} {0}.old",
        "rm {0}/../cpu.alias",
        "chmod u+x {0}.lock",  # which launches wait for
    ):
        assert alice.shell(deed.format(machine.base), check=False).returncode != 0, deed


def test_one_wheel_store_of_roots_serves_everybody(machine: Machine, alice: User, bob: User) -> None:
    """Filled with a private umask; users need no setting, fetch nothing of it, and cannot change it."""
    store = machine.prefix / "share/jupyter/torch-store"
    listed = machine.place / "requirements.txt"
    listed.write_text("of-the-store\n")
    machine.index.publish(build_wheel(machine.place / "wheels", "of-the-store", "2.0"))
    env = clean_environment(
        machine.place / "admin", UV_DEFAULT_INDEX=machine.index.default, UV_INDEX="",
        TORCH_OVERLAY_INDEX=machine.index.template,
    )  # fmt: skip
    done = subprocess.run(
        [machine.prefix / "bin/jupyter-overlay", "prebuild", "--store", store, listed],
        env=env, cwd="/", umask=0o077, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"1 package in {store}, ")
    before, everything = tree_hash(store), [path for path in store.rglob("*") if path.name != "use.lock"]
    marks = {path for path in everything if path.name in ("compiled", "proven")}
    seen = set()
    for user in (alice, bob):
        assert set(everything) - marks <= set(readable_by(user, store))
        assert writable_by(user, store) == []
        machine.index.asked.clear()
        told = machine.launch(user, notebook_of(user, "shared", {"extras": ["of-the-store"]}))
        assert told["state"] == "ready", told
        assert [
            one.path for one in machine.index.asked_for("of-the-store") if one.path.endswith(".whl")
        ] == []
        overlay = Path(told["overlay"])
        (info,) = overlay.glob("staging/lib/python*/site-packages/of_the_store-2.0.dist-info/METADATA")
        seen.add(info.resolve())
        assert info.resolve().is_relative_to(store)
        said = user.run(
            machine.prefix / "bin/jupyter-overlay", "doctor", env=user.environment(machine.index), check=False
        )
        assert f"1 package in the shared wheel store {store}" in said.stdout
        user.run(
            machine.prefix / "bin/jupyter-overlay", "prune", "--all", env=user.environment(machine.index)
        )
    assert len(seen) == 1
    assert tree_hash(store) == before


def test_a_wheel_store_of_another_users_is_not_used(machine: Machine, alice: User, bob: User) -> None:
    """Whatever bob offers, alice's notebook has packages of her own."""
    theirs = machine.place / "bobs-store"
    theirs.mkdir()
    os.chown(theirs, bob.uid, bob.gid)
    listed = bob.home / "requirements.txt"
    listed.write_text("shared-extra\n")
    command = machine.prefix / "bin/jupyter-overlay"
    words = ("prebuild", "--store", theirs, listed, "--kernel", "torch-cpu")
    done = bob.run(command, *words, env=bob.environment(machine.index))
    assert "nobody else will use this store" in done.stdout
    root = alice.home / "careful"
    told = machine.launch(
        alice, notebook_of(alice, "careful"), TORCH_OVERLAY_STORES=str(theirs), TORCH_OVERLAY_ROOT=str(root)
    )
    assert told["state"] == "ready", told
    (info,) = Path(told["overlay"]).glob(
        "staging/lib/python*/site-packages/shared_extra-*.dist-info/METADATA"
    )
    assert info.resolve().is_relative_to(root)
    env = alice.environment(machine.index, TORCH_OVERLAY_STORES=str(theirs))
    said = alice.run(command, "doctor", env=env, check=False).stdout
    assert f"the shared wheel store {theirs} is not used: others can change {theirs}" in said


def test_users_who_share_nothing_share_no_file(machine: Machine, alice: User, bob: User) -> None:
    """Without a shared store each has packages of their own, and nobody sees another's store."""
    inodes: set[int] = set()
    for user, other in ((alice, bob), (bob, alice)):
        root = user.home / "apart"
        told = machine.launch(
            user, notebook_of(user, "apart"), TORCH_OVERLAY_STORES="/nowhere", TORCH_OVERLAY_ROOT=str(root)
        )
        assert told["state"] == "ready", told
        store = root / ".store"
        files = [path for path in store.rglob("*") if path.is_file()]
        assert files
        assert {path.stat().st_uid for path in store.rglob("*")} == {user.uid}
        assert readable_by(other, store) == []
        mine = {path.stat().st_ino for path in files}
        assert inodes.isdisjoint(mine)
        inodes |= mine


def test_no_base_runs_another_users_interpreter(machine: Machine, alice: User, bob: User) -> None:
    """A base of alice's own that stands on bob's Python: root's is taken, and the first cell says why."""
    bob.home.chmod(0o755)
    python = bob.home / "python3"
    bob.shell(f"cp {machine.python.resolve()} {python}")
    env = alice.environment(machine.index)
    bases = Path(env["JUPYTER_DATA_DIR"]) / "torch-bases"
    shutil.copytree(machine.base.parent, bases / "bobs", ignore=shutil.ignore_patterns("venv"))
    said = json.loads((bases / "bobs/base.json").read_text())
    (bases / "bobs/base.json").write_text(json.dumps({**said, "id": "bobs", "interpreter": str(python)}))
    (bases / "cpu.alias").write_text("bobs\n")
    alice.give(bases.parent)
    told = machine.launch(alice, notebook_of(alice, "lured"))
    shutil.rmtree(bases)
    assert told["base"]["id"] == said["id"]
    assert told["state"] == "ready", told["failure"]
    because = f"bobs is not used: others can change {bob.home}; running on {said['id']}"
    assert because in "".join(told["notices"])


def test_a_container_without_roots_powers_trusts_the_machines_root(machine: Machine, alice: User) -> None:
    """There files of root's seem to be nobody's, as Apptainer and rootless Podman show them."""
    env = alice.environment(machine.index, TORCH_OVERLAY_ROOT=str(alice.home / "contained"))
    inside = ["unshare", "--user", f"--map-user={alice.uid}", f"--map-group={alice.gid}", "--"]
    need(
        alice.run(*inside, "true", check=False).returncode == 0,
        "user namespaces for everybody (sysctl kernel.unprivileged_userns_clone=1; unshare not filtered)",
    )
    owner = alice.run(*inside, "stat", "--format=%u", "/").stdout
    assert int(owner) == 65534, "the machine's root is not known here"
    done = alice.run(*inside, machine.python, "-c", LAUNCH, notebook_of(alice, "contained"), env=env)
    told = json.loads(done.stdout)
    assert told.get("state") == "ready", told["failure"]
