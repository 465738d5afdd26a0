"""JupyterHub on one host, as docs/deploy/jupyterhub sets it up: real users on one base of root's."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.hub import DEPLOYMENT, Hub
from tests.support.notebooks import write_notebook
from tests.support.server import RequestFailed
from tests.support.session import Session
from tests.support.torch_wheels import build_torch
from tests.support.users import User, writable_by
from tests.support.waiting import patient, wait_for
from tests.support.wheels import build_wheel

KERNEL = "torch-cpu"
CONTACT = "hub-help@example.org"  # as in the documented policy
pytestmark = [
    pytest.mark.system,
    pytest.mark.root,
    pytest.mark.torch,
    pytest.mark.network,
    pytest.mark.slow,
    pytest.mark.timeout(patient(600)),
]

ADA, BEN, CLEO = range(3)
EXTRAS = ("abacus", "barrel", "candle")
"""A package for each user, that the others do not have."""

NEWER = "2.99.0"
"""A release of torch that is to come; a fake one, for the real base needs no second of its size."""


@pytest.fixture(scope="module")
def hub(jupyterhub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Hub:
    """The hub of this run, whose index offers what these tests ask for."""
    wheels = tmp_path_factory.mktemp("wheels")
    for name in (*EXTRAS, "tensorflow"):
        jupyterhub.index.publish(build_wheel(wheels, name))
    return jupyterhub


def notebook(user: User, name: str, *extras: str, torch: str = "") -> str:
    """A notebook of a user's with these extras; its path as their server knows it."""
    wanted = {"extras": extras, "torch": torch} if torch else {"extras": extras}
    write_notebook(user.home / "books" / name, torch_env=wanted, kernel=KERNEL)
    user.give(user.home / "books")
    return f"books/{name}"


def overlays(user: User) -> Path:
    """Where a user's overlays are."""
    return user.home / ".cache/torch-overlays"


def base_of(session: Session) -> str:
    """The id of the base that a kernel's torch comes from."""
    found = session.execute("import importlib.util as u; print(u.find_spec('torch').origin)").stdout
    return Path(found).parts[Path(found).parts.index("torch-bases") + 1]


def stamps(tree: Path) -> dict[str, tuple[int, int, int]]:
    """Every path below ``tree`` with its mode, size and last change, which nothing can set back."""
    paths = [Path(folder, name) for folder, names, files in os.walk(tree) for name in (*names, *files)]
    told = {str(path): path.lstat() for path in paths}
    return {path: (info.st_mode, info.st_size, info.st_ctime_ns) for path, info in told.items()}


def bases(hub: Hub) -> dict[str, bool]:
    """The ids of the bases, and whether their tag means each."""
    listed = json.loads(hub.installation.run("base", "list", "--json").stdout)
    return {base["id"]: base["default"] for base in listed}


def test_each_user_has_their_own_packages_on_the_one_torch(hub: Hub) -> None:
    """Three users, three servers, three notebooks with different extras: one torch, three overlays."""
    torches = set()
    before = stamps(hub.installation.bases)
    for user, extra in zip(hub.users, EXTRAS, strict=True):
        with hub.server(user).session(notebook(user, "own.ipynb", extra), KERNEL) as session:
            ran = session.execute(
                f"import getpass, {extra}, torch\n"
                f"print(getpass.getuser(), {extra}.__file__, torch.__file__, int(torch.ones(42).sum()))"
            )
            assert ran.status == "ok", ran.text
            name, added, torch, answer = ran.stdout.split()
            assert name == user.name
            assert Path(added).is_relative_to(overlays(user)), "the extra is the user's own"
            assert answer == "42"
            torches.add(torch)
            for other in set(EXTRAS) - {extra}:
                assert session.execute(f"import {other}").error.startswith("ModuleNotFoundError")
    (torch,) = torches
    assert Path(torch).is_relative_to(hub.installation.bases), "one torch, where the admin has put it"
    assert stamps(hub.installation.bases) == before, "and not a byte of it was changed"


def test_a_wheel_store_of_the_admins_serves_all_users(hub: Hub, tmp_path: Path) -> None:
    """As the guide fills it: users' notebooks are linked to it without a setting, and fetch nothing of it."""
    hub.index.publish(build_wheel(tmp_path, "for-all"))
    listed = tmp_path / "requirements.txt"
    listed.write_text("for-all\n")
    shared = hub.installation.prefix / "share/jupyter/torch-store"
    words = ("prebuild", "--store", str(shared), str(listed), "--kernel", KERNEL)
    template, default = hub.index.template, hub.index.default
    hub.installation.run(*words, TORCH_OVERLAY_INDEX=template, UV_DEFAULT_INDEX=default)
    before = stamps(shared)
    hub.index.asked.clear()
    for user in (hub.users[ADA], hub.users[BEN]):
        with hub.server(user).session(notebook(user, "store.ipynb", "for-all"), KERNEL) as session:
            ran = session.execute("import for_all, os; print(os.path.realpath(for_all.__file__))")
            assert ran.status == "ok", ran.text
            assert Path(ran.stdout.strip()).is_relative_to(shared)
    assert [one.path for one in hub.index.asked_for("for-all") if one.path.endswith(".whl")] == []
    assert stamps(shared) == before


