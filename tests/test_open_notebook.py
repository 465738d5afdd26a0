"""A notebook that is open in a Jupyter server is changed there, by a client that can; nothing is lost."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.desk import Desk
from tests.support.editor import edited
from tests.support.index import serve_index
from tests.support.notebooks import write_notebook
from tests.support.rest import Rest, serve_rest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A base for cpu, and a few packages."""
    with serve_index() as index:
        desk = Desk(tmp_path_factory.mktemp("open"), index)
        for name in ("plot", "frames"):
            desk.publish(name, "1.0")
        yield desk


@pytest.fixture(scope="module")
def rest(workshop: Desk) -> Iterator[Rest]:
    """One server for this module."""
    with serve_rest(workshop.home / "work", workshop.env) as running:
        yield running


def lines_of(workshop: Desk, *words: str) -> list[str]:
    """What a command prints."""
    return workshop.command(*words).stdout.splitlines()


def declared(notebook: Path) -> Any:
    """What a notebook's file says under ``torch_env``."""
    return json.loads(notebook.read_text(encoding="utf-8"))["metadata"].get("torch_env")


def test_the_client_that_has_it_open_changes_and_saves_it(workshop: Desk, rest: Rest) -> None:
    """With what it declares and has not saved yet."""
    notebook = write_notebook(rest.root / "open.ipynb", "1", torch_env={"accelerator": "cpu"})
    with edited(rest.server, "open.ipynb") as editor:
        editor.say("extras", ["frames"])
        told = lines_of(workshop, "add", str(notebook), "plot>=1")
        assert told[0] == "open.ipynb now declares frames, plot>=1"
        assert told[2] == f"It is open in {rest.server.url}, and was changed and saved there."
        assert declared(notebook) == {"accelerator": "cpu", "extras": ["frames", "plot>=1"]}
        lines_of(workshop, "lock", str(notebook))
        assert "lock" in declared(notebook)
        assert lines_of(workshop, "remove", str(notebook), "plot")[0] == "open.ipynb now declares frames"
        assert "lock" in editor.said


def test_one_of_two_clients_saves(workshop: Desk, rest: Rest) -> None:
    """And both have the change."""
    notebook = write_notebook(rest.root / "two.ipynb", "1")
    with edited(rest.server, "two.ipynb") as first, edited(rest.server, "two.ipynb") as second:
        told = lines_of(workshop, "add", str(notebook), "plot")
        assert told[-1].endswith("was changed and saved there.")
        for editor in (first, second):
            editor.wait_for(["plot"])
        assert sorted([first.saves, second.saves]) == [0, 1]


@pytest.mark.system
@pytest.mark.parametrize("answers", [True, False])
def test_what_cannot_be_saved_is_said(answers: bool, workshop: Desk, rest: Rest) -> None:
    """The client has the change, whether it says so or not, and its user is told to save."""
    notebook = write_notebook(rest.root / "unsaved.ipynb", "1")
    with edited(rest.server, "unsaved.ipynb", saves=False, answers=answers) as editor:
        told = lines_of(workshop, "add", str(notebook), "plot")
        assert told[0] == "unsaved.ipynb now declares plot"
        assert "Save it there" in told[-1]
        assert editor.said["extras"] == ["plot"]
        assert declared(notebook) is None


def test_a_notebook_that_no_client_has_open_is_changed_in_its_file(workshop: Desk, rest: Rest) -> None:
    """A running server is asked, and nothing is said of it."""
    notebook = write_notebook(rest.root / "closed.ipynb", "1")
    assert lines_of(workshop, "add", str(notebook), "plot") == [
        "closed.ipynb now declares plot",
        "Restart the kernel to install them.",
    ]
    assert declared(notebook) == {"extras": ["plot"]}


@pytest.mark.system
def test_a_client_that_takes_no_change_loses_nothing(workshop: Desk, rest: Rest) -> None:
    """What is added waits beside the overlays, and the file stays; of other changes it is said what to do."""
    notebook = write_notebook(
        rest.root / "other.ipynb", "1", torch_env={"extras": ["frames"]}, kernel="torch-cpu"
    )
    workshop.command("prebuild", str(notebook))
    before = notebook.read_bytes()
    with rest.server.session("other.ipynb", "python3"):
        told = lines_of(workshop, "add", str(notebook), "plot")
        assert told[0] == "plot will be in other.ipynb from the next start of its kernel on"
        assert "takes no changes from here. Its file was left as it is" in told[2]
        assert notebook.read_bytes() == before
        shown = json.loads(workshop.command("show", str(notebook), "--json").stdout)
        assert (shown["extras"], shown["added"]) == (["frames"], ["plot"])
        told = lines_of(workshop, "add", str(notebook), "plot")
        assert told[0] == "other.ipynb now declares frames, plot"
        assert declared(notebook) == {"extras": ["frames", "plot"]}
        told = lines_of(workshop, "remove", str(notebook), "frames", "plot")
        assert told[0] == "plot: no longer kept from %overlay add"
        assert "File, Reload Notebook from Disk" in told[3]
        assert "Overwrite keeps that and drops this change" in told[4]
    assert declared(notebook) == {"extras": []}


