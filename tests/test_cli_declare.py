"""``jupyter overlay init``, ``add``, ``remove``, ``tree`` and ``why``: what people know from other tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.support.desk import Desk
from tests.support.notebooks import write_notebook

pytestmark = pytest.mark.slow


def asked(desk: Desk, *words: object) -> Any:
    """What a command prints for a machine."""
    return json.loads(desk.command(*map(str, words), "--json").stdout)


def refused(desk: Desk, *words: object) -> str:
    """What a command that does nothing says on stderr."""
    done = desk.command(*map(str, words), check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    return str(done.stderr)


def extras_of(notebook: Path) -> list[str]:
    """What a notebook's metadata declare."""
    return list(json.loads(notebook.read_text())["metadata"]["torch_env"]["extras"])


# --- init --------------------------------------------------------------------------------------------


def test_a_new_notebook_has_its_kernel_and_its_packages(desk: Desk) -> None:
    """It is a notebook to nbformat, on the kernel that was named, and ``add`` takes it from there."""
    notebook = desk.home / "fresh.ipynb"
    said = asked(desk, "init", desk.home / "fresh", "einops>=0.8", "--kernel", "torch-cu124")
    assert said == {"notebook": str(notebook), "extras": ["einops>=0.8"]}
    nb = nbformat.read(notebook, as_version=nbformat.NO_CONVERT)  # type: ignore[no-untyped-call]
    nbformat.validate(nb)
    assert nb.metadata.kernelspec == {
        "name": "torch-cu124", "display_name": "torch-cu124 (shared)", "language": "python",
    }  # fmt: skip
    assert [cell.source for cell in nb.cells] == [""]
    desk.command("add", str(notebook), "tqdm")
    assert extras_of(notebook) == ["einops>=0.8", "tqdm"]


def test_a_new_notebook_never_takes_the_place_of_a_file(desk: Desk) -> None:
    """Not a byte of it changes, and what a launch would refuse makes no notebook at all."""
    there = desk.write("there", "widget")
    before = there.read_bytes()
    assert "is there already" in refused(desk, "init", there)
    assert there.read_bytes() == before
    for words, told in [
        ((desk.home / "no.ipynb", "-e", "."), "there is no option -e"),
        ((desk.home / "no.ipynb", "./x.whl"), "torch_env.extras[0] is a path"),
        ((desk.home / "no.ipynb", "--kernel", "python3"), "there is no shared torch kernel"),
        ((desk.home / "no.py",), "is no name for a new notebook"),
        ((desk.home / "nowhere/no.ipynb",), "cannot be written"),
    ]:
        assert told in refused(desk, "init", *words)
    assert not list(desk.home.glob("no*"))


# --- add and remove ----------------------------------------------------------------------------------


def test_requirements_files_are_declared(desk: Desk) -> None:
    """With those that they include; comments and markers as pip reads them."""
    (desk.home / "more.txt").write_text("tqdm ; python_version >= '3.10'\n")
    (desk.home / "requirements.txt").write_text("# what we need\neinops>=0.8  # shapes\n-r more.txt\n")
    notebook = desk.write("files", "widget")
    desk.command("add", str(notebook), "-r", str(desk.home / "requirements.txt"))
    assert extras_of(notebook) == ["widget", "einops>=0.8", "tqdm ; python_version >= '3.10'"]


def test_a_requirements_file_cannot_say_where_packages_come_from(desk: Desk) -> None:
    """The line is named, and nothing is written."""
    file = desk.home / "bad.txt"
    file.write_text("einops\n--index-url https://example.invalid/simple\n")
    notebook = desk.write("bad-file", "widget")
    told = refused(desk, "add", notebook, "-r", file)
    assert f"{file}:2 is an option" in told
    assert "leave that line out" in told
    assert extras_of(notebook) == ["widget"]


def test_projects_notebooks_and_scripts_lend_their_packages(desk: Desk) -> None:
    """What a project takes from places of its own is named: a notebook has no such places."""
    (desk.home / "pyproject.toml").write_text(
        '[project]\nname = "x"\nversion = "1"\ndependencies = ["einops>=0.8", "mine"]\n'
        '[tool.uv.sources]\nmine = { path = "../mine" }\n'
    )
    other = desk.write("other", "tqdm<5", torch=">=2.5")
    script = desk.home / "script.py"
    script.write_text('# /// script\n# dependencies = ["rich"]\n# ///\nimport rich\n')
    notebook = desk.write("lent")
    words = [word for file in ("pyproject.toml", other, script) for word in ("--from", str(desk.home / file))]
    done = desk.command("add", str(notebook), *words)
    assert extras_of(notebook) == ["einops>=0.8", "mine", "torch>=2.5", "tqdm<5", "rich"]
    assert "takes mine from places of its own ([tool.uv.sources])" in done.stdout


