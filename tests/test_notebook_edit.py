from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_provisioner.errors import InvalidRequest, NotebookUnreadable
from kernel_provisioner.notebook.edit import add_extras, remove_extras
from kernel_provisioner.notebook.read import read_notebook
from tests.support.notebooks import write_notebook

SCRIPT = '# /// script\n# dependencies = ["timm>=1"]\n# ///'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A path for a notebook."""
    return tmp_path / "nb.ipynb"


def edited(path: Path, text: str, *requirements: str) -> str:
    """The text of the file after the extras were added."""
    path.write_bytes(text.encode())
    add_extras(path, requirements)
    return path.read_bytes().decode()


def save_as_jupyter_does(path: Path) -> None:
    """Write the notebook again with nbformat."""
    nb = nbformat.reads(path.read_text(), as_version=4)  # type: ignore[no-untyped-call]
    nbformat.write(nb, path)  # type: ignore[no-untyped-call]


def test_the_first_extra_makes_the_block_as_jupyter_would_write_it(path: Path) -> None:
    """Saving the notebook in Jupyter afterwards changes nothing."""
    write_notebook(path, "import einops")
    save_as_jupyter_does(path)
    assert add_extras(path, ["einops>=0.8"]) == ["einops>=0.8"]
    by_us = path.read_text()
    save_as_jupyter_does(path)
    assert path.read_text() == by_us
    assert read_notebook(path).metadata == {"extras": ["einops>=0.8"]}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"metadata": {"torch_env": {"extras": ["a"]}}}',
         '{"metadata": {"torch_env": {"extras": ["a", "b"]}}}'),
        ('{"metadata":{"torch_env":{"extras":["a"]}}}', '{"metadata":{"torch_env":{"extras":["a","b"]}}}'),
        ('{"metadata": {"torch_env": {"extras": []}}}', '{"metadata": {"torch_env": {"extras": ["b"]}}}'),
        ('{"metadata": {"torch_env": {"extras": null}}}', '{"metadata": {"torch_env": {"extras": ["b"]}}}'),
        ('{"metadata": {"torch_env": {"torch": ">2"}}}',
         '{"metadata": {"torch_env": {"torch": ">2", "extras": ["b"]}}}'),
        ('{"metadata": {"torch_env": {}}}', '{"metadata": {"torch_env": {"extras": ["b"]}}}'),
        ('{"metadata": {"torch_env": null}}', '{"metadata": {"torch_env": {"extras": ["b"]}}}'),
        ('{"metadata": {}, "x": 1}', '{"metadata": {"torch_env": {"extras": ["b"]}}, "x": 1}'),
        ('{"cells":[]}', '{"cells":[],"metadata":{"torch_env":{"extras":["b"]}}}'),
        ("{}", '{"metadata": {"torch_env": {"extras": ["b"]}}}'),
        ('{\n  "metadata": {}\n}\n',
         '{\n  "metadata": {\n    "torch_env": {\n      "extras": [\n        "b"\n      ]\n    }\n  }\n}\n'),
        ('{\n\t"metadata": {\n\t\t"x": 1\n\t}\n}',
         ('{\n\t"metadata": {\n\t\t"x": 1,\n\t\t"torch_env": {\n\t\t\t"extras": [\n\t\t\t\t"b"\n'
         '\t\t\t]\n\t\t}\n\t}\n}')),
        ('{\r\n "metadata": {\r\n  "x": 1\r\n }\r\n}',
         ('{\r\n "metadata": {\r\n  "x": 1,\r\n  "torch_env": {\r\n   "extras": [\r\n    "b"\r\n'
         '   ]\r\n  }\r\n }\r\n}')),
    ],
)  # fmt: skip
def test_the_new_text_follows_the_manner_of_the_file(path: Path, before: str, after: str) -> None:
    """Compact, spaced, indented by blanks or tabs, or with Windows' line ends."""
    assert edited(path, before, "b") == after


