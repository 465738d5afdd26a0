"""uv: found, checked, driven from a neutral place, and its words understood."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from kernel_provisioner.errors import InstallFailed, ResolutionFailed, UvUnusable
from kernel_provisioner.policy import Layer, Policy
from kernel_provisioner.uv import client, discovery, messages
from tests.support.bases import Workshop
from tests.support.wheels import build_wheel


@pytest.fixture
def python(shop: Workshop) -> Path:
    """The interpreter of an empty environment."""
    return shop.environment("venv") / "bin/python"


def _program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_the_uv_that_came_with_this_package_is_used() -> None:
    """Not whichever stands first on PATH; and it is new enough."""
    found = client.find_uv({"PATH": "/nowhere"})
    assert os.access(found.path, os.X_OK)
    assert found.version >= discovery.MINIMUM


@pytest.mark.fault(28)
@pytest.mark.parametrize(
    ("script", "what", "why"),
    [
        ("echo uv 0.4.30", "is too old", "or newer is needed"),
        ("echo what", "is too old", "or newer is needed"),
        ("exit 3", "does not answer", "status 3"),
        ("exec /no/such/thing", "does not answer", "No such file|not found"),
    ],
)
def test_a_uv_that_cannot_be_used_is_told_with_the_fix(
    tmp_path: Path, script: str, what: str, why: str
) -> None:
    """Too old, silent, broken: the command that fixes it."""
    with pytest.raises(UvUnusable, match=what) as caught:
        discovery.checked_version(_program(tmp_path / "uv", script))
    assert caught.value.fix.startswith("pip install -U uv")
    assert re.search(why, caught.value.why)


def test_a_file_that_is_no_program_is_told(tmp_path: Path) -> None:
    """As a half-copied binary."""
    path = tmp_path / "uv"
    path.write_bytes(b"\x7fELF\x02\x01\x01")
    path.chmod(0o755)
    with pytest.raises(UvUnusable, match="does not answer"):
        discovery.checked_version(str(path))


def test_settings_beside_the_notebook_never_count(shop: Workshop, python: Path, tmp_path: Path) -> None:
    """uv works in the root directory: a ``uv.toml`` or ``pyproject.toml`` elsewhere changes nothing."""
    for name, table in (("uv.toml", ""), ("pyproject.toml", "[tool.uv]\n")):
        (tmp_path / name).write_text(table + '[[index]]\nurl = "http://127.0.0.1:9/evil"\ndefault = true\n')
    shop.publish("tiny")
    wanted = tmp_path / "wanted.txt"
    wanted.write_text("tiny\n")
    env = {key: value for key, value in shop.uv.env.items() if key != "UV_NO_CONFIG"}
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        plan = shop.uv._replace(env=env).plan(python, wanted, [])
    finally:
        os.chdir(before)
    assert plan == [client.Change("tiny", "1.0")]


def test_the_users_own_settings_count(shop: Workshop, python: Path, tmp_path: Path) -> None:
    """In their home, as for every uv that they run."""
    settings = tmp_path / "config/uv/uv.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text(f'[[index]]\nurl = "{shop.index.default}"\ndefault = true\n')
    shop.publish("tiny")
    wanted = tmp_path / "wanted.txt"
    wanted.write_text("tiny\n")
    env = {key: value for key, value in shop.env.items() if key not in ("UV_NO_CONFIG", "UV_DEFAULT_INDEX")}
    tool = client.find_uv({**env, "XDG_CONFIG_HOME": str(tmp_path / "config")})
    assert tool.plan(python, wanted, []) == [client.Change("tiny", "1.0")]


def test_a_plan_says_what_goes_in_and_out_and_changes_nothing(
    shop: Workshop, python: Path, tmp_path: Path
) -> None:
    """New, replaced, and already there."""
    for name, version in (("stays", "1.0"), ("moves", "1.0"), ("moves", "2.0"), ("comes", "1.0")):
        shop.publish(name, version)
    shop.uv.run("pip", "install", "--python", python, "stays", "moves==1.0").check("install")
    wanted = tmp_path / "wanted.txt"
    wanted.write_text("stays\nmoves>=2\ncomes\n")
    plan = shop.uv.plan(python, wanted, [])
    assert sorted(plan, key=lambda change: change.name) == [
        client.Change("comes", "1.0"),
        client.Change("moves", "2.0", replaces="1.0"),
    ]
    listed = shop.uv.run("pip", "list", "--python", python, "--format", "freeze").stdout
    assert listed.split() == ["moves==1.0", "stays==1.0"]


def test_a_lock_has_hashes_and_indexes_and_nothing_of_this_machine(
    shop: Workshop, python: Path, tmp_path: Path
) -> None:
    """It may travel in a notebook."""
    shop.publish("tiny")
    pins = tmp_path / "pins.txt"
    pins.write_text("tiny==1.0\n")
    text = shop.uv.lock(python, pins, [])
    (package,) = client.locked_packages(text)
    assert (package["name"], package["version"]) == ("tiny", "1.0")
    assert package["index"] == shop.index.default
    assert len(package["wheels"][0]["hashes"]["sha256"]) == 64
    assert str(tmp_path) not in text


def test_exactly_the_locked_files_are_installed_where_they_are_wanted(
    shop: Workshop, python: Path, tmp_path: Path
) -> None:
    """Under a prefix of its own, with no dependency that the lock does not name."""
    shop.publish("tiny", requires=["never-published"])
    pins = tmp_path / "pins.txt"
    pins.write_text("tiny==1.0\n")
    lock = tmp_path / "pylock.toml"
    lock.write_text(shop.uv.lock(python, pins, []))
    heard: list[str] = []
    shop.uv.install_lock(python, lock, tmp_path / "prefix", [], on_line=heard.append)
    assert list((tmp_path / "prefix").glob("lib/python*/site-packages/tiny/__init__.py"))
    assert not list(python.parents[1].glob("lib/python*/site-packages/tiny"))
    assert any("tiny==1.0" in line for line in heard)


@pytest.mark.parametrize("text", ["", "lock-version =", "\0", "packages = 3"])
def test_a_damaged_lock_names_no_packages(text: str) -> None:
    """Whoever finds none solves again."""
    assert client.locked_packages(text) == []


def test_the_users_own_indexes_and_links_come_after_ours() -> None:
    """In the variables that uv reads them from; a path with a comma is spelt so that it stays one."""
    users = {"UV_INDEX": "corp=https://a/simple  https://b/simple", "UV_FIND_LINKS": "/srv/wheels"}
    tool = client.Uv("uv", discovery.MINIMUM, users).at("http://ours", "/a, b", "https://h/c,d")
    assert tool.env == {
        "UV_INDEX": "http://ours corp=https://a/simple https://b/simple",
        "UV_FIND_LINKS": "file:///a%2C%20b,https://h/c%2Cd,/srv/wheels",
    }
    alone = client.Uv("uv", discovery.MINIMUM, {}).at("x")
    assert alone.env == {"UV_INDEX": "x"}


@pytest.mark.parametrize(("said", "seconds"), [("", 30), ("300", 300), ("soon", 30)])
def test_patience_follows_the_users_own_setting(said: str, seconds: int) -> None:
    """UV_HTTP_TIMEOUT; a page of PyTorch's index has to be there before uv itself gives up."""
    tool = client.Uv("uv", discovery.MINIMUM, {"UV_HTTP_TIMEOUT": said})
    assert tool.http_timeout == seconds
    assert 0 < tool.page_timeout < seconds


