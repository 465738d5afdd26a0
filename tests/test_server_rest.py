"""The REST API of the server extension: what it tells, and that nothing is done before it is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from kernel_provisioner.overlay import store
from kernel_provisioner.overlay.added import remember
from kernel_provisioner.server import routes
from tests.support.desk import Desk
from tests.support.index import serve_index
from tests.support.notebooks import set_torch_env, write_notebook
from tests.support.rest import Rest, serve_rest
from tests.support.waiting import wait_for

DESCRIPTION: Any = json.loads(Path(routes.__file__).with_name("openapi.json").read_text(encoding="utf-8"))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Bases for cpu and cu124, and a few packages."""
    with serve_index() as index:
        desk = Desk(tmp_path_factory.mktemp("rest"), index)
        desk.publish("plot", "1.0", requires=["frames>=1"])
        desk.publish("frames", "1.0")
        desk.publish("frames", "2.0")
        desk.publish("numpy", "2.2", requires=[])
        desk.publish("newer", "1.0", requires=["numpy>=2.2"])
        yield desk


@pytest.fixture(scope="module")
def rest(workshop: Desk) -> Iterator[Rest]:
    """One server for this module."""
    with serve_rest(workshop.home / "work", workshop.env) as running:
        yield running


def matches(data: object, schema: str) -> None:
    """Fail where ``data`` is not what the API says that it gives."""
    resolved = {**DESCRIPTION["components"]["schemas"][schema], "components": DESCRIPTION["components"]}
    text = json.dumps(resolved).replace('"oneOf"', '"anyOf"')
    jsonschema.validate(data, json.loads(text))


def test_the_description_has_every_route_and_no_other(rest: Rest) -> None:
    """With the methods that each answers; and the server gives that description."""
    described = {
        (path.removeprefix("/torch-overlay/"), method)
        for path, item in DESCRIPTION["paths"].items()
        for method in item
        if method != "parameters"
    }
    served = {
        (path.replace("([0-9a-f]{1,64})", "{id}"), method)
        for path, handler in routes.ROUTES
        for method in ("get", "post", "put", "patch", "delete")
        if method in vars(handler)
    }
    assert served == described
    assert rest.ask("GET", "openapi.json").data == DESCRIPTION


def test_a_notebook_is_told_of_before_it_has_started(rest: Rest) -> None:
    """Its base and why, what it declares, and how it would get another base."""
    write_notebook(rest.root / "told.ipynb", torch_env={"extras": ["plot"]}, kernel="torch-cpu")
    state = rest.environment("told.ipynb", "torch-cpu", details=True)
    matches(state, "Environment")
    assert state["base"]["tag"] == "cpu"
    assert "the kernel that was picked" in state["reason"]
    assert state["overlay"] == {"path": None, "state": "none"}
    assert state["packages"]["declared"] == [
        {"name": "plot", "requirement": "plot", "installed": None, "in_base": False, "bytes": 0, "extras": []}
    ]
    other = next(base for base in state["bases"] if base["tag"] == "cu124")
    assert other["why_not"] == ["it is a cu124 build, the kernel is for cpu"]
    assert other["choose"] == {"kernel": "torch-cu124", "torch_env": {}}


def test_what_is_open_counts_and_not_what_is_saved(rest: Rest) -> None:
    """A client sends what its notebook says now; the file stays as it is."""
    path = write_notebook(rest.root / "open.ipynb", torch_env={"extras": ["frames"]})
    before = path.read_bytes()
    content = {
        "metadata": {"torch_env": {"accelerator": "cpu"}},
        "cells": [
            {"cell_type": "code", "source": '# /// script\n# dependencies = ["plot"]\n# ///'},
        ],
    }
    state = rest.environment("open.ipynb", content=content)
    assert state["extras"] == ["plot"]
    assert state["request"]["accelerator"] == "cpu"
    assert path.read_bytes() == before


def test_a_change_is_told_before_it_is_made(rest: Rest, workshop: Desk) -> None:
    """What would come, and which base package would be replaced; nothing is installed."""
    write_notebook(rest.root / "change.ipynb", torch_env={"extras": []}, kernel="torch-cpu")
    content = {"metadata": {"torch_env": {"extras": ["plot", "newer"]}}}
    task = rest.task("changes", {"path": "change.ipynb", "kernel": "torch-cpu", "content": content})
    matches(task, "Task")
    matches(task["result"], "Changes")
    assert {(change["what"], change["name"], change["to"]) for change in task["result"]["packages"]} == {
        ("add", "plot", "1.0"),
        ("add", "frames", "2.0"),
        ("add", "newer", "1.0"),
        ("replace", "numpy", "2.2"),
    }
    assert not list(workshop.overlays.root.glob("change-*"))
    assert not list(workshop.overlays.root.glob("trial-*"))


