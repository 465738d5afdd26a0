"""The file that a run writes to: what was saved there meanwhile is never lost, nor is the run's result."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from kernel_provisioner.errors import OverlayError
from kernel_provisioner.runs.execute import load_notebook
from kernel_provisioner.runs.output import Output, Written
from tests.support.notebooks import printed_in, write_notebook


def ran(path: Path, output: Output, printed: str = "ran") -> Written:
    """What is written once the notebook at ``path`` has run and printed."""
    nb = load_notebook(path)
    output_of = nbformat.v4.new_output("stream", text=printed)  # type: ignore[no-untyped-call]
    nb.cells[0].outputs = [output_of]
    return output.write(nb, path)


def test_what_was_saved_while_cells_ran_stays_and_the_outputs_go_beside_it(tmp_path: Path) -> None:
    """In one sentence, which names both files; a second time under another name."""
    path = write_notebook(tmp_path / "train.ipynb", "1")
    path.chmod(0o640)
    for name in ("train.executed.ipynb", "train.executed-2.ipynb"):
        output = Output.at(str(path))
        write_notebook(path, "1", f"'typed before {name}'")
        written = ran(path, output)
        assert written.path == tmp_path / name
        assert written.notice == (
            "train.ipynb was changed while the cells ran, as by saving it, so it is kept, "
            f"and the outputs are in {tmp_path / name}"
        )
        assert printed_in(written.path) == "ran"
        assert written.path.stat().st_mode & 0o777 == 0o640
        assert f"typed before {name}" in path.read_text()
    assert sorted(item.name for item in tmp_path.iterdir()) == [
        "train.executed-2.ipynb", "train.executed.ipynb", "train.ipynb",
    ]  # fmt: skip


def test_a_file_that_appeared_meanwhile_is_kept_and_one_that_went_is_not_made_again(tmp_path: Path) -> None:
    """Whoever made or moved it had a reason."""
    path = write_notebook(tmp_path / "train.ipynb", "1")
    output = Output.at(str(tmp_path / "out.ipynb"))
    output.path.write_text("mine")
    assert ran(path, output).path == tmp_path / "out.executed.ipynb"
    assert output.path.read_text() == "mine"
    gone = Output.at(str(output.path))
    output.path.unlink()
    assert ran(path, gone).path == tmp_path / "out.executed-2.ipynb"
    assert not output.path.exists()


def test_a_file_as_it_was_is_replaced_and_a_new_one_has_the_notebooks_permissions(tmp_path: Path) -> None:
    """A link stays a link; the longest name that a file can have is no reason to lose a run."""
    path = write_notebook(tmp_path / "train.ipynb", "1")
    path.chmod(0o600)
    link = tmp_path / "link.ipynb"
    link.symlink_to(path)
    assert ran(path, Output.at(str(link)), "in place") == Written(path)
    assert link.is_symlink()
    assert printed_in(path) == "in place"
    new = tmp_path / ("x" * 249 + ".ipynb")
    output = Output.at(str(new))
    assert ran(path, output) == Written(new)
    assert new.stat().st_mode & 0o777 == 0o600
    assert ran(path, output).path.name == "x" * 200 + ".executed.ipynb"


def test_what_no_encoding_has_is_escaped(tmp_path: Path) -> None:
    """Half of a surrogate pair, which a cell can print."""
    path = write_notebook(tmp_path / "train.ipynb", "1")
    assert ran(path, Output.at(str(path)), "\ud83d") == Written(path)
    assert json.loads(path.read_bytes().decode())["cells"][0]["outputs"][0]["text"] == ["\ud83d"]


def test_a_directory_that_went_is_told(tmp_path: Path) -> None:
    """There is nothing beside it, either."""
    path = write_notebook(tmp_path / "train.ipynb", "1")
    (tmp_path / "runs").mkdir()
    output = Output.at(str(tmp_path / "runs/out.ipynb"))
    (tmp_path / "runs").rmdir()
    with pytest.raises(OverlayError, match=r"out\.ipynb cannot be written"):
        ran(path, output)
