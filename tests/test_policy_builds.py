"""Each rule where packages are installed: the builder refuses, and nothing is left of what it refused."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.settings import CONFIG_NAME
from tests.support.bases import Bench, Built
from tests.support.index import LocalIndex, serve_index
from tests.support.launches import launches
from tests.support.notebooks import write_notebook
from tests.support.wheels import build_sdist, build_wheel


@pytest.fixture(scope="module")
def workbench(workbench: Bench) -> Bench:
    """The module's workshop, with a few packages."""
    workbench.publish("good")
    workbench.publish("bad")
    workbench.publish("needs-bad", requires=["bad"])
    workbench.publish("needs-good", requires=["good"])
    return workbench


@pytest.fixture
def bench(bench: Bench) -> Iterator[Bench]:
    """The workshop as it was at first, without the configuration that the last test's user wrote."""
    users = Path(bench.env["JUPYTER_CONFIG_DIR"], f"{CONFIG_NAME}.json")
    yield bench
    users.unlink(missing_ok=True)


def refused(built: Built, rule: str) -> str:
    """What a waiting cell is told of a refusal by ``rule``; nothing may be staged or published."""
    assert not built.ready
    assert built.staged == []
    assert not (built.path / layout.OVERLAY).exists()
    assert built.failure["error"] == "NotAllowed"
    assert f"rule {rule} = " in built.failure["why"]
    assert "in a test's file" in built.failure["why"]
    assert "ask " in built.failure["fix"]
    return built.told


def rule(bench: Bench, **rules: Any) -> None:
    """Set rules in the user's own configuration file."""
    path = Path(bench.env["JUPYTER_CONFIG_DIR"], f"{CONFIG_NAME}.json")
    path.write_text(json.dumps({"TorchPolicy": rules}))


