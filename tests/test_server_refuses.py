"""What the server extension does not do: for strangers, for other sites, for paths that are not there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kernel_provisioner.server import routes
from tests.support.desk import Desk
from tests.support.index import serve_index
from tests.support.notebooks import write_notebook
from tests.support.rest import Rest, serve_rest
from tests.support.waiting import WITHIN, has_ended, wait_for

SECRET = "s3cr3t-password"
ONLY_READERS = """\
from jupyter_server.auth import Authorizer

class OnlyReaders(Authorizer):
    def is_authorized(self, handler, user, action, resource):
        return resource != "torch-overlay" or action == "read"

c.ServerApp.authorizer_class = OnlyReaders
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Bases for cpu and cu124; and an index whose address has a password in it."""
    with serve_index() as index:
        desk = Desk(tmp_path_factory.mktemp("refuses"), index)
        desk.publish("plot")
        yield desk


@pytest.fixture(scope="module")
def rest(workshop: Desk) -> Iterator[Rest]:
    """One server for this module; what lies beside its root is no business of its users."""
    secret = workshop.index.default.replace("http://", f"http://user:{SECRET}@")
    env = {**workshop.env, "UV_DEFAULT_INDEX": secret}
    env["TORCH_OVERLAY_INDEX"] = workshop.index.template.replace("http://", f"http://user:{SECRET}@")
    root = workshop.home / "work"
    write_notebook(workshop.home / "outside.ipynb", torch_env={"extras": ["plot"]})
    write_notebook(root / "inside.ipynb", torch_env={"extras": ["plot"]}, kernel="torch-cpu")
    write_notebook(root / ".hidden/secret.ipynb", torch_env={"extras": ["plot"]})
    (root / "folder").mkdir()
    with serve_rest(root, env) as running:
        yield running


def asked() -> list[tuple[str, str]]:
    """Every method of every route, the path with an id that is none."""
    return [
        (method.upper(), path.replace("([0-9a-f]{1,64})", "00ff"))
        for path, handler in routes.ROUTES
        for method in ("get", "post", "delete")
        if method in vars(handler)
    ]


def test_a_stranger_is_told_nothing(rest: Rest) -> None:
    """Every route refuses who has no token, or a wrong one."""
    for method, path in asked():
        for headers in ({}, {"Authorization": "token 0000"}):
            answer = rest.ask(method, path, {} if method == "POST" else None, headers=headers)
            assert answer.status == 403, (method, path, answer)


def test_another_site_can_ask_for_nothing(rest: Rest) -> None:
    """A browser that is logged in sends its cookie along; without the page's own word that is not enough."""
    login = rest.ask("GET", f"openapi.json?token={rest.server.token}", headers={})
    cookies = re.findall(r"(username-[^=]+=[^;]+)", login.headers.get("Set-Cookie", ""))
    assert login.status == 200
    assert cookies
    for method, path in asked():
        if method != "GET":
            answer = rest.ask(method, path, {"path": "inside.ipynb"}, headers={"Cookie": cookies[0]})
            assert answer.status == 403, (method, path, answer)


@pytest.mark.parametrize(
    "path",
    [
        "", ".", "folder", "nowhere.ipynb", "../outside.ipynb", "folder/../../outside.ipynb", "/etc/passwd",
        "%2e%2e/outside.ipynb", "..%2foutside.ipynb", "..\\outside.ipynb", "in\0side.ipynb", "a" * 5000,
        ".hidden/secret.ipynb", "inside.ipynb/..", "\ud800.ipynb",
    ],
)  # fmt: skip
def test_only_notebooks_of_this_server_are_told_of(rest: Rest, path: str) -> None:
    """What the contents manager does not give is not there, however it is spelt."""
    for route in ("environment", "changes", "lock", "log"):
        answer = rest.ask("POST", route, {"path": path})
        assert 400 <= answer.status < 500, (route, answer)
        assert "plot" not in json.dumps(answer.data)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"{", 400), (b"[]", 400), (b'"x"', 400), (b"\xff\xfe", 400), (b"[" * 100_000, 400),
        (b'{"path": "inside.ipynb", "x": 1}', 400), (b'{"path": 5}', 400),
        (b'{"path": "inside.ipynb", "details": 1}', 400),
        (b'{"path": "inside.ipynb", "kernel": "python3"}', 404),
        (b'{"path": "inside.ipynb", "kernel_id": "nobody"}', 404),
        (b'{"path": "inside.ipynb", "content": []}', 400),
        (b'{"path": "' + b"x" * (100 << 20) + b'"}', 413),
    ],
    ids=range(12),
)  # fmt: skip
def test_a_body_that_is_none_is_refused(rest: Rest, raw: bytes, status: int) -> None:
    """With the status that says why, and no traceback."""
    answer = rest.ask("POST", "environment", raw=raw)
    assert answer.status == status, answer
    assert "Traceback" not in json.dumps(answer.data)


