"""Of a user's and a system's uv settings a build takes those that say where packages are."""

from __future__ import annotations

from pathlib import Path

import tomli

from kernel_provisioner.uv.configuration import own_settings
from tests.support.bases import Bench

NO_DEPS = "[pip]\nno-deps = true\n"
SETTINGS = """\
override-dependencies = ["denied-one"]
constraint-dependencies = ["wanted<1"]

[pip]
target = "{nowhere}"
no-deps = true
torch-backend = "cu126"

[[index]]
url = "{index}"
default = true
"""


def test_a_users_uv_toml_says_where_packages_are_and_nothing_of_what_is_installed(bench: Bench) -> None:
    """Its index counts; its overrides, constraints, targets and back ends do not reach a build."""
    bench.publish("wanted", "0.9")
    bench.publish("wanted", "2.0", requires=["needed"])
    bench.publish("needed")
    base = bench.base()
    path = bench.home / ".config/uv/uv.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SETTINGS.format(index=bench.env.pop("UV_DEFAULT_INDEX"), nowhere=bench.home / "nowhere"))
    bench.env["XDG_CONFIG_HOME"] = str(bench.home / ".config")
    del bench.env["UV_NO_CONFIG"]
    built = bench.overlay(base, "wanted")
    assert built.installed == {"wanted": "2.0", "needed": "1.0"}
    path.unlink()


def test_settings_of_user_and_system_are_put_together_as_uv_does(tmp_path: Path) -> None:
    """The user's win, lists come one after another, and paths start where their file lies."""
    user, system = tmp_path / "user/uv/uv.toml", tmp_path / "system/uv/uv.toml"
    for path, text in (
        (user, 'find-links = ["wheels"]\nsystem-certs = true\n[[index]]\nurl = "https://a"\n'),
        (
            system,
            'system-certs = false\noffline = true\n[[index]]\nurl = "https://b"\nname = "b"\n' + NO_DEPS,
        ),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    env = {"XDG_CONFIG_HOME": str(tmp_path / "user"), "XDG_CONFIG_DIRS": str(tmp_path / "system")}
    file = tmp_path / "own.toml"
    assert own_settings(env, file) == {"UV_CONFIG_FILE": str(file)}
    assert file.stat().st_mode & 0o077 == 0
    assert tomli.loads(file.read_text()) == {
        "find-links": [str(user.parent / "wheels")], "system-certs": True, "offline": True,
        "index": [{"url": "https://a"}, {"url": "https://b", "name": "b"}],
    }  # fmt: skip


def test_without_any_settings_uv_reads_none(tmp_path: Path) -> None:
    """Not those of the root directory, either, which it works in."""
    env = {"XDG_CONFIG_HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path)}
    assert own_settings(env, tmp_path / "own.toml") == {"UV_NO_CONFIG": "1"}