@pytest.mark.fault(28)
def test_a_uv_that_hangs_is_ended(tmp_path: Path) -> None:
    """Whatever keeps it; the message says how to give it more time."""
    env = {"UV_HTTP_TIMEOUT": "1", "PATH": os.defpath}
    impatient = client.Uv(_program(tmp_path / "uv", "sleep 600"), discovery.MINIMUM, env, planning=1)
    with pytest.raises(InstallFailed, match="did not end within 1 seconds") as caught:
        impatient.run("pip", "compile")
    assert "UV_HTTP_TIMEOUT" in caught.value.fix


def test_offline_reaches_uv(shop: Workshop, python: Path, tmp_path: Path) -> None:
    """No request leaves the machine, and the message says why."""
    shop.publish("tiny")
    wanted = tmp_path / "wanted.txt"
    wanted.write_text("tiny\n")
    with pytest.raises(InstallFailed) as caught:
        client.find_uv(shop.env, policy=Policy((Layer("a test", {"offline": True}),))).plan(
            python, wanted, []
        )
    assert "go online once" in caught.value.fix
    assert shop.index.asked == []


@pytest.mark.parametrize(("words", "said"), [((), ""), (("--offline",), ""), ((), "True"), ((), "false")])
def test_certificates_are_read_only_where_the_network_may_be_used(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    """A hundred files at each start of uv, and a cell waits for it."""
    env = {"SSL_CERT_DIR": "/etc/ssl/certs", "UV_SYSTEM_CERTS": "1", "KEPT": "1"}
    if said:
        env["UV_OFFLINE"] = said
    tool = client.Uv(_program(tmp_path / "uv", "/usr/bin/env"), discovery.MINIMUM, env)
    seen = dict(line.partition("=")[::2] for line in tool.run("pip", "list", *words).stdout.splitlines())
    assert seen["KEPT"] == "1"
    assert {"SSL_CERT_DIR", "UV_SYSTEM_CERTS"}.isdisjoint(seen) is (bool(words) or said == "True")


NO_SOLUTION = """Using Python 3.11.7 environment at: /x
error: No solution found when resolving dependencies
  cause: Because a needs b>2 and you require a, we can conclude that your requirements are unsatisfiable.
"""


@pytest.mark.parametrize(
    ("stderr", "kind", "why", "fix"),
    [
        (NO_SOLUTION, ResolutionFailed, "Because a needs b>2", ""),
        ("error: No solution found\n  hint: packages were unavailable because the network was disabled\n",
         InstallFailed, "network was disabled", "go online once"),
        ("error: Failed to fetch: `https://h/a/`\n  cause: dns error\n", InstallFailed, "dns", "network"),
        ("error: HTTP status server error (503 Service Unavailable) for url (https://h/a)\n",
         InstallFailed, "503", "network"),
        ("error: No solution found\nhint: could not be queried (401 Unauthorized)\n",
         InstallFailed, "401", "credentials"),
        ("error: Failed to parse environment variable `UV_OFFLINE`: expected a boolish value\n",
         InstallFailed, "boolish", "unset UV_OFFLINE"),
        ("error: failed to write: No space left on device (os error 28)\n",
         InstallFailed, "No space", "free space"),
        ("error: Could not acquire lock\n  cause: failed to lock `/c`: No locks available (os error 37)\n",
         InstallFailed, "No locks available", "UV_CACHE_DIR"),
        ("error: Hash mismatch for `a==1`\n", InstallFailed, "Hash mismatch", "try again"),
        ("  \u00d7 Failed to build `a==1`\n  \u251c\u2500\u25b6 it is broken\n",
         InstallFailed, "Failed to build", "try again"),
        ("", InstallFailed, "", "try again"),
    ],
)  # fmt: skip
def test_what_uv_says_becomes_a_reason_and_a_fix(
    stderr: str, kind: type[InstallFailed], why: str, fix: str
) -> None:
    """Whether there is no solution, or whether it could not be looked for."""
    error = messages.failure("it failed", stderr)
    assert type(error) is kind
    assert why in error.why
    assert fix in error.fix
    assert "Using Python" not in error.why


def test_credentials_never_stand_in_a_message(shop: Workshop, python: Path, tmp_path: Path) -> None:
    """Whatever uv prints."""
    build_wheel(tmp_path / "wheels", "tiny")
    wanted = tmp_path / "wanted.txt"
    wanted.write_text("tiny\n")
    private = shop.index.default.replace("http://", "http://me:s3cret@")
    shop.index.require("me", "another")
    with pytest.raises((InstallFailed, ResolutionFailed)) as caught:
        shop.uv.plan(python, wanted, ["--default-index", private])
    assert "s3cret" not in str(caught.value)