def test_no_other_value_changes_and_bom_and_key_order_stay(path: Path) -> None:
    """A file that no notebook program wrote is laid out as one would write it."""
    before = (
        '\ufeff { "nbformat" : 4,\n   "cells" : [ {"source": "\\u00e4 ä \\/ 1e5 😀", "x": 1.0E+2} ],\n'
        ' "metadata" : { "torch_env" : { "extras" : [ "a" ] , "torch" : ">=2" } , "a" : "\\t" } }  \n\n'
    )
    after = edited(path, before, "b")
    assert (after[0], after[-4:]) == ("\ufeff", "  \n\n"), "the BOM, and what ends the file"
    expected = json.loads(before[1:].replace('[ "a" ]', '["a", "b"]'))
    assert json.dumps(json.loads(after[1:])) == json.dumps(expected), "the same values in the same order"
    half = '{"metadata": {}, "cells": ["\\ud83d", "ä"]}'
    assert json.loads(edited(path, half, "b"))["cells"] == ["\ud83d", "ä"], "half a character stays one"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(
    around=st.dictionaries(st.text(), JSON, max_size=3),
    metadata=st.none() | st.dictionaries(st.text(), JSON, max_size=3),
    block=st.none() | st.just({}) | st.just({"extras": ["a>=1"], "torch": ">=2"}),
    indent=st.sampled_from([None, 0, 1, 4, "\t"]),
    escaped=st.booleans(),
)
def test_any_notebook_gains_the_extra_and_keeps_the_rest(
    path: Path,
    around: dict[str, Any],
    metadata: dict[str, Any] | None,
    block: dict[str, Any] | None,
    indent: int | str | None,
    *,
    escaped: bool,
) -> None:
    """The result is the same JSON but for the extras, and removing the extra gives the bytes before."""
    nb: dict[str, Any] = {"nbformat": 4, **around}
    nb.pop("metadata", None)
    if metadata is not None:
        nb["metadata"] = {key: value for key, value in metadata.items() if key != "torch_env"}
        if block is not None:
            nb["metadata"]["torch_env"] = block
    text = json.dumps(nb, indent=indent, ensure_ascii=escaped)
    after = edited(path, text, "b")
    nb.setdefault("metadata", {}).setdefault("torch_env", {})
    old = nb["metadata"]["torch_env"].get("extras", [])
    nb["metadata"]["torch_env"] = {**nb["metadata"]["torch_env"], "extras": [*old, "b"]}
    assert json.loads(after) == nb
    assert after == json.dumps(nb, indent=indent, ensure_ascii=escaped)
    if old:
        remove_extras(path, ["b"])
        assert path.read_bytes().decode() == text


def test_an_extra_of_the_same_name_is_replaced_where_it_stands(path: Path) -> None:
    """Under any spelling, and once if it stood there twice."""
    write_notebook(path, torch_env={"extras": ["Scikit_Learn<1", "einops", "scikit-learn!=1.3"]})
    assert add_extras(path, [" scikit-learn >= 1.5 ", "timm"]) == ["scikit-learn >= 1.5", "einops", "timm"]


def test_an_extra_that_stands_there_already_leaves_the_file_alone(path: Path) -> None:
    """Not even its time changes."""
    write_notebook(path, torch_env={"extras": ["einops"]})
    before = path.stat()
    assert add_extras(path, ["einops"]) == ["einops"]
    assert path.stat() == before


def test_extras_join_those_of_a_script(path: Path) -> None:
    """The script is the author's code and stays as it is."""
    write_notebook(path, SCRIPT)
    assert add_extras(path, ["einops"]) == ["einops"]
    assert read_notebook(path).script_blocks == ('dependencies = ["timm>=1"]',)


def test_an_extra_is_removed_by_its_name(path: Path) -> None:
    """Under any spelling, whatever the version."""
    write_notebook(path, torch_env={"extras": ["Scikit_Learn[all]<1", "einops"], "torch": ">=2"})
    assert remove_extras(path, ["scikit-learn"]) == ["einops"]
    assert read_notebook(path).metadata == {"extras": ["einops"], "torch": ">=2"}
    assert remove_extras(path, ["einops"]) == []


