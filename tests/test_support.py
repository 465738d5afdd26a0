"""The tests' own parts work as the other tests rely on."""

from __future__ import annotations

import csv
import io
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import uv

from tests.support.environ import clean_environment, default_index
from tests.support.index import LocalIndex, Trouble, serve_index
from tests.support.parts import REQUIRE_ALL, need
from tests.support.ports import free_port
from tests.support.pythons import Python
from tests.support.server import RequestFailed, jupyter_server
from tests.support.torch_wheels import build_torch, build_torchvision
from tests.support.waiting import WITHIN, wait_for
from tests.support.wheels import Record, build_sdist, build_wheel, cut_short, flip_a_bit

EMPTY_NOTEBOOK = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'


class Venv:
    """A plain environment that uv installs into; ``env`` is what its subprocesses get."""

    def __init__(self, home: Path, index: LocalIndex | None = None) -> None:
        network = {"UV_HTTP_RETRIES": "0"} if index else {"UV_OFFLINE": "1"}
        self.env = clean_environment(home, index=index, inherited=None, **network)
        self.prefix = home / "venv"
        self._run(uv.find_uv_bin(), "venv", "--python", sys.executable, str(self.prefix))

    def install(self, *what: str | Path) -> subprocess.CompletedProcess[str]:
        """``uv pip install`` into the environment."""
        python = str(self.prefix / "bin/python")
        return self._run(uv.find_uv_bin(), "pip", "install", "--python", python, *map(str, what), check=False)

    def python(self, code: str) -> str:
        """What ``code`` prints in the environment."""
        return self._run(str(self.prefix / "bin/python"), "-c", code).stdout.strip()

    def _run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=self.env, cwd=self.prefix.parent, capture_output=True, text=True, check=check
        )


def test_a_wheel_installs_with_its_entry_points_and_extra_files(tmp_path: Path) -> None:
    """uv takes a built wheel as any other; its script runs and its .pth file counts."""
    wheel = build_wheel(
        tmp_path,
        "Tiny.Package",
        files={
            "tiny_package/__init__.py": "def main():\n    print('it runs')\n",
            "tiny_package.pth": "import sys; sys.tiny_was_here = True\n",
        },
        entry_points={"console_scripts": {"tiny": "tiny_package:main"}},
    )
    venv = Venv(tmp_path)
    assert venv.install(wheel).returncode == 0
    assert subprocess.check_output([venv.prefix / "bin/tiny"], text=True) == "it runs\n"
    assert venv.python("import sys; print(sys.tiny_was_here)") == "True"


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    """Hashes in a lock can be compared between runs."""
    once = build_wheel(tmp_path / "once", "tiny", requires=["other>=1"])
    again = build_wheel(tmp_path / "again", "tiny", requires=["other>=1"])
    assert once.read_bytes() == again.read_bytes()


@pytest.mark.parametrize("record", ["wrong-hash", "names-a-missing-file", "omits-a-file"])
def test_a_lying_record_differs_from_the_files(tmp_path: Path, record: Record) -> None:
    """Each way of lying changes the row that it names, and nothing else."""
    truth = _record(build_wheel(tmp_path / "truth", "tiny"))
    lie = _record(build_wheel(tmp_path / "lie", "tiny", record=record))
    changed = {
        "wrong-hash": ({"tiny/__init__.py"}, {"tiny/__init__.py"}),
        "names-a-missing-file": (set(), {"missing___init__.py"}),
        "omits-a-file": ({"tiny/__init__.py"}, set()),
    }
    assert ({path for path, _ in truth - lie}, {path for path, _ in lie - truth}) == changed[record]


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit])
def test_a_damaged_wheel_is_refused_by_uv(tmp_path: Path, damage: type) -> None:
    """The damage is where an installer meets it."""
    wheel = build_wheel(tmp_path, "tiny")
    damage(wheel)
    assert Venv(tmp_path).install(wheel).returncode != 0