@pytest.mark.parametrize(
    ("extra", "rules"),
    [
        ("bad", {"denied": ["bad"]}),
        ("needs-bad", {"denied": ["ba*"]}),
        ("good", {"allowed": ["better"]}),
        ("needs-good", {"allowed": ["needs-*"]}),
        ("needs-good", {"max_packages": 1}),
        ("good", {"max_bytes": 100}),
        ("good", {"max_seconds": 0.0}),
        ("good", {"locked_only": True}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_what_a_rule_forbids_is_not_installed(bench: Bench, extra: str, rules: dict[str, Any]) -> None:
    """Nor is it when a cell has run."""
    (name,) = rules
    built = bench.overlay(bench.base(), extra, contact="help@lab.example", **rules)
    assert "ask help@lab.example" in refused(built, name)
    refused(bench.build(bench.begin(bench.base(), extra, **rules), "--cell-ran"), name)


@pytest.mark.parametrize(
    ("extra", "rules"),
    [
        ("needs-good", {"denied": ["bad"], "allowed": ["good", "needs-good"], "max_packages": 2}),
        ("needs-good", {"max_bytes": 1_000_000, "max_seconds": 600.0}),
    ],
    ids=["names", "sizes"],
)
def test_what_no_rule_forbids_is_installed(bench: Bench, extra: str, rules: dict[str, Any]) -> None:
    """The base's own packages, which are in no list, are no obstacle."""
    built = bench.overlay(bench.base(), extra, **rules)
    assert built.installed == {"good": "1.0", "needs-good": "1.0"}


def test_a_denied_extra_is_not_even_looked_up(bench: Bench) -> None:
    """Its name is enough; what an index learns of a private name is nothing."""
    refused(bench.overlay(bench.base(), "bad", denied=["bad"]), "denied")
    assert bench.index.asked == []


def test_a_known_lock_is_judged_again(bench: Bench) -> None:
    """Of an order that was built before somebody else's file changed nothing but the time."""
    first = bench.overlay(bench.base(), "needs-bad")
    assert first.ready
    refused(bench.overlay(bench.base(), "needs-bad", denied=["bad"], notebook="again.ipynb"), "denied")


def test_too_many_bytes_are_refused_before_they_are_fetched_where_the_index_tells(bench: Bench) -> None:
    """And once they are unpacked where it does not."""
    bench.publish("large", files={"large.py": b"x = 1\n" * 100, "large.bin": bytes(range(256)) * 400})
    plain = refused(bench.overlay(bench.base(), "large", max_bytes=50_000), "max_bytes")
    assert "unpacked" in plain
    bench.index.json = True
    bench.publish("larger", files={"larger.py": b"x = 1\n", "larger.bin": dt.__doc__.encode() * 10_000})
    told = refused(bench.overlay(bench.base(), "larger", max_bytes=100), "max_bytes")
    assert "downloads" in told
    assert bench.fetched("larger") == []


def test_a_build_ends_when_its_seconds_are_over(bench: Bench) -> None:
    """Also while uv waits for an index that never answers."""
    bench.index.misbehave("/simple/good/", "hang")
    told = refused(bench.overlay(bench.base(), "good", max_seconds=2.0), "max_seconds")
    assert "not ready within 2 seconds" in told


def test_only_the_indexes_of_the_policy_count(bench: Bench) -> None:
    """Neither uv's variables nor its files add another, from which the same name could come."""
    with serve_index() as other:
        other.publish(build_wheel(bench.wheels / "other", "good", "9.0"))
        other.publish(build_wheel(bench.wheels / "other", "elsewhere"))
        config = bench.home / "uv.toml"
        config.write_text(f'[[index]]\nurl = "{other.default}"\n')
        links = bench.wheels / "other"
        bench.env |= {"UV_CONFIG_FILE": str(config), "UV_FIND_LINKS": str(links)}
        bench.env |= dict.fromkeys(["UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX"], other.default)
        del bench.env["UV_NO_CONFIG"]
        indexes = [bench.index.default, bench.index.template]
        assert bench.overlay(bench.base(), "good", indexes=indexes).installed == {"good": "1.0"}
        built = bench.overlay(bench.base(), "elsewhere", indexes=indexes, notebook="two.ipynb")
        assert not built.ready
        assert other.asked == []


def test_an_address_is_installed_from_only_where_it_is_allowed(bench: Bench) -> None:
    """The very file at that address, with its hash in the lock."""
    wheel = build_wheel(bench.wheels / "addresses", "by-address", "3.0")
    bench.index.publish(wheel)
    address = f"{bench.index.address}/simple/{wheel.name}"
    extra = f"by-address @ {address}"
    built = bench.overlay(bench.base(), extra, allow_urls=[f"{bench.index.address}/simple"])
    assert built.installed == {"by-address": "3.0"}
    told = refused(bench.overlay(bench.base(), extra, allow_urls=["https://w.example/"]), "allow_urls")
    assert address in told


def test_what_comes_from_an_allowed_address_leads_to_no_other(bench: Bench) -> None:
    """A package there can ask for another one by an address of its own: the index has it, or nobody."""
    with serve_index() as other:
        hidden = build_wheel(bench.wheels / "other", "hidden")
        other.publish(hidden)
        needs = [f"hidden @ {other.default}/{hidden.name}"]
        wheel = build_wheel(bench.wheels / "addresses", "leads-on", requires=needs)
        bench.index.publish(wheel)
        extra = f"leads-on @ {bench.index.default}/{wheel.name}"
        rules = {"allow_urls": [bench.index.default]}
        built = bench.overlay(bench.base(), extra, notebook="declared.ipynb", **rules)
        assert not built.ready
        assert built.staged == []
        here = bench.overlay(bench.base(), "good", **rules)
        bench.enter(here)
        answer = json.loads(bench.build(here.generation, "--add", extra).done.stdout)
        assert "hidden" in json.dumps(answer)
        assert "error" in answer
        assert not list(here.path.glob("lib/python*/site-packages/hidden"))


def test_a_notebook_meets_the_policy_of_its_launch(bench: Bench, tmp_path: Path) -> None:
    """An address that nobody allowed is refused at once; one that is allowed reaches the builder."""
    bench.base()
    wheel = build_wheel(bench.wheels / "addresses", "by-address", "3.0")
    bench.index.publish(wheel)
    extra = f"by-address @ {bench.index.address}/simple/{wheel.name}"
    notebook = write_notebook(
        tmp_path / "nb.ipynb", torch_env={"extras": [extra], "policy": {"allow_urls": ["*"]}}
    )
    (none,) = launches([notebook], bench.env)
    assert "is a URL" in none["failure"]["what"]
    rule(bench, allow_urls=[f"{bench.index.address}/simple/"])
    (allowed,) = launches([notebook], bench.env)
    assert allowed["state"] == "ready"
    assert any("'policy' is ignored; only the owner of this machine" in line for line in allowed["notices"])


def test_a_ready_overlay_is_not_started_once_the_policy_forbids_it(bench: Bench, tmp_path: Path) -> None:
    """It is judged again; as soon as the rule is gone the old one serves again."""
    bench.base()
    notebook = write_notebook(tmp_path / "nb.ipynb", torch_env={"extras": ["needs-bad"]})
    (first,) = launches([notebook], bench.env, again=True)
    assert first["state"] == "ready"
    rule(bench, denied=["bad"])
    (second,) = launches([notebook], bench.env)
    assert second["overlay"] != first["overlay"]
    assert second["build"]["error"] == "NotAllowed"
    rule(bench)
    (third,) = launches([notebook], bench.env)
    assert (third["state"], third["overlay"]) == ("ready", first["overlay"])


def test_sources_are_built_of_the_listed_packages_alone(bench: Bench, tmp_path: Path) -> None:
    """After the first cell; one that also has a wheel is not built, whatever the others are."""
    marks = {name: tmp_path / name for name in ("listed", "unlisted", "both")}
    for name, mark in marks.items():
        bench.index.publish(build_sdist(bench.wheels, name, "1.0", mark=mark))
    bench.publish("both")
    base = bench.base()
    rules: dict[str, Any] = {"source_builds": ["listed", "both"]}
    generation = bench.begin(base, "listed", "both", **rules)
    assert bench.build(generation).phases[-1] == "needs-cell"
    assert not any(mark.exists() for mark in marks.values())
    built = bench.build(generation, "--cell-ran")
    assert built.installed == {"both": "1.0", "listed": "1.0"}
    assert marks["listed"].exists()
    assert not marks["both"].exists()
    built = bench.build(bench.begin(base, "unlisted", **rules, notebook="un.ipynb"), "--cell-ran")
    assert not built.ready
    assert 'rule source_builds = ["listed", "both"]' in built.told
    assert not marks["unlisted"].exists()


def test_where_sources_are_never_built_the_rule_is_named(bench: Bench, tmp_path: Path) -> None:
    """At once: no cell can change it."""
    bench.index.publish(build_sdist(bench.wheels, "raw", "1.0", mark=tmp_path / "mark"))
    built = bench.overlay(bench.base(), "raw", source_builds="never", contact="ann")
    assert 'rule source_builds = "never" in a test\'s file' in built.told
    assert "ask ann" in built.told
    assert not (tmp_path / "mark").exists()


def test_where_the_bases_packages_are_pinned_the_rule_is_named(bench: Bench) -> None:
    """Where they are in the way, and only there."""
    bench.publish("wants-old-numpy", requires=["numpy<2"])
    bench.publish("numpy", "1.26")
    assert bench.overlay(bench.base(), "wants-old-numpy").installed["numpy"] == "1.26"
    built = bench.overlay(bench.base(), "wants-old-numpy", pins="all", contact="ann", notebook="pins.ipynb")
    assert 'rule pins = "all" in a test\'s file' in built.told
    assert "ask ann" in built.told
    assert "rule pins" not in bench.overlay(bench.base(), "nowhere", pins="all", notebook="no.ipynb").told


def test_a_file_has_to_be_as_old_as_the_cooldown(bench: Bench) -> None:
    """The newest that is old enough is taken; a notebook can ask for older ones, not for newer."""
    now = dt.datetime.now(dt.timezone.utc)
    for version, days in (("1.0", 30), ("2.0", 10), ("3.0", 1)):
        name = bench.publish("aged", version).name
        bench.index.uploaded[name] = (now - dt.timedelta(days=days)).isoformat().replace("+00:00", "Z")
    bench.index.json = True
    base = bench.base()

    def taken(notebook: str, **rules: str) -> dict[str, str]:
        return bench.overlay(base, "aged", notebook=notebook, **rules).installed

    older = (now - dt.timedelta(days=20)).strftime("%Y-%m-%dT%H:%M:%SZ")
    newer = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert taken("a.ipynb") == {"aged": "3.0"}
    assert taken("b.ipynb", cooldown="7 days") == {"aged": "2.0"}
    assert taken("c.ipynb", cooldown="7 days", exclude_newer=older) == {"aged": "1.0"}
    assert taken("d.ipynb", cooldown="7 days", exclude_newer=newer) == {"aged": "2.0"}
    built = bench.overlay(base, "aged>=3", cooldown="7 days")
    assert 'rule cooldown = "7 days" in a test\'s file' in built.told


def test_what_is_added_in_a_cell_meets_the_policy_of_now(bench: Bench) -> None:
    """That of the launch, and that of the files as they are, whatever the kernel's variables say."""
    built = bench.overlay(bench.base(), "good", denied=["ba*"])
    bench.enter(built)

    def added(*words: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(bench.build(built.generation, "--add", *words).done.stdout)
        return answer

    assert added("needs-bad")["why"] == 'rule denied = ["ba*"] in a test\'s file'
    for rules in ({"denied": ["needs-*"]}, {"allowed": ["good"]}, {"locked_only": True}, {"max_bytes": 10},
                  {"max_packages": 1}, {"max_seconds": 0.0}):  # fmt: skip
        rule(bench, **rules)
        answer = added("needs-good")
        assert answer["error"] == "NotAllowed", answer
        assert f"rule {next(iter(rules))}" in answer["why"]
    rule(bench, indexes=["https://nowhere.example/simple"])
    assert "without an index of the PyTorch packages" in json.dumps(added("needs-good"))
    assert not list(built.path.glob("lib/python*/site-packages/needs*"))
    rule(bench, max_packages=2, max_bytes=100_000, max_seconds=600.0)
    assert added("needs-good")["changed"] == []


def test_rules_of_now_that_no_index_of_the_launch_meets_are_named(bench: Bench) -> None:
    """The mirror has moved: a restart is what helps."""
    built = bench.overlay(bench.base(), "good", indexes=[bench.index.default, bench.index.template])
    bench.enter(built)
    rule(bench, indexes=["https://moved.example/simple", "https://moved.example/{tag}"])
    answer = json.loads(bench.build(built.generation, "--add", "needs-good").done.stdout)
    assert (answer["error"], "restart the kernel" in answer["fix"]) == ("NotAllowed", True)
    assert "TorchPolicy.indexes" in answer["why"]


def test_lock_venv_and_base_obey(bench: Bench, tmp_path: Path) -> None:
    """The commands that install; what they refuse they leave no trace of."""
    bench.base()
    notebook = write_notebook(tmp_path / "nb.ipynb", torch_env={"extras": ["needs-bad"]})
    before = notebook.read_bytes()
    rule(bench, denied=["bad"], contact="ann", indexes=[bench.index.default, bench.index.template])
    for words in (
        ["lock", str(notebook)],
        ["venv", str(tmp_path / "project"), "needs-bad"],
        ["base", "create", "cu126", "--installer", "pip"],
        ["base", "create", "cu126", "--find-links", str(tmp_path)],
    ):
        done = bench.command(*words, "--json", check=False)
        told = json.loads(done.stdout)
        assert (done.returncode, told["error"]) == (2, "NotAllowed"), words
        assert "ask ann" in told["fix"]
    assert notebook.read_bytes() == before
    assert not (tmp_path / "project").exists()


def test_install_only_from_a_lock(bench: Bench, tmp_path: Path) -> None:
    """A locked notebook starts, one whose lock is older than its extras does not."""
    bench.base()
    notebook = write_notebook(tmp_path / "nb.ipynb", torch_env={"extras": ["good"]})
    rule(bench, locked_only=True)
    (unlocked,) = launches([notebook], bench.env)
    assert "jupyter overlay lock" in unlocked["build"]["fix"]
    bench.command("lock", str(notebook))
    (locked,) = launches([notebook], bench.env)
    assert locked["state"] == "ready"
    bench.command("add", str(notebook), "needs-good")
    (stale,) = launches([notebook], bench.env)
    assert stale["build"]["error"] == "NotAllowed"
    done = bench.command("venv", str(tmp_path / "project"), "good", check=False)
    assert "locked_only" in done.stderr


def test_a_lock_is_no_way_around_the_cooldown(bench: Bench, tmp_path: Path) -> None:
    """What was locked before the rule, or on another machine, waits like everything else."""
    bench.base()
    bench.index.json = True
    name = bench.publish("fresh").name
    bench.index.uploaded[name] = dt.datetime.now(dt.timezone.utc).isoformat().replace("+00:00", "Z")
    notebook = write_notebook(tmp_path / "nb.ipynb", torch_env={"extras": ["fresh"]})
    bench.command("lock", str(notebook))
    rule(bench, cooldown="1 hour", locked_only=True, contact="ann")
    (young,) = launches([notebook], bench.env)
    assert young["state"] == "failed"
    assert 'rule cooldown = "1 hour"' in young["build"]["why"]
    assert "ask ann" in young["build"]["fix"]
    bench.index.uploaded[name] = "2024-01-01T00:00:00Z"
    (old,) = launches([notebook], bench.env)
    assert old["state"] == "ready"


def test_offline_is_offline(bench: Bench) -> None:
    """Whoever sets it, nothing is asked."""
    bench.base()
    bench.index.asked.clear()
    built = bench.overlay(bench.base(), "never-seen", offline=True)
    assert not built.ready
    assert bench.index.asked == []


def test_the_index_is_a_real_one(index: LocalIndex) -> None:
    """What the tests above say of it holds: nothing was asked of an index that nobody asked."""
    assert index.asked == []