def test_what_was_added_can_be_forgotten_and_that_is_told_before(rest: Rest, workshop: Desk) -> None:
    """As ``jupyter overlay remove`` does it; the preview of that names what a restart would remove."""
    path = write_notebook(rest.root / "forget.ipynb", torch_env={"extras": []}, kernel="torch-cpu")
    body = {"path": "forget.ipynb", "kernel": "torch-cpu"}
    workshop.launch(path)
    set_torch_env(path, {"extras": ["frames"]})
    remember(workshop.overlays.notebook_dir(path), ["frames"], ["plot"])
    assert workshop.launch(path)["got"].keys() == {"frames", "plot"}
    assert rest.task("changes", body)["result"]["packages"] == []
    (change,) = rest.task("changes", {**body, "forget": ["plot"]})["result"]["packages"]
    assert (change["what"], change["name"]) == ("remove", "plot")
    assert (
        workshop.command("remove", str(path), "plot", "--dry-run").stdout.splitlines()[-1] == "  - plot 1.0"
    )
    assert rest.ask("POST", "forget", {**body, "names": ["Plot", "frames"]}).data == {"forgotten": ["plot"]}
    assert workshop.launch(path)["got"].keys() == {"frames"}
    assert rest.ask("POST", "forget", {**body, "names": [1]}).status == 400


def test_what_was_told_is_what_is_built(rest: Rest, workshop: Desk) -> None:
    """Also where the index has newer versions by then."""
    path = write_notebook(rest.root / "same.ipynb", torch_env={"extras": ["frames<3"]}, kernel="torch-cpu")
    task = rest.task("changes", {"path": "same.ipynb", "kernel": "torch-cpu"})
    (change,) = task["result"]["packages"]
    assert (change["what"], change["to"]) == ("add", "2.0")
    workshop.publish("frames", "2.5")
    assert workshop.launch(path)["got"] == {"frames": "2.0"}
    state = rest.environment("same.ipynb", "torch-cpu", details=True)
    assert state["overlay"]["state"] == "ready"
    assert state["packages"]["declared"][0]["installed"] == "2.0"
    assert state["packages"]["declared"][0]["bytes"] > 0


def test_a_change_that_cannot_be_is_refused_with_the_reason(rest: Rest) -> None:
    """As an error with its cause, and the notebook's state names what to press."""
    write_notebook(rest.root / "cannot.ipynb", torch_env={"extras": ["frames>9"]}, kernel="torch-cpu")
    task = rest.task("changes", {"path": "cannot.ipynb", "kernel": "torch-cpu"})
    assert task["state"] == "failed"
    assert task["error"]["error"] == "ResolutionFailed"
    assert "frames" in task["error"]["why"]


def test_what_a_notebook_may_not_say_is_told_with_what_to_press(rest: Rest) -> None:
    """The failure names the field, and the fix takes that entry out."""
    write_notebook(rest.root / "option.ipynb", torch_env={"extras": ["plot", "--index-url=http://x"]})
    state = rest.environment("option.ipynb", details=True)
    matches(state, "Environment")
    assert state["overlay"]["state"] == "refused"
    assert "is an option, not a package" in state["failure"]["what"]
    assert state["fixes"] == [{"do": "reset", "key": "extras", "index": 1}]


def test_where_no_base_fits_others_are_offered(rest: Rest) -> None:
    """Each with what has to change; and one that could be made."""
    write_notebook(rest.root / "none.ipynb", torch_env={"accelerator": "rocm"})
    state = rest.environment("none.ipynb")
    assert state["failure"]["error"] == "NoBaseFits"
    ways = {(fix["do"], fix.get("tag")) for fix in state["fixes"]}
    assert ("use-base", "cpu") in ways
    chosen = next(fix for fix in state["fixes"] if fix.get("tag") == "cpu")
    assert chosen["choose"] == {"kernel": "", "torch_env": {"accelerator": "cpu"}}