def test_no_user_can_change_what_all_share(hub: Hub) -> None:
    """Not the base, nor what the tag means, nor a kernel, nor the policy; and not remove a base."""
    user = hub.users[ADA]
    for part in ("bin", "etc", "lib", "share"):
        assert writable_by(user, hub.installation.prefix / part) == []
    told = user.run(hub.installation.overlay, "base", "remove", "cpu", check=False)
    assert told.returncode == 2
    assert "Permission denied" in told.stderr
    with hub.server(user).session(notebook(user, "own.ipynb", EXTRAS[ADA]), KERNEL) as session:
        tried = session.execute("import torch\nopen(torch.__file__, 'a')")
    assert tried.error.startswith("PermissionError")


def test_no_user_reaches_another_users_notebooks(hub: Hub) -> None:
    """Not through the hub's proxy, and not on the disk, although homes here can be read by all."""
    ada, ben = hub.users[ADA], hub.users[BEN]
    theirs = hub.server(ada)
    path = notebook(ada, "own.ipynb", EXTRAS[ADA])
    with theirs.session(path, KERNEL) as session, hub.server(ben).session("mine.ipynb", KERNEL) as other:
        added = Path(session.execute(f"import {EXTRAS[ADA]} as it; print(it.__file__)").stdout.strip())
        for attempt in (
            f"import os; os.listdir('{overlays(ada)}')",
            f"open('{added}')",
            f"open('{added}', 'a')",
            f"open('{added.parent}/planted.pth', 'w')",
            f"open('{ada.home}/.local/share/jupyter/runtime/kernel-{session.kernel_id}.json')",
        ):
            assert other.execute(attempt).error.startswith("PermissionError"), attempt
        with pytest.raises(RequestFailed) as refused:
            hub.seen_by(ben, theirs).request("GET", "api/kernels")
        assert refused.value.status == 403


def test_nobody_reads_along_what_another_users_cell_prints(hub: Hub) -> None:
    """A kernel's ports are open to all of the host; what comes out of them is not: it is encrypted."""
    ada, ben = hub.users[ADA], hub.users[BEN]
    with (
        hub.server(ada).session("talk.ipynb", KERNEL) as talking,
        hub.server(ben).session("listen.ipynb", KERNEL) as listening,
    ):
        runtime = ada.home / ".local/share/jupyter/runtime"
        port = json.loads((runtime / f"kernel-{talking.kernel_id}.json").read_text())["iopub_port"]
        speech = talking.begin("import time\nwhile True: print('a secret', flush=True); time.sleep(0.05)")
        speech.until(lambda seen: "a secret" in seen.stdout)
        heard = listening.execute(
            "import zmq\n"
            "socket = zmq.Context.instance().socket(zmq.SUB)\n"
            "socket.subscribe(b'')\n"
            f"socket.connect('tcp://127.0.0.1:{port}')\n"
            "print(socket.poll(2000))"
        )
        talking.interrupt()
        speech.result()
    assert heard.stdout == "0\n", heard.text


def test_no_user_keeps_others_from_starting(hub: Hub) -> None:
    """Who can read a base's lock can lock it, as if to remove the base: kernels start all the same."""
    ada, ben = hub.users[ADA], hub.users[BEN]
    for user in hub.users:  # kernels and fork servers of earlier tests hold the base, until they end
        hub.stop(user)
    grab = (
        "import fcntl, glob, os\n"
        f"paths = glob.glob('{hub.installation.bases}/*.lock')\n"
        "files = [open(path) for path in paths if os.access(path, os.R_OK)]\n"
        "for file in files: fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print(len(files))"
    )
    with hub.server(ben).session("grab.ipynb", "python3") as grabbing:
        grabbed = grabbing.execute(grab)
        assert grabbed.status == "ok", grabbed.text
        assert grabbed.stdout.strip() != "0"
        with hub.server(ada).session(notebook(ada, "own.ipynb", EXTRAS[ADA]), KERNEL) as session:
            assert session.execute(f"import {EXTRAS[ADA]}, torch").status == "ok"
        refused = hub.installation.run("base", "remove", *bases(hub), check=False)
        assert refused.returncode == 2
        assert "pid" in refused.stdout, "the admin sees who it is"


