from __future__ import annotations

import pytest

from kernel_provisioner.errors import InvalidRequest
from kernel_provisioner.notebook.script import find_blocks

DEPENDENCIES = 'dependencies = [\n    "einops",\n]'


def test_a_block_is_the_text_of_the_comment() -> None:
    """As juv and uv write it, with code around it."""
    source = '# /// script\n# dependencies = [\n#     "einops",\n# ]\n# ///\nimport einops'
    assert find_blocks(source) == [DEPENDENCIES]


def test_an_empty_comment_line_is_an_empty_line() -> None:
    """PEP 723 wants no blank after a lone #."""
    assert find_blocks("# /// script\n#\n# a = 1\n# ///") == ["\na = 1"]


def test_windows_line_ends_and_trailing_blanks_do_not_hide_a_block() -> None:
    """What cannot be seen in the cell does not change what it means."""
    assert find_blocks("# /// script \r\n# a = 1\r\n# ///\r\n") == ["a = 1"]


def test_the_last_closing_line_ends_the_block() -> None:
    """PEP 723's own rule: comment lines may hold ``# ///`` too."""
    assert find_blocks("# /// script\n# a = 1\n# ///\n# b = 2\n# ///\n# more") == ["a = 1\n///\nb = 2"]


def test_two_blocks_in_one_cell_are_both_found() -> None:
    """Refusing them is up to the request, which sees all cells."""
    assert find_blocks("# /// script\n# ///\n\n# /// script\n# a = 1\n# ///") == ["", "a = 1"]


@pytest.mark.parametrize(
    "source",
    ["", "x = 1", "#/// script\n# ///", "# /// other\n# ///", "x = '# /// script'", " # /// script\n # ///"],
)
def test_other_comments_are_no_blocks(source: str) -> None:
    """Only a line that says exactly ``# /// script`` opens one."""
    assert find_blocks(source) == []


@pytest.mark.parametrize("source", ["# /// script\n# a = 1", "# /// script\n# a = 1\nimport x\n# ///"])
def test_a_block_without_an_end_is_refused(source: str) -> None:
    """Passing over it would leave the notebook without its dependencies, silently."""
    with pytest.raises(InvalidRequest, match="has no closing line"):
        find_blocks(source)