def test_a_dry_run_shows_every_package_that_would_change(desk: Desk) -> None:
    """What is needed besides, what goes, and what is replaced of the base; the file stays as it is."""
    desk.publish("leaf")
    desk.publish("trunk", "1.0", requires=["leaf"])
    desk.publish("numpy", "1.9")
    notebook = desk.write("dry", "leaf")
    assert desk.launch(notebook)["got"] == {"leaf": "1.0"}
    before = notebook.read_bytes()
    changes = asked(desk, "add", notebook, "trunk", "numpy<2", "--dry-run")["changes"]
    assert changes["packages"] == [
        {"what": "replace", "name": "numpy", "from": "2.1", "to": "1.9"},
        {"what": "add", "name": "trunk", "from": "", "to": "1.0"},
    ]
    text = desk.command("remove", str(notebook), "leaf", "--dry-run").stdout
    assert text.splitlines() == ["dry.ipynb would declare no packages", "  - leaf 1.0"]
    assert notebook.read_bytes() == before
    assert "no solution" in refused(desk, "add", notebook, "leaf>9", "--dry-run").lower()


# --- tree and why ------------------------------------------------------------------------------------


@pytest.fixture
def grown(desk: Desk) -> Path:
    """A notebook whose package needs others, one of them the base's torch; installed."""
    desk.publish("twig", extras={"fine": ["leaf"]})
    desk.publish("leaf")
    desk.publish("branch", requires=["twig[fine]>=1", "torch>=2", "absent; python_version < '3'"])
    notebook = desk.write("grown", "branch", "leaf")
    assert desk.launch(notebook)["got"] == {"branch": "1.0", "leaf": "1.0", "twig": "1.0"}
    return notebook


def test_the_tree_shows_what_is_declared_and_what_that_needs(grown: Path, desk: Desk) -> None:
    """Packages of the base end their branch; what was told already is not told again."""
    lines = desk.command("tree", str(grown)).stdout.splitlines()
    assert lines[0].startswith("grown.ipynb on cpu-torch2.6.0")
    assert lines[1:] == [
        "├── branch 1.0",
        "│   ├── twig 1.0  as twig[fine]>=1",
        "│   │   └── leaf 1.0",
        "│   └── torch 2.6.0+cpu (base)  as torch>=2",
        "└── leaf 1.0",
    ]
    (branch, leaf) = asked(desk, "tree", grown)["packages"]
    assert [need["name"] for need in branch["needs"]] == ["twig", "torch"]
    assert (leaf["origin"], branch["needs"][1]["origin"]) == ("declared", "base")


def test_why_tells_each_way_that_leads_to_a_package(grown: Path, desk: Desk) -> None:
    """From what is declared; and of what is only the base's, who needs it there."""
    assert desk.command("why", str(grown), "Leaf").stdout.splitlines() == [
        "leaf 1.0 is installed, because of",
        "  branch (declared) → twig[fine]>=1 → leaf",
        "  leaf (declared)",
    ]
    lines = desk.command("why", str(grown), "comm").stdout.splitlines()
    assert lines[0].startswith("comm 0.2 is in the base cpu-torch2.6.0")
    assert lines[1] == "  needed by ipykernel"
    assert asked(desk, "why", grown, "twig")["ways"][0][-1]["requirement"] == "twig[fine]>=1"
    assert "did you mean branch?" in refused(desk, "why", grown, "brnch")


def test_what_is_not_installed_yet_has_no_tree(desk: Desk) -> None:
    """And the command that installs it is named."""
    notebook = desk.write("seedling", "leaf")
    assert f"jupyter overlay prebuild {notebook}" in refused(desk, "tree", notebook)


# --- upgrade -----------------------------------------------------------------------------------------


def test_an_upgrade_is_built_at_once_and_the_next_start_has_it(desk: Desk) -> None:
    """Within what is declared; a dry run changes nothing, and a second one finds nothing newer."""
    desk.publish("rising", "1.0")
    desk.publish("steady", "1.0")
    notebook = desk.write("upgraded", "rising<3", "steady")
    first = desk.launch(notebook)
    desk.publish("rising", "2.0")
    desk.publish("rising", "3.0")
    said = asked(desk, "upgrade", notebook, "--dry-run")
    change = {"what": "upgrade", "name": "rising", "from": "1.0", "to": "2.0"}
    assert (said["packages"], said["locked"], said["dry_run"]) == ([change], False, True)
    assert desk.launch(notebook)["overlay"] == first["overlay"]
    done = desk.command("upgrade", str(notebook))
    assert done.stdout.splitlines() == ["  ↑ rising 1.0 → 2.0", "Restart the kernel to use them."]
    desk.index.asked.clear()
    second = desk.launch(notebook)
    assert second["got"] == {"rising": "2.0", "steady": "1.0"}
    assert second["overlay"] != first["overlay"]
    assert desk.index.asked == [], "it was built already"
    assert "has the newest versions" in desk.command("upgrade", str(notebook)).stdout


