"""Libraries of one's own, from directories and Git repositories: this machine knows where."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.desk import Desk, lock_of
from tests.support.index import serve_index
from tests.support.wheels import build_project

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Bases for cpu and cu124, and an index that has another package called as the repository's."""
    with serve_index() as index:
        made = Desk(tmp_path_factory.mktemp("sources"), index)
        made.publish("needed", "2.0")
        made.publish("of-git", "7.0")
        yield made


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A library in a directory, which needs a package of the index."""
    return build_project(tmp_path / "my lib", "mine", requires=["needed>=1"])


@pytest.fixture
def repository(tmp_path: Path) -> str:
    """The address of a repository with two commits; the tag v1 is the first of them."""
    source = build_project(tmp_path / "repo", "of-git")
    who = ("-c", "user.email=a@b.invalid", "-c", "user.name=n")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "1"), ("tag", "v1")):
        subprocess.run(["git", "-C", source, *words], check=True)
    (source / "later").write_text("")
    for words in (("add", "."), (*who, "commit", "-qm", "2")):
        subprocess.run(["git", "-C", source, *words], check=True)
    return f"git+{source.as_uri()}"


def extras_of(notebook: Path) -> list[str]:
    """What a notebook declares."""
    return list(json.loads(notebook.read_text())["metadata"]["torch_env"]["extras"])


def rules(desk: Desk, text: str) -> Path:
    """A policy for this desk, to be removed."""
    config = Path(desk.env["JUPYTER_CONFIG_DIR"]) / "jupyter_overlay_config.py"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(text)
    return config


def test_a_directory_is_installed_as_editable_and_the_notebook_names_the_package(
    desk: Desk, library: Path
) -> None:
    """With what it needs; nothing is built again at a launch, and all commands tell of it."""
    notebook = desk.write("own")
    told = desk.command("add", str(notebook), "-e", str(library)).stdout
    assert f"mine comes from {library}, on this machine and for this notebook" in told
    assert extras_of(notebook) == ["mine"]
    (library / "mark").unlink()
    launched = desk.launch(notebook)
    assert launched["got"] == {"mine": "1.0", "needed": "2.0"}
    assert not (library / "mark").exists(), "a launch has built it"
    (lines,) = Path(launched["overlay"]).glob("staging/lib/python*/site-packages/mine.pth")
    assert lines.read_text() == f"{library}/src\n"
    shown = json.loads(desk.command("show", str(notebook), "--json").stdout)
    assert shown["sources"] == {"mine": f"-e {library}"}
    assert shown["overlay"]["state"] == "ready"
    assert "mine 1.0" in desk.command("tree", str(notebook)).stdout
    assert "mine (declared) → needed" in desk.command("why", str(notebook), "needed").stdout
    assert desk.command("freeze", str(notebook)).stdout.split() == ["mine==1.0", "needed==2.0"]


def test_another_notebook_has_it_only_where_it_was_told(desk: Desk, library: Path) -> None:
    """Whoever names the package alone, a stranger's notebook, gets the index's, or the fix."""
    first, second = desk.write("told"), desk.write("told-too")
    for notebook in (first, second):
        desk.command("add", str(notebook), "-e", str(library))
        assert desk.launch(notebook)["got"] == {"mine": "1.0", "needed": "2.0"}
    strange = desk.launch(desk.write("strange", "mine"))
    assert "there is no package called mine" in strange["build"]["what"]
    assert "jupyter overlay add NOTEBOOK -e DIRECTORY" in strange["build"]["fix"]


def test_a_repository_is_taken_at_its_revision_and_never_mixed_up_with_the_index(
    desk: Desk, repository: str
) -> None:
    """The index has a newer package of that name; who forgets the source gets it."""
    notebook, other = desk.write("git"), desk.write("of-index", "of-git")
    assert desk.launch(other)["got"] == {"of-git": "7.0"}
    told = desk.command("add", str(notebook), f"{repository}@v1").stdout
    assert "of-git comes from git+file://" in told
    assert "@v1 (commit " in told
    assert extras_of(notebook) == ["of-git"]
    assert desk.launch(notebook)["got"] == {"of-git": "1.0"}
    assert desk.launch(other)["got"] == {"of-git": "7.0"}
    desk.forget()
    assert desk.launch(notebook)["got"] == {"of-git": "1.0"}
    removed = desk.command("remove", str(notebook), "of-git").stdout
    assert "of-git: the source on this machine is forgotten" in removed
    desk.command("add", str(notebook), "of-git")
    assert desk.launch(notebook)["got"] == {"of-git": "7.0"}


def test_a_lock_holds_all_but_what_comes_from_here(desk: Desk, library: Path) -> None:
    """It says so; the notebook starts from the lock, with the library."""
    notebook = desk.write("locked")
    desk.command("add", str(notebook), "-e", str(library))
    said = desk.command("lock", str(notebook)).stdout
    assert f"mine comes from {library}, and is not in the lock" in said
    assert [package["name"] for package in lock_of(notebook)["packages"]] == ["needed"]
    assert desk.launch(notebook)["got"] == {"mine": "1.0", "needed": "2.0"}
    desk.forget()
    assert desk.launch(notebook, "cu124")["got"] == {"mine": "1.0", "needed": "2.0"}
    assert desk.command("lock", str(notebook), "--check").returncode == 0
    colleague = desk.home / "elsewhere.ipynb"
    shutil.copy(notebook, colleague)
    refused = desk.launch(colleague)["build"]
    assert "mine" in refused["what"]
    assert "-e DIRECTORY" in refused["fix"]


def test_an_export_says_what_it_cannot_hold(desk: Desk, library: Path) -> None:
    """The library is no file of any index."""
    notebook = desk.write("exported")
    desk.command("add", str(notebook), "-e", str(library))
    done = desk.command("export", str(notebook))
    assert "needed==2.0" in done.stdout
    assert f"# mine comes from {library}, and is not in this file" in done.stdout
    assert "needed" in desk.command("export", str(notebook), "--format", "pylock").stdout


def test_what_changes_in_the_directory_is_said(desk: Desk, library: Path) -> None:
    """What its pyproject.toml says counts once it is added again; a directory that is gone is named."""
    notebook = desk.write("changing")
    desk.command("add", str(notebook), "-e", str(library))
    project = library / "pyproject.toml"
    project.write_text(project.read_text() + "\n")
    (notice,) = desk.launch(notebook)["notices"]
    assert "whose pyproject.toml has changed since" in notice
    desk.command("add", str(notebook), "-e", str(library))
    assert not desk.launch(notebook)["notices"]
    shutil.rmtree(library)
    (notice,) = desk.launch(notebook)["notices"]
    assert "which is gone" in notice


def test_what_is_no_library_is_refused(desk: Desk, tmp_path: Path, repository: str) -> None:
    """With what is wrong; the notebook stays as it is."""
    notebook = desk.write("refused")
    before = notebook.read_bytes()
    broken = build_project(tmp_path / "broken", "broken")
    (broken / "backend.py").write_text("def build_editable(*_): raise RuntimeError('no wheel today')\n")
    for words, said in (
        (["-e", str(tmp_path / "nowhere")], "there is no such directory"),
        (["-e", str(tmp_path)], "it holds no pyproject.toml"),
        (["-e", str(broken)], "no wheel today"),
        ([f"{repository}@nowhere"], "has no nowhere"),
        (["git+ext::sh"], "is no address of a repository"),
        ([f"git+{(tmp_path / 'none').as_uri()}"], "could not be fetched"),
        (["-e", str(broken), "--dry-run"], "--dry-run does not go with"),
    ):
        done = desk.command("add", str(notebook), *words, check=False)
        assert (done.returncode, said in done.stderr) == (2, True), (words, done.stderr)
    assert notebook.read_bytes() == before


@pytest.mark.parametrize(
    ("rule", "git_alone"),
    [
        ("own_sources = False", False),
        ("source_builds = 'never'", False),
        ("source_builds = ['another']", False),
        ("allow_urls = ['git+https://git.example/']", True),
    ],
)
def test_a_policy_forbids_it(desk: Desk, library: Path, repository: str, rule: str, git_alone: bool) -> None:
    """Before anything of it runs; the message names the rule."""
    notebook = desk.write("policy")
    config = rules(desk, f"c.TorchPolicy.{rule}\n")
    (library / "mark").unlink(missing_ok=True)
    try:
        for words in ([repository], ["-e", str(library)]):
            done = desk.command("add", str(notebook), *words, check=False)
            allowed = git_alone and words[0] == "-e"
            assert done.returncode == (0 if allowed else 2), done.stderr
            assert allowed or rule.partition(" ")[0] in done.stderr
            assert allowed or not (library / "mark").exists()
    finally:
        config.unlink()


def test_a_policy_that_comes_later_lets_no_other_package_take_its_place(desk: Desk, repository: str) -> None:
    """The kernel explains; it does not take the index's package of that name."""
    notebook = desk.write("later")
    desk.command("add", str(notebook), repository)
    config = rules(desk, "c.TorchPolicy.own_sources = False\n")
    try:
        told = desk.launch(notebook)
        assert "packages cannot come from a directory or a repository" in told["failure"]["what"]
    finally:
        config.unlink()


def test_a_run_with_more_packages_takes_none_of_that_name_from_an_index(desk: Desk, repository: str) -> None:
    """The index has another one; what is there for one run only comes from indexes alone."""
    notebook = desk.write("with-more", "1")
    desk.command("add", str(notebook), repository)
    done = desk.command("run", str(notebook), "--with", "needed", check=False)
    assert done.returncode == 2
    assert "of-git comes from" in done.stderr
    assert "takes packages from indexes alone" in done.stderr
