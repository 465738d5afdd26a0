"""What text notebooks say, in every form that jupytext, MyST and Quarto write."""

from __future__ import annotations

import os
from pathlib import Path

import jupytext
import nbformat
import pytest

from kernel_provisioner.errors import InvalidRequest, NotebookUnreadable
from kernel_provisioner.notebook.contents import NotebookText
from kernel_provisioner.notebook.read import named_kernel, read_notebook
from kernel_provisioner.notebook.text import MAX_SIZE

TOML = 'dependencies = ["timm"]'
BLOCK = f"# /// script\n# {TOML}\n# ///\n"
SAID = {"accelerator": "cpu", "extras": ["einops"]}


def written(path: Path, text: str) -> Path:
    """``path``, with this text."""
    path.write_text(text, encoding="utf-8")
    return path


# --- what jupytext itself writes ---------------------------------------------------------------------


def by_jupytext(path: Path, fmt: str) -> Path:
    """A notebook with a declaration of both kinds, as jupytext writes it in this format."""
    nb = nbformat.v4.new_notebook(  # type: ignore[no-untyped-call]
        cells=[nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_code_cell(BLOCK + "import timm")],  # type: ignore[no-untyped-call]
        metadata={
            "torch_env": SAID,
            "kernelspec": {"name": "torch-cpu", "display_name": "torch", "language": "python"},
            "jupytext": {"notebook_metadata_filter": "torch_env"},
        },
    )
    jupytext.write(nb, path, fmt=fmt)
    return path


@pytest.mark.parametrize(
    ("name", "fmt"),
    [
        ("nb.py", "py:percent"),
        ("nb.py", "py:light"),
        ("nb.py", "py:hydrogen"),
        ("nb.md", "md:markdown"),
        ("nb.md", "md:myst"),
    ],
)
def test_what_jupytext_writes_is_read(tmp_path: Path, name: str, fmt: str) -> None:
    """The header's declaration, the block, and the kernel, with the filter that keeps ``torch_env``."""
    path = by_jupytext(tmp_path / name, fmt)
    assert read_notebook(path) == NotebookText(SAID, (TOML,))
    assert named_kernel(path) == "torch-cpu"


def test_the_header_may_be_hidden(tmp_path: Path) -> None:
    """jupytext's ``hide_notebook_metadata`` puts it into an HTML comment."""
    path = by_jupytext(tmp_path / "nb.md", "md:markdown")
    nb = jupytext.read(path)
    nb.metadata["jupytext"]["hide_notebook_metadata"] = True
    jupytext.write(nb, path)
    assert path.read_text().startswith("<!--")
    assert read_notebook(path) == NotebookText(SAID, (TOML,))


# --- the header --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "# ---\n# torch_env:\n#   extras: [einops]\n# ---\n",
        "# ---\n# jupyter:\n#   torch_env: {extras: [einops]}\n# ---\n",
        "#!/usr/bin/env python3\n# -*- coding: utf-8 -*-\n# ---\n# torch_env: {extras: [einops]}\n# ---\n",
        "# -*- coding: utf-8 -*-\n# ---\n# torch_env: {extras: [einops]}\n# ---\n",
        "\ufeff# ---\n# torch_env: {extras: [einops]}\n# ---\n",
        "# ---\r\n# torch_env:\r\n#   extras:\r\n#   - einops\r\n# ---\r\n",
        "# ---\n# a: &x [1]\n# b: *x\n# torch_env: {extras: [einops]}\n# ---\n",
    ],
    ids=["top", "jupyter", "shebang", "encoding", "BOM", "CRLF", "aliases elsewhere"],
)
def test_torch_env_in_the_header_of_a_script(tmp_path: Path, text: str) -> None:
    """At the top or under jupyter, behind what may come before, whatever else stands there."""
    assert read_notebook(written(tmp_path / "nb.py", text)).metadata == {"extras": ["einops"]}


@pytest.mark.parametrize("name", ["nb.md", "nb.markdown", "nb.qmd", "nb.myst"])
def test_torch_env_in_the_header_of_markdown(tmp_path: Path, name: str) -> None:
    """As MyST and Quarto have it."""
    path = written(tmp_path / name, "---\ntitle: A page\ntorch_env:\n  extras: [einops]\n---\n\nText\n")
    assert read_notebook(path).metadata == {"extras": ["einops"]}