def test_a_name_that_is_not_there_is_an_error_that_lists_what_is(path: Path) -> None:
    """And nothing is removed."""
    write_notebook(path, torch_env={"extras": ["einops"]})
    with pytest.raises(InvalidRequest, match="timm is not among the extras") as refused:
        remove_extras(path, ["einops", "timm"])
    assert refused.value.why == "the notebook's metadata names none"
    assert read_notebook(path).metadata == {"extras": ["einops"]}


def test_a_name_in_a_script_only_is_an_error_that_says_where(path: Path) -> None:
    """The cell is for its author to change."""
    write_notebook(path, "1", SCRIPT, torch_env={"extras": ["einops"]})
    with pytest.raises(InvalidRequest) as refused:
        remove_extras(path, ["Timm"])
    assert "cell 2" in refused.value.why
    assert "cell 2" in refused.value.fix


@pytest.mark.parametrize("wrong", ["-e .", "x @ https://example.org/x", "", "../x"])
def test_an_extra_that_a_launch_would_refuse_is_not_written(path: Path, wrong: str) -> None:
    """The field names the requirement by its place among those given."""
    write_notebook(path, torch_env={"extras": ["einops"]})
    before = path.read_bytes()
    with pytest.raises(InvalidRequest) as refused:
        add_extras(path, ["timm", wrong])
    assert refused.value.field == "torch_env.extras[1]"
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "block", ["einops", {"extras": "einops"}, {"extras": [1]}, {"torch": "2"}, {"extras": ["a"] * 256}]
)
def test_a_block_that_is_wrong_already_is_for_its_author_to_mend(path: Path, block: object) -> None:
    """Adding to it would hide the mistake or fail at the next launch."""
    write_notebook(path, torch_env=block)
    before = path.read_bytes()
    with pytest.raises(InvalidRequest):
        add_extras(path, ["timm"])
    assert path.read_bytes() == before


def test_a_wrong_extra_can_be_removed_by_its_text(path: Path) -> None:
    """That is how such a notebook is corrected from the command line."""
    write_notebook(path, torch_env={"extras": ["-e .", "einops"]})
    assert remove_extras(path, ["-e ."]) == ["einops"]


def test_mode_and_owner_stay_and_nothing_is_left_beside_the_file(path: Path) -> None:
    """The new file takes the place of the old one as it was."""
    write_notebook(path)
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 12345, 23456)
    before = path.stat()
    add_extras(path, ["einops"])
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert list(path.parent.iterdir()) == [path]


def test_a_link_to_a_notebook_stays_a_link(path: Path) -> None:
    """The notebook that it leads to is the one that changes."""
    real = write_notebook(path.parent / "real" / "nb.ipynb")
    path.symlink_to(real)
    add_extras(path, ["einops"])
    assert path.is_symlink()
    assert read_notebook(real).metadata == {"extras": ["einops"]}
    assert list(real.parent.iterdir()) == [real]


def test_a_notebook_that_changes_meanwhile_is_not_overwritten(path: Path) -> None:
    """Somebody else's save wins, and the command can be run again."""
    write_notebook(path)

    class Slow(list[str]):
        """Requirements that are looked at twice, before and after the notebook is read; it is saved then."""

        looks = 0

        def __iter__(self) -> Iterator[str]:
            self.looks += 1
            if self.looks == 2:
                write_notebook(path, "theirs")
            return super().__iter__()

    with pytest.raises(NotebookUnreadable, match="changed while it was edited"):
        add_extras(path, Slow(["einops"]))
    assert "theirs" in path.read_text()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "content", [b"[]", b'{"metadata": []}', b'{"metadata": null}', b"", b'{"a": "\xff"}']
)
def test_a_file_that_is_no_notebook_is_left_alone(path: Path, content: bytes) -> None:
    """There is nothing to add the extra to."""
    path.write_bytes(content)
    with pytest.raises(NotebookUnreadable):
        add_extras(path, ["einops"])
    assert path.read_bytes() == content


def test_a_name_as_long_as_the_system_allows_is_no_obstacle(tmp_path: Path) -> None:
    """The temporary name beside it is shorter."""
    path = write_notebook(tmp_path / ("ä" * 124 + ".ipynb"))
    assert add_extras(path, ["einops"]) == ["einops"]
