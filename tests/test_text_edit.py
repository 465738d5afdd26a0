"""``add`` and ``remove`` in text notebooks: the PEP 723 block changes, and not a byte besides."""

from __future__ import annotations

from pathlib import Path

import jupytext
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_provisioner.errors import InvalidRequest, NotebookUnreadable
from kernel_provisioner.notebook.edit import add_extras, remove_extras
from kernel_provisioner.notebook.read import read_notebook

ONE = '# dependencies = ["einops"]'


def script(*toml: str) -> str:
    """A PEP 723 block with these lines."""
    return "\n".join(["# /// script", *toml, "# ///", ""])


def edited(path: Path, text: str, *requirements: str) -> str:
    """The text of the file after the extras were added."""
    path.write_bytes(text.encode())
    add_extras(path, requirements)
    return path.read_bytes().decode()


BEFORE_AND_AFTER = {
    "one line": ((ONE,), ('# dependencies = ["einops", "timm"]',)),
    "empty": (("# dependencies = []",), ('# dependencies = ["timm"]',)),
    "no list": (
        ('# requires-python = ">=3.10"', "#", "# [tool.x]", "# y = 1"),
        ('# requires-python = ">=3.10"', '# dependencies = ["timm"]', "#", "# [tool.x]", "# y = 1"),
    ),
    "several lines": (
        ("# dependencies = [", "#   'einops',  # why", "# ]", "# requires-python = '>=3.10'   "),
        (
            "# dependencies = [",
            "#   'einops',  # why",
            '#   "timm",',
            "# ]",
            "# requires-python = '>=3.10'   ",
        ),
    ),
    "another version": (
        ("# dependencies = [", "#     'timm<1', # old", "#     'x',", "# ]"),
        ("# dependencies = [", '#     "timm", # old', "#     'x',", "# ]"),
    ),
}


@pytest.mark.parametrize("name", BEFORE_AND_AFTER)
@pytest.mark.parametrize("frame", ["{}", "# %%\nimport os\n\n# %%\n{}x = 1\t\n", "# +\n{}# -\n\n\n"])
def test_the_list_follows_its_own_manner(tmp_path: Path, name: str, frame: str) -> None:
    """Quotes, comments, indentation, other keys and all around stay as they are."""
    before, after = (frame.replace("{}", script(*lines)) for lines in BEFORE_AND_AFTER[name])
    assert edited(tmp_path / "nb.py", before, "timm") == after


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_a_byte_order_mark_stay(tmp_path: Path, end: str, mark: str) -> None:
    """In the lines that are new as well."""
    before = mark + ("# %%\n" + script(ONE) + "print()\n").replace("\n", end)
    after = edited(tmp_path / "nb.py", before, "timm")
    assert after == before.replace('"einops"', '"einops", "timm"')
    (tmp_path / "nb.py").write_text("")
    fresh = edited(tmp_path / "nb.py", before.replace("# ", "#!"), "timm")
    assert fresh.count("\n") == fresh.count(end)


FIRST = {
    "percent": ("nb.py", "# %%\nimport x\n", "# %%\n{}\n# %%\nimport x\n"),
    "percent, a first cell without marker": (
        "nb.py",
        "import x\n\n# %%\nx\n",
        "import x\n\n# %%\n{}\n# %%\nx\n",
    ),
    "light": ("nb.py", "import x\n", "# +\n{}# -\n\nimport x\n"),
    "light, behind the header": (
        "nb.py",
        "#!/usr/bin/python\n# ---\n# jupyter: {}\n# ---\nimport x\n",
        "#!/usr/bin/python\n# ---\n# jupyter: {}\n# ---\n\n# +\n{}# -\n\nimport x\n",
    ),
    "empty": ("nb.py", "", "# +\n{}# -\n\n"),
    "Markdown": ("nb.md", "Text\n", "```python\n{}```\n\nText\n"),
    "Markdown, behind its title": (
        "nb.md",
        "# Title\n\nText\n",
        "# Title\n\n```python\n{}```\n\nText\n",
    ),
    "MyST": (
        "nb.md",
        "---\ntitle: x\n---\n\n# Title\n\n```{code-cell} python\n1\n```\n",
        "---\ntitle: x\n---\n\n# Title\n\n```{code-cell} python\n{}```\n\n```{code-cell} python\n1\n```\n",
    ),
    "Quarto": ("nb.qmd", "---\ntitle: x\n---\n", "---\ntitle: x\n---\n\n```{python}\n{}```\n\n"),
}


@pytest.mark.parametrize("name", FIRST)
def test_the_first_dependency_makes_a_cell(tmp_path: Path, name: str) -> None:
    """In the form that the notebook has; what is there stays, the title first."""
    file, before, after = FIRST[name]
    path = tmp_path / file
    cell = script('# dependencies = ["timm>=1"]')
    head, _, tail = after.rpartition("{}")
    assert edited(path, before, "timm>=1") == head + cell + tail
    if path.suffix != ".qmd":  # which jupytext reads with Quarto
        (found,) = (cell for cell in jupytext.read(path).cells if "# /// script" in cell.source)
        assert found.cell_type == "code"