def test_a_source_distribution_marks_that_its_code_ran(tmp_path: Path) -> None:
    """Even resolving runs a back end, unless the metadata is static; installing always does."""
    mark = tmp_path / "mark"
    venv = Venv(tmp_path)
    static = build_sdist(tmp_path / "static", "tiny", mark=mark, static_metadata=True)
    assert venv.install("--dry-run", static).returncode == 0
    assert not mark.exists()
    dynamic = build_sdist(tmp_path / "dynamic", "tiny", mark=mark)
    assert venv.install("--dry-run", dynamic).returncode == 0
    assert mark.exists()
    mark.unlink()
    assert venv.install(static).returncode == 0
    assert "build_wheel" in mark.read_text()
    assert venv.python("import tiny; print(tiny.__version__)") == "1.0"


@pytest.mark.parametrize(
    ("tag", "says"),
    [
        ("cpu", "2.6.0+cpu None None"),
        ("cu124", "2.6.0+cu124 12.4 None"),
        ("cu130", "2.6.0+cu130 13.0 None"),
        ("rocm6.2.4", "2.6.0+rocm6.2.4 None 6.2.4.41133-dd7f95766"),
        ("xpu", "2.6.0+xpu None None"),
    ],
)
def test_a_fake_torch_of_each_tag_installs_from_the_index_of_its_tag(
    tmp_path: Path, index: LocalIndex, tag: str, says: str
) -> None:
    """torch comes from the tag's pages, what it needs from the default index, and it says what it is."""
    index.publish_torch(tag, build_torch(tmp_path / "wheels", tag))
    index.publish(build_torchvision(tmp_path / "wheels", tag), tag=tag)
    venv = Venv(tmp_path, index)
    done = venv.install("torchvision", "--index", index.template.format(tag=tag))
    assert done.returncode == 0, done.stderr
    code = "import torch, torchvision; print(torch.__version__, torch.version.cuda, torch.version.hip)"
    assert venv.python(code) == says
    assert ("nvidia" in done.stderr) == tag.startswith("cu")
    assert venv.python("import torch; print(torch._C._cuda_getArchFlags())") == (
        "sm_70 sm_80 sm_90" if tag.startswith(("cu", "rocm")) else "None"
    )


def test_the_index_records_what_it_was_asked_for(tmp_path: Path, index: LocalIndex) -> None:
    """With PEP 658 a plan needs no wheel: the record shows that none was fetched."""
    index.publish(build_wheel(tmp_path, "tiny", requires=["small"]), build_wheel(tmp_path, "small"))
    venv = Venv(tmp_path, index)
    assert venv.install("--dry-run", "tiny").returncode == 0
    assert [one.path for one in index.asked_for("small")] == [
        "/simple/small/",
        "/simple/small-1.0-py3-none-any.whl.metadata",
    ]
    assert venv.install("tiny").returncode == 0
    assert "/simple/small-1.0-py3-none-any.whl" in [one.path for one in index.asked]


def test_the_index_can_demand_credentials(tmp_path: Path, index: LocalIndex) -> None:
    """Without them 401; with them the page, and the record says who asked."""
    index.publish(build_wheel(tmp_path, "tiny"))
    index.require("someone", "secret")
    assert Venv(tmp_path, index).install("tiny").returncode != 0
    with_them = index.default.replace("://", "://someone:secret@")
    assert Venv(tmp_path / "2", index).install("tiny", "--default-index", with_them).returncode == 0
    assert index.asked[-1].user == "someone"


@pytest.mark.parametrize("trouble", [503, "redirect-loop", "cut-short"])
def test_the_index_misbehaves_where_it_was_told_to(
    tmp_path: Path, index: LocalIndex, trouble: Trouble
) -> None:
    """The path in trouble fails, its neighbour works, and afterwards all is well again."""
    index.publish(build_wheel(tmp_path, "tiny"), build_wheel(tmp_path, "small"))
    index.misbehave("/simple/tiny", trouble)
    venv = Venv(tmp_path, index)
    assert venv.install("tiny").returncode != 0
    assert venv.install("small").returncode == 0
    index.behave()
    assert venv.install("tiny").returncode == 0