def test_a_failed_build_is_told_with_what_to_remove(rest: Rest, workshop: Desk) -> None:
    """The builder's own reason, and the declared packages that it names."""
    path = write_notebook(
        rest.root / "failed.ipynb", torch_env={"extras": ["plot", "frames>9"]}, kernel="torch-cpu"
    )
    assert workshop.launch(path)["state"] == "failed"
    state = rest.environment("failed.ipynb", "torch-cpu")
    assert state["overlay"]["state"] == "failed"
    assert state["failure"]["error"] == "ResolutionFailed"
    assert {"do": "remove", "name": "frames", "requirement": "frames>9"} in state["fixes"]
    assert not [fix for fix in state["fixes"] if fix["do"] == "replace"], "there is one of that name"
    log = rest.ask("POST", "log", {"path": "failed.ipynb", "kernel": "torch-cpu"}).data
    matches(log, "Log")
    assert log["steps"][-1]["phase"] == "failed"


def test_a_slip_of_the_pen_is_told_with_what_to_write(rest: Rest, workshop: Desk) -> None:
    """The package that was probably meant, with the versions that were asked for."""
    path = write_notebook(
        rest.root / "slip.ipynb", torch_env={"extras": ["Hugingface_hubb[torch]>=0.2 ; python_version>'3'"]}
    )
    assert workshop.launch(path)["state"] == "failed"
    state = rest.environment("slip.ipynb")
    matches(state, "Environment")
    assert (state["failure"]["field"], state["failure"]["meant"]) == (
        "hugingface-hubb",
        "huggingface-hub",
    )
    meant = state["fixes"][0]
    assert (meant["do"], meant["name"]) == ("replace", "hugingface-hubb")
    assert meant["requirement"].startswith("huggingface-hub[torch]>=0.2")
    task = rest.task("changes", {"path": "slip.ipynb", "kernel": "torch"})
    assert task["error"]["meant"] == "huggingface-hub"


def test_a_build_can_be_cancelled(rest: Rest, workshop: Desk) -> None:
    """Its cells are told so at once; the next start builds again. Where nothing is built, nothing ends."""
    body = {"path": "cancel.ipynb", "kernel": "torch-cpu"}
    path = write_notebook(rest.root / "cancel.ipynb", torch_env={"extras": ["plot"]}, kernel="torch-cpu")
    assert rest.ask("POST", "build/cancel", body).data == {"cancelled": False}
    workshop.forget()
    workshop.index.misbehave("/simple/plot/", "wait")
    with ThreadPoolExecutor() as pool:
        launched = pool.submit(workshop.launch, path)
        wait_for(lambda: rest.environment(**body)["overlay"]["state"] == "building", "the build")
        assert rest.environment(**body)["progress"]["phase"] == "plan"
        assert rest.ask("POST", "build/cancel", body).data == {"cancelled": True}
        told = launched.result()
    workshop.index.behave()
    assert "was cancelled" in told["build"]["what"]
    assert rest.environment(**body)["fixes"] == [{"do": "retry"}]
    assert workshop.launch(path)["state"] == "ready"


def test_names_that_nobody_here_knows_and_that_look_well_known_are_marked(rest: Rest, workshop: Desk) -> None:
    """Until another notebook has them: by then somebody has looked."""
    workshop.publish("numpyy", "1.0")
    extras = {"extras": ["numpyy", "plot", "transfomers", "numpy"]}
    path = write_notebook(rest.root / "slip.ipynb", torch_env=extras, kernel="torch-cpu")
    assert rest.environment("slip.ipynb", "torch-cpu")["unfamiliar"] == [
        {"name": "numpyy", "like": "numpy"},
        {"name": "transfomers", "like": "transformers"},
    ]
    set_torch_env(path, {"extras": ["numpyy"]})
    assert workshop.launch(path)["state"] == "ready"
    assert rest.environment("slip.ipynb", "torch-cpu")["unfamiliar"], "its own overlay makes nothing known"
    write_notebook(rest.root / "slip2.ipynb", torch_env={"extras": ["numpyy"]}, kernel="torch-cpu")
    assert rest.environment("slip2.ipynb", "torch-cpu")["unfamiliar"] == []