@pytest.mark.parametrize("locked", [False, True])
def test_only_the_packages_that_are_named_are_upgraded(desk: Desk, locked: bool) -> None:
    """The others keep their versions, in a lock too."""
    names = [f"{name}-{locked}".lower() for name in ("one", "two")]
    for name in names:
        desk.publish(name, "1.0")
    notebook = desk.write(f"named-{locked}", *names)
    if locked:
        desk.lock(notebook)
    desk.launch(notebook)
    for name in names:
        desk.publish(name, "2.0")
    said = asked(desk, "upgrade", notebook, names[0])
    assert [(change["name"], change["to"]) for change in said["packages"]] == [(names[0], "2.0")]
    assert said["locked"] is locked
    assert desk.launch(notebook)["got"] == {names[0]: "2.0", names[1]: "1.0"}


def test_what_cannot_be_upgraded_is_told(desk: Desk) -> None:
    """A misspelt name, and a package of the base, which never changes."""
    desk.publish("settled")
    notebook = desk.write("settled", "settled")
    desk.launch(notebook)
    assert "did you mean settled?" in refused(desk, "upgrade", notebook, "setled")
    told = refused(desk, "upgrade", notebook, "comm")
    assert "comm 0.2 is the base's, which never changes" in told
    assert f'jupyter overlay add {notebook} "comm>0.2"' in told


def test_a_lock_can_be_seen_before_it_is_written(desk: Desk) -> None:
    """Every package that would change is named, and the notebook keeps every byte."""
    desk.publish("seen", "1.0")
    notebook = desk.write("seen", "seen")
    desk.lock(notebook)
    desk.publish("seen", "2.0")
    before = notebook.read_bytes()
    done = desk.command("lock", str(notebook), "--upgrade", "--dry-run")
    assert "  seen 1.0 → 2.0" in done.stdout
    assert "would be locked to 1 package" in done.stdout
    assert notebook.read_bytes() == before


# --- base use ----------------------------------------------------------------------------------------


def test_a_notebook_is_put_on_a_base_by_the_smallest_change(desk: Desk) -> None:
    """The kernel that it names, where that is in the way; said twice, nothing changes."""
    notebook = write_notebook(desk.home / "moved.ipynb", torch_env={"extras": ["x"]}, kernel="torch-cu124")
    said = asked(desk, "base", "use", notebook, "cpu")
    assert (said["base"], said["changed"]) == (desk.cpu.manifest.id, {"kernel": "torch-cpu"})
    metadata = json.loads(notebook.read_text())["metadata"]
    assert metadata["kernelspec"]["display_name"] == "torch-cpu (shared)"
    assert metadata["torch_env"] == {"extras": ["x"]}
    assert asked(desk, "show", notebook)["base"]["tag"] == "cpu"
    before = notebook.read_bytes()
    assert "runs on cpu-torch2.6.0" in desk.command("base", "use", str(notebook), "cpu").stdout
    assert notebook.read_bytes() == before
    chosen = desk.write("chosen", accelerator="cuda")
    assert asked(desk, "base", "use", chosen, desk.cpu.manifest.id)["changed"] == {"accelerator": "cpu"}
    assert asked(desk, "show", chosen)["base"]["tag"] == "cpu"


def test_a_base_that_cannot_hold_the_notebook_is_refused(desk: Desk) -> None:
    """With its reasons, and nothing is written."""
    notebook = desk.write("stays")
    before = notebook.read_bytes()
    told = refused(desk, "base", "use", notebook, "cu124")
    assert "stays.ipynb cannot run on cu124-torch2.6.0" in told
    assert "GPU" in told
    assert "no base 'nope' is registered" in refused(desk, "base", "use", notebook, "nope")
    assert notebook.read_bytes() == before


# --- what is told of a start -------------------------------------------------------------------------


def test_another_base_than_the_last_time_is_told_in_one_line(desk: Desk) -> None:
    """Once, at the first start on it; also where its overlay is there from before."""
    desk.publish("wanders")
    notebook = desk.write("wanders", "wanders")
    cpu, cu124 = desk.cpu.manifest.id, desk.cu124.manifest.id
    assert desk.launch(notebook)["notices"] == []
    told = f"this notebook ran on {cpu} the last time, and runs on {cu124} now"
    assert told in desk.launch(notebook, "cu124")["notices"]
    assert told not in desk.launch(notebook, "cu124")["notices"]
    assert desk.launch(notebook)["notices"] == [
        f"this notebook ran on {cu124} the last time, and runs on {cpu} now"
    ]
    assert desk.launch(notebook)["notices"] == []


def test_what_was_built_and_how_is_told(desk: Desk) -> None:
    """Exact versions, the steps in order; and of a build that failed the whole reason."""
    desk.publish("logged")
    notebook = desk.write("logged", "logged")
    assert desk.command("log", str(notebook)).stdout == "nothing was built yet\n"
    desk.launch(notebook)
    assert desk.command("freeze", str(notebook)).stdout == "logged==1.0\n"
    steps = [line.split()[0] for line in desk.command("log", str(notebook)).stdout.splitlines()]
    assert (steps[0], steps[-1]) == ("plan", "ready")
    desk.command("add", str(notebook), "logged>9")
    assert desk.launch(notebook)["state"] == "failed"
    text = desk.command("log", str(notebook)).stdout
    assert "only logged<=1.0 is available" in text or "logged>9" in text
    assert "\n  fix: " in text
