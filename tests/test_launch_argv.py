"""The kernel spec's own command: which of the variables that it finds name its notebook."""

from __future__ import annotations

from pathlib import Path

from kernel_provisioner.launch.argv import trusted_names


def test_a_session_of_this_directory_is_believed_however_it_is_reached(tmp_path: Path) -> None:
    """A client names the notebook by a link, and the process sees where that leads; or the reverse."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    real, link = tmp_path / "real", tmp_path / "link"
    for cwd, named in ((real, link), (link, real), (real, real)):
        said = {"JPY_SESSION_NAME": f"{named}/notes-jvsc-1.ipynb"}
        assert trusted_names(said, cwd) == said
    assert trusted_names({"JPY_SESSION_NAME": "notes.ipynb"}, real) == {"JPY_SESSION_NAME": "notes.ipynb"}


def test_a_session_of_another_directory_is_that_of_an_outer_kernel(tmp_path: Path) -> None:
    """What a cell starts inherits the name of the cell's notebook."""
    assert trusted_names({"JPY_SESSION_NAME": f"{tmp_path}/outer.ipynb"}, tmp_path / "inner") == {}
    assert trusted_names({"JPY_SESSION_NAME": "below/outer.ipynb"}, tmp_path) == {}
