"""A policy where a project's lock is installed: what it forbids is refused before there is an environment."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel_provisioner.settings import CONFIG_NAME
from tests.support.index import serve_index
from tests.support.wheels import build_sdist, build_wheel
from tests.test_project_uv import Bench

PACKAGED = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """\
import zipfile
def build_wheel(directory, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(f"{directory}/app-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("app-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: app\\nVersion: 1\\n")
        wheel.writestr("app-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\n")
        wheel.writestr("app-1.dist-info/RECORD", "")
    return "app-1-py3-none-any.whl"
build_editable = build_wheel
"""
Rule = Callable[..., None]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One workshop for this module, whose index says how large and how old its files are."""
    with serve_index() as index:
        bench = Bench(tmp_path_factory.mktemp("policies"), index)
        index.json = True
        old = {name: "2024-01-01T00:00:00Z" for files in index.files.values() for name in files}
        index.uploaded.update(old)
        yield bench


@pytest.fixture
def rule(bench: Bench) -> Iterator[Rule]:
    """Set rules in the user's own configuration file, for one test."""
    path = Path(bench.env["JUPYTER_CONFIG_DIR"], f"{CONFIG_NAME}.json")

    def write(**rules: Any) -> None:
        path.write_text(json.dumps({"TorchPolicy": rules}))

    yield write
    path.unlink(missing_ok=True)


@pytest.fixture
def project(bench: Bench, tmp_path: Path) -> Path:
    """A project that needs two packages beside torch, locked, with no environment."""
    return bench.project(tmp_path)


def needing(bench: Bench, project: Path, *names: str) -> None:
    """Let the project need these packages too, and lock it."""
    text = (project / "pyproject.toml").read_text()
    more = "".join(f', "{name}"' for name in names)
    (project / "pyproject.toml").write_text(text.replace('"plain"', f'"plain"{more}'))
    bench.plain(project, "lock")


def packaged(bench: Bench, project: Path) -> None:
    """Let the project be installed itself, too, from its directory."""
    with (project / "pyproject.toml").open("a") as file:
        file.write(PACKAGED)
    (project / "backend.py").write_text(BACKEND)
    bench.plain(project, "lock")


def refused(bench: Bench, project: Path, name: str) -> dict[str, Any]:
    """What is told of a refusal by the rule ``name``; nothing may have been made, and uv.lock stays."""
    lock = (project / "uv.lock").read_bytes()
    told = bench.venv(project, "--extra", "cpu", check=False)
    assert told.get("error") == "NotAllowed", told
    assert f"rule {name} = " in told["why"]
    assert "; or ask ann" in told["fix"]
    assert not (project / ".venv").exists()
    assert (project / "uv.lock").read_bytes() == lock
    return told


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"denied": ["plain"]}, '"plain" in uv.lock is not allowed'),
        ({"allowed": ["plain"]}, '"needs-torch" in uv.lock is not allowed'),
        ({"max_packages": 1}, "the packages of uv.lock come to 2 packages"),
        ({"max_bytes": 100}, "the packages of uv.lock are downloads of at least"),
        ({"max_seconds": 0.0}, "not ready within 0 seconds"),
        ({"cooldown": "9999 days"}, "needs_torch-1.0-py3-none-any.whl has been published for"),
        (
            {"indexes": ["https://nowhere.example/simple", "https://nowhere.example/whl/{tag}"]},
            "is not among the allowed indexes",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_a_rule_forbids_of_a_lock_is_not_installed(
    bench: Bench, project: Path, rule: Rule, rules: dict[str, Any], said: str
) -> None:
    """By name, number, size, age and place; once the rule is gone it is."""
    (name,) = rules
    rule(**rules, contact="ann")
    assert said in refused(bench, project, name)["what"]
    rule()
    assert set(bench.venv(project, "--extra", "cpu")["installed"]) == {"needs-torch", "plain"}


def test_what_no_rule_forbids_of_a_lock_is_installed(bench: Bench, project: Path, rule: Rule) -> None:
    """What the base has is in no list, and no obstacle; nor is what torch alone needs."""
    lock = (project / "uv.lock").read_bytes()
    rule(allowed=["plain", "needs-torch"], max_packages=2, max_bytes=100_000, cooldown="7 days",
         locked_only=True, source_builds="never", own_sources=False, pins="all", max_seconds=600.0,
         indexes=[bench.index.default, bench.index.template])  # fmt: skip
    made = bench.venv(project, "--extra", "cpu")
    assert set(made["installed"]) == {"needs-torch", "plain"}
    assert (project / "uv.lock").read_bytes() == lock


def test_a_file_that_is_too_young_is_refused_and_so_is_one_of_unknown_age(
    bench: Bench, project: Path, rule: Rule
) -> None:  # fmt: skip
    """As the lock says it; a wheel for another system does not count."""
    fresh, unknown = bench.publish("fresh"), bench.publish("ageless")
    now = dt.datetime.now(dt.timezone.utc).isoformat().replace("+00:00", "Z")
    bench.index.uploaded[fresh.name] = now
    bench.index.uploaded[bench.publish("several").name] = "2024-01-01T00:00:00Z"
    windows = build_wheel(bench.wheels / "default", "several", tag="cp311-cp311-win_amd64")
    bench.index.publish(windows)
    bench.index.uploaded[windows.name] = now
    rule(cooldown="7 days", contact="ann")
    needing(bench, project, "several")
    assert "several" in bench.venv(project, "--extra", "cpu")["installed"]
    shutil.rmtree(project / ".venv")
    needing(bench, project, "fresh")
    assert f"{fresh.name} has been published for 0 hours" in refused(bench, project, "cooldown")["what"]
    (project / "pyproject.toml").write_text(
        (project / "pyproject.toml").read_text().replace('"fresh"', '"ageless"')
    )
    bench.plain(project, "lock")
    assert f"{unknown.name} has been published for an unknown" in refused(bench, project, "cooldown")["what"]


def test_nothing_is_built_that_may_not_be(
    bench: Bench, project: Path, rule: Rule, tmp_path: Path
) -> None:  # fmt: skip
    """A package without a wheel, and the project itself; what is listed is built."""
    mark = tmp_path / "mark"
    sdist = build_sdist(tmp_path, "rawone", mark=mark, static_metadata=True)
    bench.index.publish(sdist)
    needing(bench, project, "rawone")
    rule(source_builds="never", contact="ann")
    assert refused(bench, project, "source_builds")["what"].startswith('"rawone" would be built')
    packaged(bench, project)
    rule(source_builds=["rawone"], contact="ann")
    told = refused(bench, project, "source_builds")
    assert told["what"].startswith('"app" would be built')
    assert "package = false" in told["fix"]
    assert not mark.exists()
    rule(source_builds=["rawone", "app"])
    assert {"app", "rawone"} <= set(bench.venv(project, "--extra", "cpu")["installed"])
    assert mark.exists()


def test_directories_are_kept_out(bench: Bench, project: Path, rule: Rule, tmp_path: Path) -> None:
    """Where users can add none of their own: the project's, and others that it names."""
    packaged(bench, project)
    rule(own_sources=False, contact="ann")
    assert '"app" cannot come from a directory' in refused(bench, project, "own_sources")["what"]
    text = (project / "pyproject.toml").read_text().replace(PACKAGED, "")
    library = tmp_path / "library"
    library.mkdir()
    (library / "pyproject.toml").write_text(
        f'[project]\nname = "library"\nversion = "1"\nrequires-python = ">=3.10"\n{PACKAGED}'
    )
    text = text.replace('"plain"', '"plain", "library"')
    text = text.replace("[tool.uv.sources]", '[tool.uv.sources]\nlibrary = { path = "../library" }')
    (project / "pyproject.toml").write_text(text)
    bench.plain(project, "lock")
    told = refused(bench, project, "own_sources")
    assert '"library" cannot come from a directory' in told["what"]
    assert "name the package alone" in told["fix"]


def test_a_lock_is_needed_where_packages_come_only_from_locks(
    bench: Bench, project: Path, rule: Rule
) -> None:  # fmt: skip
    """uv.lock is one; it has to be there, and to be of now."""
    rule(locked_only=True, contact="ann")
    text = (project / "pyproject.toml").read_text()
    (project / "pyproject.toml").write_text(text.replace('"plain"', '"plain", "more"'))
    told = refused(bench, project, "locked_only")
    assert f"uv lock --directory {project}" in told["fix"]
    (project / "uv.lock").unlink()
    told = bench.venv(project, "--base", "cpu", check=False)
    assert (told["error"], (project / "uv.lock").exists()) == ("NotAllowed", False)
    bench.plain(project, "lock")
    assert "more" in bench.venv(project, "--extra", "cpu")["installed"]


def test_no_package_of_the_base_is_replaced_where_all_are_pinned(
    bench: Bench, project: Path, rule: Rule
) -> None:  # fmt: skip
    """The lock has another numpy than the base."""
    bench.index.uploaded[bench.publish("numpy", "1.26").name] = "2024-01-01T00:00:00Z"
    needing(bench, project, "numpy<2")
    rule(pins="all", contact="ann")
    told = bench.venv(project, "--extra", "cpu", check=False)
    assert "numpy" in told["what"]
    assert 'rule pins = "all"' in told["why"]
    assert not (project / ".venv").exists()
    rule()
    assert bench.venv(project, "--extra", "cpu")["installed"]["numpy"] == "1.26"


def test_the_indexes_of_the_policy_reach_the_installation(
    bench: Bench, project: Path, rule: Rule, tmp_path: Path
) -> None:  # fmt: skip
    """Also what a build needs comes from them, and from no index that the user's variables name."""
    bench.publish("tool-of-builds", "1.0")
    bench.index.publish(
        build_sdist(tmp_path, "rawtwo", mark=tmp_path / "mark", static_metadata=True,
                    build_requires=["tool-of-builds"])
    )  # fmt: skip
    needing(bench, project, "rawtwo")
    rule(indexes=[bench.index.default, bench.index.template])
    before = dict(bench.env)
    with serve_index() as other:
        bench.env |= dict.fromkeys(["UV_INDEX", "UV_DEFAULT_INDEX"], other.default)
        try:
            assert "rawtwo" in bench.venv(project, "--extra", "cpu")["installed"]
        finally:
            bench.env = before
        assert other.asked == []


def test_offline_reaches_the_installation(bench: Bench, project: Path, rule: Rule) -> None:
    """What is not in uv's cache is not fetched."""
    bench.publish("never-fetched")
    needing(bench, project, "never-fetched")
    bench.uv.run("cache", "clean", "never-fetched").check("no")
    bench.index.asked.clear()
    rule(offline=True)
    told = bench.venv(project, "--extra", "cpu", check=False)
    assert told["error"] == "InstallFailed"
    assert bench.index.asked == []


def test_an_environment_that_is_repaired_obeys(bench: Bench, project: Path, rule: Rule) -> None:
    """``jupyter overlay sync`` installs what the lock selects, within the rules of now."""
    bench.venv(project, "--extra", "cpu")
    needing(bench, project, "more")
    rule(denied=["more"], contact="ann")
    told = json.loads(bench.command("sync", str(project), "--json", check=False).stdout)
    assert told["error"] == "NotAllowed"
    assert "more" not in bench.names(project)
    rule(denied=["other"])
    bench.command("sync", str(project))
    assert "more" in bench.names(project)