def test_a_waiting_index_answers_once_it_behaves(tmp_path: Path, index: LocalIndex) -> None:
    """``wait`` holds a request for as long as a test wants, then answers it properly."""
    index.publish(build_wheel(tmp_path, "tiny"))
    index.misbehave("/simple/tiny", "wait")
    with ThreadPoolExecutor() as pool:
        page = pool.submit(lambda: urllib.request.urlopen(f"{index.default}/tiny/", timeout=WITHIN).read())
        wait_for(lambda: index.asked_for("tiny"), "the request to arrive")
        assert not page.done()
        index.behave()
        assert b"tiny-" in page.result()


@pytest.mark.parametrize("trouble", ["hang", "trickle"])
def test_a_hanging_index_answers_too_late(tmp_path: Path, index: LocalIndex, trouble: Trouble) -> None:
    """The client's own time-out ends the wait; the server is still there for others."""
    index.publish(build_wheel(tmp_path, "tiny"), build_wheel(tmp_path, "small"))
    index.misbehave("/simple/tiny", trouble)
    with socket.create_connection(("127.0.0.1", index.port), timeout=0.5) as client:
        client.sendall(b"GET /simple/tiny/ HTTP/1.1\r\nHost: here\r\n\r\n")
        with pytest.raises(TimeoutError):
            _read_to_the_end(client)
    with urllib.request.urlopen(f"{index.default}/small/") as page:
        assert page.status == 200


def test_unknown_projects_come_from_upstream(tmp_path: Path, index: LocalIndex) -> None:
    """A fake torch and real packages can stand behind one default index."""
    index.publish(build_wheel(tmp_path, "real"))
    with serve_index(upstream=index.default) as front:
        front.publish(build_wheel(tmp_path, "fake"))
        done = Venv(tmp_path, front).install("real", "fake")
    assert done.returncode == 0, done.stderr
    assert not index.asked_for("fake")


def test_a_missing_part_skips_here_and_fails_in_ci() -> None:
    """The reason is printed either way."""
    need(True, "never read", environ={REQUIRE_ALL: "1"})
    with pytest.raises(pytest.skip.Exception, match="no chromium"):
        need(None, "no chromium", environ={})
    with pytest.raises(pytest.fail.Exception, match="no chromium"):
        need(None, "no chromium", environ={REQUIRE_ALL: "1"})


def test_a_clean_environment_keeps_only_how_to_reach_the_registry(tmp_path: Path, index: LocalIndex) -> None:
    """The developer's own session does not speak into a test; a local index is the only one known."""
    inherited = {
        "HOME": "/home/someone",
        "JPY_SESSION_NAME": "/outer.ipynb",
        "PIP_FIND_LINKS": "/wheels",
        "PIP_TARGET": "/elsewhere",
        "SSL_CERT_FILE": "/certificates",
        "UV_CONSTRAINT": "/constraints.txt",
        "VIRTUAL_ENV": "/outer",
    }
    env = clean_environment(tmp_path, inherited=inherited, EXTRA="1")
    assert not {"JPY_SESSION_NAME", "PIP_TARGET", "UV_CONSTRAINT", "VIRTUAL_ENV"} & env.keys()
    assert (env["PIP_FIND_LINKS"], env["SSL_CERT_FILE"], env["EXTRA"]) == ("/wheels", "/certificates", "1")
    assert env["UV_CACHE_DIR"] == "/home/someone/.cache/uv"
    alone = clean_environment(tmp_path, index=index, inherited=inherited)
    assert "PIP_FIND_LINKS" not in alone
    assert alone["UV_DEFAULT_INDEX"] == alone["PIP_INDEX_URL"] == index.default
    assert alone["UV_CACHE_DIR"].startswith(str(tmp_path))


def test_the_machines_registry_is_the_one_that_it_is_configured_with() -> None:
    """uv's word comes before pip's; without either, something that has an address."""
    both = {"UV_DEFAULT_INDEX": "https://uv.example/simple", "PIP_INDEX_URL": "https://pip.example/simple"}
    assert default_index(both) == "https://uv.example/simple"
    assert "://" in default_index({})