def test_a_refused_package_shows_the_admins_message(hub: Hub) -> None:
    """The documented policy denies it: the cell says so, says whose rule it is, and whom to ask."""
    user = hub.users[CLEO]
    own = user.home / ".jupyter" / "jupyter_overlay_config.py"
    own.parent.mkdir(exist_ok=True)
    own.write_text("c.TorchPolicy.denied = []\nc.TorchPolicy.allowed = ['*']\n")
    user.give(own.parent)
    with hub.server(user).session(notebook(user, "refused.ipynb", "tensorflow"), KERNEL) as session:
        ran = session.execute("print('ran')")
    own.unlink()
    assert ran.status == "error"
    assert ran.stdout == ""
    assert "tensorflow" in ran.text
    assert CONTACT in ran.text
    assert str(hub.installation.prefix / "etc/jupyter/jupyter_overlay_config.py") in ran.text
    assert not hub.index.asked_for("tensorflow"), "nothing of it was fetched"


def test_torch_is_upgraded_rolled_back_and_removed_under_running_users(hub: Hub, tmp_path: Path) -> None:
    """New kernels follow what the tag means; running ones stay, and hold their base until they end."""
    ada, ben = hub.users[ADA], hub.users[BEN]
    admin = hub.installation
    hub.index.publish_torch("cpu", build_torch(tmp_path, "cpu", NEWER))
    (old,) = bases(hub)
    with hub.server(ada).session(notebook(ada, "long run.ipynb", EXTRAS[ADA]), KERNEL) as running:
        assert base_of(running) == old
        upgrade = ("base", "create", "cpu", "--torch", NEWER, "--sys-prefix", "--installer", "uv")
        admin.run(*upgrade, TORCH_OVERLAY_INDEX=hub.index.template, UV_DEFAULT_INDEX=hub.index.default)
        (new,) = set(bases(hub)) - {old}
        assert bases(hub)[new], "it is what the tag means"

        with hub.server(ben).session(notebook(ben, "new.ipynb", EXTRAS[BEN]), KERNEL) as started:
            assert base_of(started) == new
            assert (
                started.execute(f"import {EXTRAS[BEN]}, torch; print(torch.__version__)").stdout
                == f"{NEWER}+cpu\n"
            )
            assert running.execute(f"import torch.fx, {EXTRAS[ADA]}").status == "ok", (
                "the old one is all there"
            )
            refused = admin.run("base", "remove", old, check=False)
            assert refused.returncode == 2
            assert f"kernel of {ada.home}/books/long run.ipynb" in refused.stdout

            admin.run("base", "default", "cpu", old)
            started.restart()
            assert base_of(started) == old, "rolled back"
            trying = notebook(ben, "try.ipynb", torch=f"=={NEWER}")
            with hub.server(ben).session(trying, KERNEL) as tried:
                assert base_of(tried) == new, "who asks for it has it"
            admin.run("base", "default", "cpu", new)
            started.restart()
            assert base_of(started) == new

            admin.run("base", "default", "cpu", old)
            refused = admin.run("base", "remove", new, check=False)
            assert f"kernel of {ben.home}/books/new.ipynb" in refused.stdout
            assert set(bases(hub)) == {old, new}
            hub.stop(ben)  # which does not wait for the kernels of that server
            wait_for(lambda: admin.run("base", "remove", new, check=False).returncode == 0, "nobody uses it")
            assert bases(hub) == {old: True}
            assert running.execute("print(int(torch.ones(42).sum()))").stdout == "42\n", "through all of this"
    with hub.server(ben).session("books/new.ipynb", KERNEL) as again:
        assert base_of(again) == old
        assert again.execute(f"import {EXTRAS[BEN]}").status == "ok", "with the same extras"


def test_root_prunes_as_each_user(hub: Hub) -> None:
    """The script of the guide removes what nobody needs, of each user; root's own hands stay off."""
    ada, ben = hub.users[ADA], hub.users[BEN]
    for user, extra in ((ada, EXTRAS[ADA]), (ben, EXTRAS[BEN])):
        with hub.server(user).session(notebook(user, "brief.ipynb", extra), KERNEL) as session:
            assert session.execute(f"import {extra}").status == "ok"
        (user.home / "books/brief.ipynb").unlink()
    with hub.server(ben).session(notebook(ben, "lasting.ipynb", EXTRAS[BEN]), KERNEL) as session:
        assert session.execute("1").status == "ok"
        wrong = hub.installation.run("prune", f"--TorchOverlay.overlay_root={overlays(ada)}", check=False)
        assert wrong.returncode == 2
        assert "belongs to" in wrong.stdout, wrong.stdout
        told = hub.installation.script(DEPLOYMENT / "prune-overlays", ada.name, ben.name).stdout
        assert session.execute("1").status == "ok", "what is in use stays"
    for user in (ada, ben):
        assert f"removing {user.home}/books/brief.ipynb" in told
        for folder, names, files in os.walk(overlays(user)):
            owners = {Path(folder, name).lstat().st_uid for name in (*names, *files)}
            assert owners <= {user.uid}, folder
    assert "lasting" not in told