@pytest.mark.parametrize(
    ("value", "read"),
    [("2026-11-01", "2026-11-01"), ("no", "no"), ("2.6", 2.6), ("true", True), ("~", None), ("'2.6'", "2.6")],
)
def test_values_are_what_json_would_have(tmp_path: Path, value: str, read: object) -> None:
    """A date stays text; what other readers of YAML make of ``no`` does not happen here."""
    path = written(tmp_path / "nb.md", f"---\ntorch_env:\n  x: {value}\n---\n")
    assert read_notebook(path).metadata == {"x": read}


def test_two_places_are_refused(tmp_path: Path) -> None:
    """Which of the two counts would be a guess; both are named."""
    path = written(tmp_path / "nb.md", "---\ntorch_env: {}\njupyter:\n  torch_env: {}\n---\n")
    with pytest.raises(InvalidRequest) as refused:
        read_notebook(path)
    assert refused.value.why
    assert "at the top" in refused.value.why
    assert "under jupyter" in refused.value.why


def test_a_key_twice_is_refused(tmp_path: Path) -> None:
    """Like one in JSON."""
    path = written(tmp_path / "nb.md", "---\ntorch_env:\n  extras: [a]\n  extras: [b]\n---\n")
    with pytest.raises(InvalidRequest, match="twice"):
        read_notebook(path)


HOSTILE = {
    "an alias": ("a: &a [x, x]\nb: &b [*a, *a]\ntorch_env: {extras: *b}", "alias"),
    "an object": ("torch_env: !!python/object/apply:os.system [id]", "tag"),
    "a merge key": ("torch_env:\n  <<: {extras: [a]}", "merge key"),
    "brackets": ("torch_env: " + "[" * 60_000, "nest"),
    "brackets elsewhere": ("x: " + "[" * 60_000 + "\ntorch_env: {}", "nest"),
    "a long one": ("torch_env:\n" + "  x: y\n" * 50_000, "65,536 characters"),
    "tabs": ("torch_env:\n\textras: [a]", "line 2 of its YAML header"),
    "a version without quotes": ("torch_env:\n  torch: >=2.6", "line 2 of its YAML header"),
    "a key twice": ("torch_env: {}\ntorch_env: {}", "twice"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_header_that_is_not_read_is_told(tmp_path: Path, name: str) -> None:
    """At once: nothing is expanded, made or nested; the fix shows how a version is written."""
    header, why = HOSTILE[name]
    path = written(tmp_path / "nb.md", f"---\n{header}\n---\n")
    with pytest.raises(NotebookUnreadable) as refused:
        read_notebook(path)
    assert why in (refused.value.why or "")
    assert 'torch: ">=2.6"' in (refused.value.fix or "")


@pytest.mark.parametrize(
    "text",
    [
        "# ---\n# torch_env: {extras: [a]}\n",
        "\n# ---\n# torch_env: {extras: [a]}\n# ---\n",
        "# ---\n# x: 1\n# ---\n# ---\n# torch_env: {extras: [a]}\n# ---\n",
        "x = '''\n---\ntorch_env: {extras: [a]}\n---\n'''\n",
        "# ---\n# - torch_env\n# ---\n",
        "# ---\n# torch_env\n# ---\n",
        "# ---\n# ? [torch_env]\n# : 1\n# ---\n",
    ],
    ids=["never ends", "not first", "second", "in code", "a list", "text", "odd key"],
)
def test_what_is_no_header_says_nothing(tmp_path: Path, text: str) -> None:
    """As jupytext reads it."""
    assert read_notebook(written(tmp_path / "nb.py", text)) == NotebookText()


@pytest.mark.parametrize(
    ("name", "header", "kernel"),
    [
        ("a.qmd", "jupyter: torch-cpu", "torch-cpu"),
        ("a.md", "kernelspec:\n  name: torch", "torch"),
        ("a.md", "jupyter:\n  kernelspec:\n    name: torch", "torch"),
        ("a.md", "kernelspec: 5", ""),
        ("a.md", "title: x", ""),
    ],
)
def test_the_kernel_that_is_named(tmp_path: Path, name: str, header: str, kernel: str) -> None:
    """In the way of Quarto, of MyST, and of jupytext."""
    assert named_kernel(written(tmp_path / name, f"---\n{header}\n---\n")) == kernel


# --- blocks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nb.py", f"import os\n\n{BLOCK}\nimport timm\n"),
        ("nb.py", f"# %%\n{BLOCK}"),
        ("nb.md", f"```python\n{BLOCK}```\n"),
        ("nb.md", f"```python tags=['x']\n{BLOCK}```\n"),
        ("nb.md", f"```{{code-cell}} ipython3\n:tags: [remove-cell]\n\n{BLOCK}```\n"),
        ("nb.md", f"---\ntitle: x\n---\n\n~~~{{code-cell}}\n---\ntags: [x]\n---\n{BLOCK}~~~\n"),
        ("nb.md", f":::{{code-cell}} python\n{BLOCK}:::\n"),
        ("nb.qmd", f"```{{python}}\n#| echo: false\n{BLOCK}```\n"),
        ("nb.md", f"````md\n```python\n```\n````\n```python\n{BLOCK}```\n"),
        ("nb.md", f"```python\n{BLOCK}"),
    ],
)
def test_a_block_in_code_counts(tmp_path: Path, name: str, text: str) -> None:
    """In a script anywhere, in Markdown in a code cell."""
    assert read_notebook(written(tmp_path / name, text)).script_blocks == (TOML,)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nb.md", BLOCK),
        ("nb.md", f"```\n{BLOCK}```\n"),
        ("nb.md", f"```python .noeval\n{BLOCK}```\n"),
        ("nb.md", f"````md\n```python\n{BLOCK}```\n````\n"),
        ("nb.md", f"```{{code-cell}}\n1\n```\n\n```python\n{BLOCK}```\n"),
        ("nb.qmd", f"```python\n{BLOCK}```\n"),
        ("nb.md", f":::{{note}}\n{BLOCK}:::\n"),
        ("nb.py", "# # /// script\n# # dependencies = []\n# # ///\n"),
    ],
    ids=[
        "prose",
        "plain",
        "noeval",
        "nested",
        "an example in MyST",
        "an example in Quarto",
        "note",
        "comment",
    ],
)
def test_an_example_does_not_count(tmp_path: Path, name: str, text: str) -> None:
    """A page that explains such blocks declares nothing."""
    assert read_notebook(written(tmp_path / name, text)) == NotebookText()


