"""A notebook's cells as a script: each one that is made here compiles."""

from __future__ import annotations

import textwrap

import pytest
from nbformat.v4 import new_code_cell

from kernel_provisioner.runs.export_cells import Scripted, scripted


def made(*sources: str, newer: bool = False) -> Scripted:
    """The script of code cells, which compiles unless it is for a newer Python."""
    cells = [new_code_cell(source) for source in sources]  # type: ignore[no-untyped-call]
    done = scripted(cells, newer=newer)
    if not newer:
        compile("\n".join(done.lines), "script", "exec", dont_inherit=True)
    return done


def body(source: str) -> str:
    """What becomes of one cell."""
    first, *lines, last = made(source).lines
    assert (first, last) == ("# %%", "")
    return "\n".join(lines)


@pytest.mark.parametrize(
    "source",
    [
        'msg = ("%s items"\n       % 3)',
        "rest = (7\n% 4)",
        '"""Usage:\n%time x\n!ls\nwhat?\n"""',
        "text = f'''\n!{1}\n%d\n'''",
        "x = 1\n\n\nif x:\n\ty = 2  # x = !ls",
        "name = '👩\u200d💻 שלום\u200f'",
        "where = 'https://me@example.org'",
        "def f():\n    return f'{1!r:>4} {2=!s}'",
    ],
)
def test_python_stays_as_it_is(source: str) -> None:
    """Also where a line of an expression or of a string looks like IPython's syntax."""
    assert body(source) == source


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("!pip list\nx = 1", "# !pip list\nx = 1"),
        ("%matplotlib inline", "# %matplotlib inline"),
        ("!!ls", "# !!ls"),
        ("if True:\n    %time x = 1", "if True:\n    pass  # %time x = 1"),
        ("for i in 'a':\n\t!echo a \\\n\t  b\nx = 1", "for i in 'a':\n\tpass  # !echo a \\\n\t# b\nx = 1"),
        ("x = 1\nprint?\nx.real??\n?x\n%time?", "x = 1\n# print?\n# x.real??\n# ?x\n# %time?"),
        ("files = !ls", "# only IPython can assign this:\n# files = !ls"),
        ("try:\n    a, b = %f\nfinally:\n    !g",
         "try:\n    # only IPython can assign this:\n    pass  # a, b = %f\nfinally:\n    pass  # !g"),
        ('!ls\ns = """\n!ls\n"""', '# !ls\ns = """\n!ls\n"""'),
        ("!ls\nm = (7\n  % 4)", "# !ls\nm = (7\n  % 4)"),
        (",print a b\n!ls", 'print("a", "b")\n# !ls'),
        (">>> x = 1\n>>> x\n", "x = 1\nx\n"),
        ("  x = 1\n  %time x", "x = 1\n# %time x"),
        ("%%bash\nls\n\nif x", "# %%bash\n# ls\n#\n# if x"),
        ("  %%bash\n  ls", "#   %%bash\n#   ls"),
        ("!ls\r\nx = 1\r\n", "# !ls\nx = 1\n"),
        ("!echo \ud800\0", "# !echo \\ud800\\0"),
    ],
)  # fmt: skip
def test_what_only_ipython_runs_is_a_comment(source: str, expected: str) -> None:
    """With ``pass`` in its place in a block; the Python beside it stays."""
    assert body(source) == expected


def test_an_assignment_that_is_lost_is_told() -> None:
    """What follows may need the name."""
    done = made("x = 1", "files = !ls\nhere = %pwd", "!ls")
    assert done.notices == [
        "cell 2: files = !ls is a comment, since only IPython can assign that",
        "cell 2: here = %pwd is a comment, since only IPython can assign that",
    ]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("print(1\n!ls", ""),
        ("if True:", "expected an indented block"),
        ("if x:\n        y\n    z", "unindent"),
        ('s = """', "unterminated"),
        ("await f()", "'await' outside function"),
        ("if 1: x = !ls\nelse: x = 2", "invalid syntax"),
    ],
)
def test_a_cell_that_is_no_python_is_a_comment_as_a_whole(source: str, why: str) -> None:
    """The other cells stay, and the cause is told."""
    done = made("x = 1", source, "y = 2")
    comments = textwrap.indent(source, "# ").split("\n")
    assert done.lines == ["# %%", "x = 1", "", "# %%", *comments, "", "# %%", "y = 2", ""]
    (notice,) = done.notices
    assert notice.startswith("cell 2 is a comment: ")
    assert why in notice


def test_cells_that_compile_alone_compile_together() -> None:
    """An import from the future goes to the top, and what cannot follow the others is a comment."""
    done = made("x = 1", "from __future__ import annotations\ny = 2", "global x\nx = 2")
    assert done.lines == [
        "from __future__ import annotations",
        "# %%", "x = 1", "",
        "# %%", "# from __future__ import annotations", "y = 2", "",
        "# %%", "# global x", "# x = 2", "",
    ]  # fmt: skip
    assert done.notices == ["cell 3 is a comment: name 'x' is assigned to before global declaration"]


def test_the_syntax_of_a_newer_python_stays() -> None:
    """This one cannot judge it."""
    assert made("x = 1 new", newer=True).lines == ["# %%", "x = 1 new", ""]
