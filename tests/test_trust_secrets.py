"""What is secret stays where it is: tokens out of builds, credentials out of logs, messages and locks."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.conftest import TorchBase
from tests.support.bases import Bench
from tests.support.environ import default_index
from tests.support.index import serve_index
from tests.support.launches import launches
from tests.support.notebooks import write_notebook
from tests.support.pauses import Paused
from tests.support.server import jupyter_server
from tests.support.waiting import wait_for
from tests.support.wheels import build_sdist

USER, PASSWORD = "carol", "s3cret-index-password"
TOKENS = {
    name: f"token-of-{name.lower()}"
    for name in (
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_CLIENT_SECRET",
        "GITHUB_TOKEN", "GOOGLE_API_KEY", "HF_TOKEN", "JPY_API_TOKEN", "JUPYTERHUB_API_TOKEN",
        "JUPYTERHUB_CLIENT_SECRET", "KUBECONFIG", "OPENAI_API_KEY", "PGPASSWORD", "UV_PUBLISH_TOKEN",
        "WANDB_API_KEY",
    )
}  # fmt: skip
SPY = """
import os

_pid, _seen = os.getpid(), []
while _pid > 1:  # this process and those above it, as far as the builder
    _seen.append(open(f"/proc/{_pid}/environ", errors="replace").read())
    _command = open(f"/proc/{_pid}/cmdline", errors="replace").read()
    if "kernel_provisioner.builder" in _command:
        _seen.append("the builder was among them")
        break
    _pid = int(open(f"/proc/{_pid}/stat").read().rpartition(")")[2].split()[1])
open(REPORT, "a").write(chr(10).join(_seen))
"""


def spying_sdist(directory: Path, name: str, report: Path) -> Path:
    """A source distribution whose build writes all the environments that it can see to ``report``."""
    path = build_sdist(directory, name, mark=directory / f"{name}-mark")
    with tarfile.open(path) as archive:
        files = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        contents = {member: file.read() for member, file in files.items() if file is not None}
    contents[f"{path.name.removesuffix('.tar.gz')}/backend.py"] += SPY.replace(
        "REPORT", repr(str(report))
    ).encode()
    with tarfile.open(path, "w:gz") as archive:
        for member, data in contents.items():
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def told_in(tree: Path, *secrets: str) -> list[str]:
    """The files of a tree that hold one of the secrets."""
    files = [path for path in tree.rglob("*") if path.is_file()]
    return [str(path) for path in files if any(secret.encode() in path.read_bytes() for secret in secrets)]


@pytest.mark.torch
@pytest.mark.network
@pytest.mark.slow
def test_no_build_sees_the_tokens_of_its_user(tmp_path: Path, torch_base_home: TorchBase) -> None:
    """No builder, before the first cell or after it, and nothing that is built; the kernel does."""
    pause = Paused(tmp_path, "begun")
    overlays = tmp_path / "overlays"
    with serve_index(upstream=default_index()) as index:
        for name in ("spies-first", "spies-later"):
            index.publish(spying_sdist(tmp_path, name, tmp_path / f"{name}.txt"))
        address = index.default.replace("://", f"://{USER}:{PASSWORD}@")
        env = torch_base_home.environment(
            tmp_path, **TOKENS, **pause.env, TORCH_OVERLAY_ROOT=str(overlays), UV_DEFAULT_INDEX=address
        )
        index.require(USER, PASSWORD)
        with jupyter_server(tmp_path / "work", env) as server:
            request = {"accelerator": "cpu", "extras": ["spies-first"]}
            write_notebook(server.root / "nb.ipynb", torch_env=request)
            with server.session("nb.ipynb", "torch-cpu") as session:
                assert_no_token(Path(f"/proc/{pause.reached()}/environ").read_text())
                pause.go()
                cell = session.begin("import os, spies_first; print(os.environ['JUPYTERHUB_API_TOKEN'])")
                wait_for(lambda: len(pause.waiting) == 2, "the builder that may build from source")
                for pid in pause.waiting:
                    if Path(f"/proc/{pid}").exists():
                        assert_no_token(Path(f"/proc/{pid}/environ").read_text())
                pause.go()
                done = cell.result()
                assert done.stdout == TOKENS["JUPYTERHUB_API_TOKEN"] + "\n", done.text
                added = session.execute("%overlay add spies-later")
                assert added.status == "ok", added.text
                log = session.execute("%overlay log").text
        for name in ("spies-first", "spies-later"):
            report = (tmp_path / f"{name}.txt").read_text()
            assert "the builder was among them" in report
            assert_no_token(report)
        assert PASSWORD not in done.text + added.text + log
        assert told_in(overlays, PASSWORD, *TOKENS.values()) == []
        assert PASSWORD not in server.log.read_text()


def assert_no_token(text: str) -> None:
    """None of the user's tokens is in an environment, which is one."""
    assert "PATH=" in text
    assert [name for name, value in TOKENS.items() if value in text] == []


@pytest.fixture(scope="module")
def bench(workbench: Bench) -> Bench:
    """A workshop with a base, whose index offers a private package."""
    workbench.base()
    workbench.publish("private-extra")
    return workbench


def _in_the_url(bench: Bench, password: str) -> Mapping[str, str]:
    login = f"://{USER}:{password}@"
    return {
        "UV_DEFAULT_INDEX": bench.index.default.replace("://", login),
        "TORCH_OVERLAY_INDEX": bench.index.template.replace("://", login),
    }


def _in_netrc(bench: Bench, password: str) -> Mapping[str, str]:
    netrc = bench.home / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login {USER} password {password}\n")
    netrc.chmod(0o600)
    return {"NETRC": str(netrc)}


def _in_variables(bench: Bench, password: str) -> Mapping[str, str]:
    return {
        "UV_DEFAULT_INDEX": f"private={bench.index.default}",
        "UV_INDEX_PRIVATE_USERNAME": USER,
        "UV_INDEX_PRIVATE_PASSWORD": password,
        "TORCH_OVERLAY_INDEX": bench.index.template.replace("://", f"://{USER}:{password}@"),
    }


@pytest.mark.parametrize("way", [_in_the_url, _in_netrc, _in_variables])
@pytest.mark.parametrize("password", [PASSWORD, "an-0ld-password"], ids=["right", "wrong"])
def test_credentials_of_an_index_are_written_nowhere(
    way: Callable[[Bench, str], Mapping[str, str]], password: str, bench: Bench
) -> None:
    """Right or wrong, and however they are given: no record, log, lock or message has them."""
    root = bench.home / f"overlays{way.__name__}-{'right' if password == PASSWORD else 'wrong'}"
    notebook = write_notebook(
        bench.home / "private.ipynb", torch_env={"extras": ["private-extra", "torchvision"]}
    )
    bench.index.require(USER, PASSWORD)
    bench.index.asked.clear()
    env = {**bench.env, **way(bench, password), "TORCH_OVERLAY_ROOT": str(root), "UV_NO_CACHE": "1"}
    try:
        (told,) = launches([notebook], env, pinned="cpu")
    finally:
        bench.index.credentials = None
    if password == PASSWORD:
        assert told["state"] == "ready", told["build"]
    else:
        assert told["state"] == "failed"
        assert "credentials" in told["build"]["fix"] or "401" in told["build"]["why"], told["build"]
    assert USER in {one.user for one in bench.index.asked}  # the first page that refuses it ends uv
    assert password not in json.dumps(told)
    assert told_in(root, password) == []