def test_a_long_list_stands_on_several_lines(tmp_path: Path) -> None:
    """As people write it."""
    names = [f"package-with-a-long-name-{number}" for number in range(5)]
    after = edited(tmp_path / "nb.py", "", *names)
    assert f'# dependencies = [\n#     "{names[0]}",\n' in after
    assert read_notebook(tmp_path / "nb.py").script_blocks


def test_what_is_removed_leaves_the_rest(tmp_path: Path) -> None:
    """By name, whatever its version; the list that is left is told."""
    path = tmp_path / "nb.py"
    path.write_text("x\n" + script("# dependencies = [", '#   "einops>=0.8",', '#   "timm", # why', "# ]"))
    assert remove_extras(path, ["Einops"]) == ["timm"]
    assert path.read_text() == "x\n" + script("# dependencies = [", '#   "timm", # why', "# ]")
    assert remove_extras(path, ["timm"]) == []


def test_what_is_not_there_cannot_be_removed(tmp_path: Path) -> None:
    """Where it stands in the header, that is said."""
    path = tmp_path / "nb.md"
    path.write_text(
        "---\ntorch_env:\n  extras: [einops]\n---\n\n```python\n" + script("# dependencies = ['timm']")
    )
    before = path.read_bytes()
    with pytest.raises(InvalidRequest, match="einops is not among the dependencies") as refused:
        remove_extras(path, ["einops"])
    assert refused.value.fix == "remove einops from the extras in the header"
    with pytest.raises(InvalidRequest) as refused:
        remove_extras(path, ["timm", "torch"])
    assert refused.value.why == "the notebook has none in a # /// script block"
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (script("# dependencies = ["), "not valid TOML"),
        (script(ONE) + "\n" + script(ONE), "more than once"),
        ("# /// script\n" + ONE + "\n", "no closing line"),
        (script('# dependencies = "einops"'), "not a list"),
        (script("# dependencies = [1]"), "number"),
        (script("# x = '" + "y" * 20_000 + "'"), "characters long"),
        ("# ---\n# torch_env: {extras: 5}\n# ---\n", "torch_env.extras"),
    ],
)
def test_what_would_be_refused_is_not_written(tmp_path: Path, text: str, told: str) -> None:
    """The reason is the launch's own."""
    path = tmp_path / "nb.py"
    path.write_text(text)
    with pytest.raises(InvalidRequest, match=told):
        add_extras(path, ["timm"])
    assert path.read_text() == text


def test_an_extra_that_would_be_refused_can_be_removed(tmp_path: Path) -> None:
    """By its exact text."""
    path = tmp_path / "nb.py"
    path.write_text(script("# dependencies = ['--index-url=x', 'timm']"))
    assert remove_extras(path, ["--index-url=x"]) == ["timm"]


def test_a_link_stays_a_link_and_the_mode_stays(tmp_path: Path) -> None:
    """The file behind it is replaced whole."""
    target, path = tmp_path / "real.py", tmp_path / "nb.py"
    target.write_text("x\n")
    target.chmod(0o640)
    path.symlink_to(target)
    add_extras(path, ["timm"])
    assert path.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert "timm" in target.read_text()
    assert {entry.name for entry in tmp_path.iterdir()} == {"real.py", "nb.py"}


def test_a_file_that_is_no_text_is_left(tmp_path: Path) -> None:
    """Latin-1, say."""
    path = tmp_path / "nb.py"
    path.write_bytes(b"# caf\xe9\n")
    with pytest.raises(NotebookUnreadable, match="cannot be read"):
        add_extras(path, ["timm"])
    assert path.read_bytes() == b"# caf\xe9\n"


LINES = st.lists(
    st.sampled_from(
        ["", "x = 1", "# %%", "# +", "# -", "```python", "```", "---", "# ---", "#", "# text", "\t"]
    ),
    max_size=12,
)


@settings(max_examples=150)
@given(LINES, st.sampled_from(["nb.py", "nb.md", "nb.qmd"]))
def test_what_was_added_is_read_and_what_was_there_stays(tmp_path: Path, lines: list[str], name: str) -> None:
    """Whatever the text is: the lines come back without the new cell, and the block declares the package."""
    path = tmp_path / name
    text = "\n".join(lines)
    after = edited(path, text, "timm").split("\n")
    assert read_notebook(path).script_blocks == ('dependencies = ["timm"]',)
    rest = iter(after)
    assert all(line in rest for line in lines if line), "all lines are there, in their order"
    assert remove_extras(path, ["timm"]) == []