def test_content_of_any_shape_is_a_notebook_or_refused(rest: Rest) -> None:
    """Whatever stands in the places that are read, an answer comes, with no traceback."""
    for content in (
        {}, {"metadata": 5}, {"metadata": {"torch_env": 5}}, {"metadata": {}, "cells": "x"},
        {"metadata": {"torch_env": {"extras": ["x"] * 5000}}}, {"cells": [None, {"cell_type": "code"}]},
        {"metadata": {"torch_env": {"lock": {"packages": "x"}}}},
    ):  # fmt: skip
        answer = rest.ask("POST", "environment", {"path": "inside.ipynb", "content": content})
        assert answer.status == 200, (content, answer)
        assert "Traceback" not in json.dumps(answer.data)


def test_no_answer_holds_a_credential(rest: Rest) -> None:
    """Neither the indexes' nor the server's own."""
    body = {"path": "inside.ipynb", "kernel": "torch-cpu"}
    told = [rest.environment("inside.ipynb", "torch-cpu", details=True), rest.task("changes", body)]
    told += [rest.task("lock", body), rest.ask("POST", "log", body).data]
    told += [rest.ask(method, path).data for method, path in asked() if method == "GET"]
    text = json.dumps(told)
    assert SECRET not in text
    assert rest.server.token not in text


def test_who_may_only_read_changes_nothing(workshop: Desk) -> None:
    """An authorizer tells our resource from others, and reading from writing."""
    config = Path(workshop.env["JUPYTER_CONFIG_DIR"], "jupyter_server_config.py")
    config.write_text(ONLY_READERS)
    root = workshop.home / "readers"
    write_notebook(root / "inside.ipynb", kernel="torch-cpu")
    try:
        with serve_rest(root, workshop.env) as rest:
            assert rest.environment("inside.ipynb", "torch-cpu")["base"]["tag"] == "cpu"
            assert rest.task("versions", {"path": "inside.ipynb", "name": "plot"})["state"] == "done"
            for route, body in (
                ("changes", {"path": "inside.ipynb"}),  # it may build what there is as source alone
                ("lock", {"path": "inside.ipynb"}),
                ("prune", {}),
                ("bases", {"tag": "cpu"}),
            ):
                assert rest.ask("POST", route, body).status == 403, route
    finally:
        config.unlink()


def test_a_configuration_that_cannot_be_used_is_told(rest: Rest, workshop: Desk) -> None:
    """With its fix, by what the panel asks first, and by what looks for faults."""
    config = Path(workshop.env["JUPYTER_CONFIG_DIR"], "jupyter_overlay_config.py")
    config.write_text("raise ValueError('half an edit')\n")
    try:
        for route in ("environment", "log"):
            answer = rest.ask("POST", route, {"path": "inside.ipynb", "kernel": "torch-cpu"})
            assert answer.status == 500
            assert "half an edit" in answer.data["why"], route
            assert answer.data["fix"], route
        (finding,) = rest.ask("GET", "doctor").data
        assert (finding["area"], finding["level"]) == ("settings", "wrong")
    finally:
        config.unlink()


def test_a_server_ends_at_once_whatever_a_task_waits_for(workshop: Desk) -> None:
    """And with it what the task has started; the index never answers, and uv would wait for ten minutes."""
    root = workshop.home / "ends"
    write_notebook(root / "waits.ipynb", torch_env={"extras": ["waits"]}, kernel="torch-cpu")
    workshop.index.misbehave("/simple/waits/", "wait")
    try:
        with serve_rest(root, {**workshop.env, "UV_HTTP_TIMEOUT": "600"}) as rest:
            rest.ask("POST", "changes", {"path": "waits.ipynb", "kernel": "torch-cpu"})
            server = psutil.Process(rest.server.process.pid)
            wait_for(lambda: workshop.index.asked_for("waits"), "uv asks the index")
            begun = server.children(recursive=True)
            assert any(child.name() == "uv" for child in begun)
            rest.server.process.terminate()
            rest.server.process.wait(WITHIN)
            wait_for(lambda: all(has_ended(child.pid) for child in begun), "what it started ends, too")
    finally:
        workshop.index.behave()