def test_the_versions_of_a_package_are_listed(rest: Rest, workshop: Desk) -> None:
    """The newest first, whatever the notebook declares; and what is no name is refused."""
    for version in ("1.0", "1.1", "2.0rc1"):
        workshop.publish("listed", version)
    write_notebook(rest.root / "list.ipynb", torch_env={"extras": ["listed<1.1"]}, kernel="torch-cpu")
    body = {"path": "list.ipynb", "kernel": "torch-cpu"}
    assert rest.task("versions", {**body, "name": "Listed"})["result"] == {"versions": ["1.1", "1.0"]}
    for name in ("no-such-thing", "listed @ http://x", "-r /etc/passwd", ""):
        assert rest.task("versions", {**body, "name": name})["state"] == "failed", name


def test_a_lock_is_made_for_the_client_to_write(rest: Rest) -> None:
    """The file is not touched; what comes back is a lock that holds."""
    path = write_notebook(rest.root / "lock.ipynb", torch_env={"extras": ["frames<2"]}, kernel="torch-cpu")
    before = path.read_bytes()
    task = rest.task("lock", {"path": "lock.ipynb", "kernel": "torch-cpu"})
    assert task["state"] == "done", task["error"]
    lock = task["result"]["lock"]
    assert path.read_bytes() == before
    content = {"metadata": {"torch_env": {"extras": ["frames<2"], "lock": lock}}}
    assert rest.environment("lock.ipynb", "torch-cpu", content=content)["lock"]["state"] == "current"
    content["metadata"]["torch_env"]["extras"] = ["frames"]
    assert rest.environment("lock.ipynb", "torch-cpu", content=content)["lock"]["state"] == "stale"


def test_removing_overlays_is_told_first(rest: Rest, workshop: Desk) -> None:
    """A dry run unless it is said otherwise; then what it named goes, and nothing else."""
    path = write_notebook(rest.root / "gone.ipynb", torch_env={"extras": ["frames"]}, kernel="torch-cpu")
    overlay = store.Generation(Path(workshop.launch(path)["overlay"]))
    path.unlink()
    told = rest.task("prune", {})["result"]
    assert str(overlay.path) in [removed["path"] for removed in told["removed"]]
    assert told["dry_run"]
    assert overlay.state() is store.State.READY
    assert not rest.task("prune", {"dry_run": False})["result"]["dry_run"]
    assert not overlay.path.exists()


def test_the_machine_is_told_as_the_commands_tell_it(rest: Rest, workshop: Desk) -> None:
    """Bases, overlays, disk and doctor: the same JSON as with ``--json``."""
    for path, words in (
        ("bases", ("base", "list")),
        ("overlays", ("list",)),
        ("disk", ("du",)),
    ):
        assert rest.ask("GET", path).data == json.loads(workshop.command(*words, "--json").stdout), path
    findings = rest.ask("GET", "doctor").data
    assert {"hardware", "bases", "kernels", "uv"} <= {finding["area"] for finding in findings}
    assert rest.ask("GET", "hardware").data["gpus"] == []
    known = write_notebook(rest.root / "known.ipynb", torch_env={"extras": ["frames"]}, kernel="torch-cpu")
    workshop.launch(known)
    names = rest.ask("GET", "names").data
    assert "torch" in names["base"]
    assert "frames" in names["installed"]


def test_a_task_can_be_cancelled(rest: Rest, workshop: Desk) -> None:
    """It is told as cancelled at once, whatever the index does; and its result is not kept."""
    write_notebook(rest.root / "stop.ipynb", torch_env={"extras": ["waits"]}, kernel="torch-cpu")
    workshop.index.misbehave("/simple/waits/", "wait")
    task = rest.ask("POST", "changes", {"path": "stop.ipynb", "kernel": "torch-cpu"}).data
    assert rest.ask("DELETE", f"tasks/{task['id']}").status == 204
    workshop.index.behave()
    assert rest.ask("GET", f"tasks/{task['id']}").data["state"] == "cancelled"
    assert rest.ask("GET", "tasks/0123").status == 404


def test_no_more_tasks_run_than_may(rest: Rest, workshop: Desk) -> None:
    """One more is refused, and begins once others have ended."""
    write_notebook(rest.root / "many.ipynb", torch_env={"extras": ["waits"]}, kernel="torch-cpu")
    body = {"path": "many.ipynb", "kernel": "torch-cpu"}
    workshop.index.misbehave("/simple/waits/", "wait")
    begun = [rest.ask("POST", "changes", body) for _ in range(4)]
    assert rest.ask("POST", "changes", body).status == 429
    for task in begun:
        rest.ask("DELETE", f"tasks/{task.data['id']}")
    workshop.index.behave()
    assert rest.task("changes", body)["state"] == "failed"
