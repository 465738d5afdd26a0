"""A package from a Git repository, where the policy allows its address: declared, and built after a cell."""

from __future__ import annotations

import functools
import http.server
import json
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.desk import Desk
from tests.support.wheels import build_sdist

pytestmark = pytest.mark.slow


@pytest.fixture
def repository(desk: Desk, tmp_path: Path) -> Iterator[str]:
    """A commit of a repository that holds a package; the policy allows what is served there."""
    archive = build_sdist(tmp_path, "from-git", mark=tmp_path / "mark", static_metadata=True)
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    source, bare = tmp_path / "from_git-1.0", tmp_path / "served/from-git.git"
    who = ("-c", "user.email=a@b.invalid", "-c", "user.name=n")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "first")):
        subprocess.run(["git", "-C", source, *words], check=True)
    subprocess.run(["git", "clone", "-q", "--bare", source, bare], check=True)
    subprocess.run(["git", "-C", bare, "update-server-info"], check=True)
    head = subprocess.run(
        ["git", "-C", bare, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    answers = functools.partial(_Quiet, directory=str(bare.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"git+http://127.0.0.1:{server.server_port}/"
        config = Path(desk.env["JUPYTER_CONFIG_DIR"]) / "jupyter_overlay_config.py"
        config.write_text(f"c.TorchPolicy.allow_urls = [{address!r}]\n")
        yield f"{address}from-git.git@{head.stdout.strip()}"
        config.unlink()
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_package_from_an_allowed_repository_is_built_after_a_cell(
    desk: Desk, repository: str, tmp_path: Path
) -> None:
    """Nothing of it runs before; then its version is that of the commit, and it is known the next time."""
    notebook = desk.write("git")
    desk.command("add", str(notebook), f"from-git @ {repository}")
    waits = json.loads(desk.command("prebuild", str(notebook), "--json", check=False).stdout)[0]
    assert "must be built from source" in waits["error"]["what"], str(waits["error"])
    assert "there is no wheel of from-git" in waits["error"]["why"]
    assert not (tmp_path / "mark").exists()
    (built,) = json.loads(desk.command("prebuild", str(notebook), "--source-builds", "--json").stdout)
    assert built["state"] == "built", built
    assert (tmp_path / "mark").exists()
    assert desk.command("freeze", str(notebook)).stdout == "from-git==1.0\n"
    assert "from-git 1.0" in desk.command("tree", str(notebook)).stdout


def test_another_repository_is_refused(desk: Desk, repository: str) -> None:
    """The rule names what may be asked for; a path of this machine never may."""
    notebook = desk.write("other-git", "from-git @ git+https://example.invalid/x.git")
    (refused,) = json.loads(desk.command("prebuild", str(notebook), "--json", check=False).stdout)
    assert refused["error"]["error"] == "NotAllowed"
    done = desk.command("add", str(notebook), f"from-git @ file://{desk.home}", check=False)
    assert done.returncode == 2
    assert repository