@pytest.mark.network
def test_a_fake_and_a_real_package_install_together(tmp_path: Path, front_index: LocalIndex) -> None:
    """What was published here comes from here, the rest from the machine's own registry."""
    front_index.publish(build_wheel(tmp_path, "fake", requires=["traitlets"]))
    done = Venv(tmp_path, front_index).install("fake")
    assert done.returncode == 0, done.stderr
    assert front_index.asked_for("traitlets")


def test_the_machines_pythons_are_true_interpreters(pythons: tuple[Python, ...]) -> None:
    """Each runs, has the version that it claims, and is no environment's link."""
    assert pythons
    for python in pythons:
        code = "import sys; print(*sys.version_info[:2], sep='.'); print(sys.prefix == sys.base_prefix)"
        said = subprocess.check_output([python.executable, "-c", code], text=True)
        assert said.split() == [python.xy, "True"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "app",
    [
        "jupyter_server",
        pytest.param("jupyterlab", marks=pytest.mark.system),
        pytest.param("notebook", marks=pytest.mark.system),
    ],
)
def test_a_server_runs_a_notebook_and_leaves_nothing_behind(tmp_path: Path, app: str) -> None:
    """Output, updates, errors, input, interrupt and restart arrive as a frontend shows them."""
    with jupyter_server(tmp_path / "root", clean_environment(tmp_path), app=app) as server:
        (server.root / "a.ipynb").write_text(EMPTY_NOTEBOOK)
        with server.session("a.ipynb", "python3") as session:
            shown = session.execute(
                "h = display('one', display_id=True)\nh.update('two')\nprint('hi')\n6 * 7"
            )
            assert shown.text == "'two'\nhi\n42\n"
            assert shown.updates == [{"text/plain": "'two'"}]
            assert session.execute("1 / 0").error == "ZeroDivisionError: division by zero"
            assert session.execute("print(input('who? '))", answers=["me"]).stdout == "me\n"
            running = session.begin("import time\nprint('there')\ntime.sleep(600)")
            running.until(lambda seen: "there" in seen.stdout)
            session.interrupt()
            assert running.result().error.startswith("KeyboardInterrupt")
            session.execute("kept = 1")
            session.restart()
            assert session.execute("kept").error.startswith("NameError")
            assert session.ask("complete_request", {"code": "pri", "cursor_pos": 3})["matches"] == ["print"]
            session.rename("b.ipynb")
            assert server.request("GET", "api/sessions")[0]["path"] == "b.ipynb"
            started = psutil.Process(server.process.pid).children(recursive=True)
        with pytest.raises(RequestFailed, match="404"):
            server.request("GET", "api/contents/missing.ipynb")
    assert started
    wait_for(lambda: not any(child.is_running() for child in started), "the kernel to be gone")
    assert server.process.poll() is not None


def test_a_port_is_given_once_and_to_nobody_else() -> None:
    """Not those that are in use, nor any that the system itself would give to whoever asks for any."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        ports = [free_port() for _ in range(100)]
        assert len({*ports, taken.getsockname()[1]}) == 101
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        assert max(ports) < any_port.getsockname()[1]


def test_waiting_in_vain_says_for_what() -> None:
    """The message names the condition."""
    with pytest.raises(AssertionError, match="a wonder"):
        wait_for(lambda: False, "a wonder", within=0.0)


def _record(wheel: Path) -> set[tuple[str, str]]:
    """The rows of RECORD: paths with their hashes."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (member for member in archive.namelist() if member.endswith("/RECORD"))
        return {(row[0], row[1]) for row in csv.reader(io.StringIO(archive.read(name).decode())) if row}


def _read_to_the_end(client: socket.socket) -> None:
    deadline = time.monotonic() + 0.5
    while client.recv(1):
        if time.monotonic() > deadline:
            raise TimeoutError