def test_two_blocks_are_both_read(tmp_path: Path) -> None:
    """They are refused where the request is made, as in any notebook."""
    text = f"```python\n{BLOCK}```\n\n```python\n{BLOCK}```\n"
    assert len(read_notebook(written(tmp_path / "nb.md", text)).script_blocks) == 2


# --- files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nb.py", "nb.md"])
def test_a_file_that_says_nothing_is_the_base_alone(tmp_path: Path, name: str) -> None:
    """Also one that is no notebook, or not even text."""
    for text in ("", "print('a script')\n", "\0" * 5000):
        assert read_notebook(written(tmp_path / name, text)) == NotebookText()


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    """A gigabyte, a pipe and Latin-1, at once."""
    path = tmp_path / "nb.md"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(NotebookUnreadable, match="cannot be read") as refused:
        read_notebook(path)
    assert "the limit is 4 MB" in (refused.value.why or "")
    os.mkfifo(tmp_path / "x.py")
    with pytest.raises(NotebookUnreadable) as refused:
        read_notebook(tmp_path / "x.py")
    assert refused.value.why == "it is a named pipe"
    path.write_bytes(b"caf\xe9")
    with pytest.raises(NotebookUnreadable) as refused:
        read_notebook(path)
    assert "not UTF-8" in (refused.value.why or "")
    assert MAX_SIZE == 4 << 20


# --- the lock ----------------------------------------------------------------------------------------


def test_the_lock_lies_beside_the_text(tmp_path: Path) -> None:
    """It is read as if it stood under ``torch_env``; what is no JSON is told, with its own name."""
    path = written(tmp_path / "nb.py", f"# %%\n{BLOCK}")
    beside = written(tmp_path / "nb.py.lock.json", '{"lock-version": "1.0"}')
    assert read_notebook(path) == NotebookText({"lock": {"lock-version": "1.0"}}, (TOML,))
    written(beside, "<<<<<<< HEAD")
    with pytest.raises(NotebookUnreadable) as refused:
        read_notebook(path)
    assert str(beside) in str(refused.value)
    assert refused.value.fix
    assert "jupyter overlay lock nb.py" in refused.value.fix