def test_a_kernel_that_nobody_looks_at_holds_no_unsaved_work(workshop: Desk, rest: Rest) -> None:
    """The file is changed; a page that wakes up later is thought of."""
    notebook = write_notebook(rest.root / "alone.ipynb", "1", kernel="torch-cpu")
    with rest.server.session("alone.ipynb", "python3") as session:
        session.close()
        told = lines_of(workshop, "add", str(notebook), "plot")
        assert "alone.ipynb has a kernel in" in told[2]
    assert declared(notebook) == {"extras": ["plot"]}


def test_a_server_on_another_address_of_this_machine_is_asked_there(workshop: Desk) -> None:
    """As on a cluster, where it listens on the address that the browser reaches."""
    root = workshop.home / "named"
    with serve_rest(root, workshop.env, ["--ServerApp.ip=127.0.0.2"]) as rest:
        assert "127.0.0.2" in rest.server.url
        notebook = write_notebook(root / "named.ipynb", "1", kernel="torch-cpu")
        with edited(rest.server, "named.ipynb"):
            told = lines_of(workshop, "add", str(notebook), "plot")
            assert told[-1] == f"It is open in {rest.server.url}, and was changed and saved there."


def test_a_server_that_cannot_be_asked_from_here_is_told_of(workshop: Desk, rest: Rest) -> None:
    """It runs, and may have the notebook open: on a socket file, or on an address of another machine."""
    runtime = Path(workshop.env["JUPYTER_RUNTIME_DIR"])
    known = json.loads((runtime / f"jpserver-{rest.server.process.pid}.json").read_text())
    notebook = write_notebook(workshop.home / "unasked" / "far.ipynb", "1")
    far = {**known, "root_dir": str(notebook.parent), "pid": os.getpid()}
    others = {"socket": {**far, "sock": "/run/lab.sock"}, "node": {**far, "hostname": "192.0.2.7"}}
    files = [runtime / f"jpserver-{name}.json" for name in others]
    for file, info in zip(files, others.values(), strict=True):
        file.write_text(json.dumps(info))
    try:
        told = "\n".join(lines_of(workshop, "add", str(notebook), "plot"))
        assert "(/run/lab.sock: it listens on a socket file, which is not asked)" in told
        assert "192.0.2.7 is not on this machine" in told
        assert declared(notebook) == {"extras": ["plot"]}
    finally:
        for file in files:
            file.unlink()


def test_servers_that_are_gone_or_do_not_say_are_no_obstacle(workshop: Desk, rest: Rest) -> None:
    """A runtime file that outlived its server, one with a wrong token, and one of nonsense."""
    runtime = Path(workshop.env["JUPYTER_RUNTIME_DIR"])
    told = json.loads((runtime / f"jpserver-{rest.server.process.pid}.json").read_text())
    notebook = write_notebook(workshop.home / "elsewhere" / "gone.ipynb", "1")
    gone = {**told, "root_dir": str(notebook.parent), "port": 9}
    others = {
        "jpserver-1.json": {**gone, "pid": os.getpid()},
        "jpserver-2.json": {**gone, "pid": 2**22 + 1, "port": told["port"]},
        "jpserver-3.json": ["no", "object"],
    }
    for name, content in others.items():
        (runtime / name).write_text(json.dumps(content))
    try:
        assert len(lines_of(workshop, "add", str(notebook), "plot")) == 2
        wrong = {**told, "root_dir": str(notebook.parent), "token": "not-this-one"}
        (runtime / "jpserver-1.json").write_text(json.dumps(wrong))
        line = lines_of(workshop, "add", str(notebook), "frames")[2]
        assert line.startswith("A Jupyter server that may have gone.ipynb open does not say so")
        assert "HTTP 403" in line
        assert "not-this-one" not in line
    finally:
        for name in others:
            (runtime / name).unlink()
    assert declared(notebook) == {"extras": ["plot", "frames"]}


def test_in_a_terminal_of_a_hub_its_server_is_asked_with_what_that_terminal_has(
    workshop: Desk, rest: Rest
) -> None:
    """JupyterHub's servers take no token from their file; the terminals that they open have one."""
    runtime = Path(workshop.env["JUPYTER_RUNTIME_DIR"])
    file = runtime / f"jpserver-{rest.server.process.pid}.json"
    before = file.read_text()
    notebook = write_notebook(rest.root / "hub.ipynb", "1")
    address, token = rest.server.url, rest.server.token
    try:
        file.write_text(json.dumps({**json.loads(before), "token": ""}))
        with edited(rest.server, "hub.ipynb"):
            done = workshop.command(
                "add", str(notebook), "plot", JUPYTERHUB_SERVICE_URL=address, JUPYTERHUB_API_TOKEN=token
            )
            assert "was changed and saved there." in done.stdout
    finally:
        file.write_text(before)
    assert declared(notebook) == {"extras": ["plot"]}


def test_nobody_waits_for_a_change_that_was_never_asked_for(rest: Rest) -> None:
    """Clients that come late are told so."""
    assert rest.ask("POST", "edits/0123abcd", {}).status == 404
    assert rest.ask("POST", "edits/0123abcd/done", {"extras": [], "saved": True}).status == 404
    assert rest.ask("POST", "edits", {"path": "not-there.ipynb", "add": ["plot"]}).status == 404
