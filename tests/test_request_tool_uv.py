"""``[tool.uv]`` of a PEP 723 block: no package of a place of its own is ever taken from an index."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel_provisioner.errors import InvalidRequest
from kernel_provisioner.model.request import parse_request
from kernel_provisioner.runs.sources import Sources, gathered

BLOCK = 'dependencies = ["mylib[fast]; python_version > \'3\'", "einops"]\n[tool.uv.sources]\n'
GIT = BLOCK + 'MyLib = { git = "https://git.example/mylib", tag = "v1", subdirectory = "py" }'


def test_a_repository_is_taken_where_the_administrator_allows_it() -> None:
    """At the revision that the block names, with the extras and the marker of its dependency."""
    request = parse_request(None, [GIT], allow_urls=True)
    assert request.extras == (
        'mylib[fast] @ git+https://git.example/mylib@v1#subdirectory=py ; python_version > "3"', "einops",
    )  # fmt: skip
    url = BLOCK + 'mylib = [{ url = "https://files.example/mylib-1.0-py3-none-any.whl" }]'
    assert "files.example" in parse_request(None, [url], allow_urls=True).extras[0]


@pytest.mark.parametrize(
    ("source", "words", "fix"),
    [
        ('{ git = "https://git.example/mylib" }', "is a URL, not a package", "allow_urls"),
        ('{ path = "../mylib", editable = true }', "a directory of one machine", "%overlay add -e ../mylib"),
        ("{ workspace = true }", "a directory of one machine", "%overlay add -e ."),
        ('"mylib"', "is a string, not one table", "name one place"),
        ('[{ git = "https://a" }, { git = "https://b" }]', "is a list, not one table", "name one place"),
    ],
)
def test_otherwise_it_is_refused_with_its_fix(source: str, words: str, fix: str) -> None:
    """What an index has under that name may be somebody else's."""
    with pytest.raises(InvalidRequest) as refused:
        parse_request(None, [f"{BLOCK}mylib = {source}"])
    assert refused.value.field == "# /// script [tool.uv] sources.mylib"
    assert words in str(refused.value)
    assert fix in refused.value.fix


def test_a_source_for_other_systems_does_not_count() -> None:
    """uv takes the package from an index then, as is done here; of several the one that is meant is taken."""
    other, here = "sys_platform == 'win32'", "sys_platform != 'win32'"
    for source in (
        f'{{ path = "x", marker = "{other}" }}',
        f'[{{ git = "https://a", marker = "{other}" }}, {{ index = "ours", marker = "{here}" }}]',
    ):
        assert parse_request(None, [f"{BLOCK}mylib = {source}"]).extras[0].startswith("mylib[fast];")
    meant = f'[{{ index = "x", marker = "{other}" }}, {{ path = "there", marker = "{here}" }}]'
    with pytest.raises(InvalidRequest, match="a directory of one machine"):
        parse_request(None, [f"{BLOCK}mylib = {meant}"])


def test_torch_is_the_bases_whatever_its_source() -> None:
    """And that is told, but for an index, as everybody names one of PyTorch's."""
    block = 'dependencies = ["torch>=2"]\n[tool.uv.sources]\ntorch = { git = "https://git.example/torch" }'
    request = parse_request(None, [block])
    assert (request.torch, request.extras) == (">=2", ())
    assert request.warnings == (
        "# /// script [tool.uv]: the source of torch is ignored; the base decides on it",
    )


def test_a_source_of_what_is_not_needed_is_no_matter() -> None:
    """Nor is one of PyTorch's indexes, for which the base stands."""
    sources = 'other = { path = "x" }\ntorch = [{ index = "cpu" }, { index = "cu128", marker = "0" }]'
    block = f'dependencies = ["torch>=2"]\n[tool.uv.sources]\n{sources}\n[[tool.uv.index]]\nexplicit = true'
    request = parse_request(None, [block])
    assert (request.torch, request.extras, request.warnings) == (">=2", (), ())


def test_what_uv_would_do_and_nobody_does_here_is_told() -> None:
    """Indexes of its own, and settings that change the versions."""
    uv = '[tool.uv]\nindex-url = "https://x"\nconstraint-dependencies = ["a<2"]'
    request = parse_request(None, [f'{BLOCK}mylib = {{ index = "ours" }}\n{uv}'])
    assert request.extras[0].startswith("mylib[fast];")
    assert [text.partition(": ")[2] for text in request.warnings] == [
        "the index of mylib is ignored; only the owner of this machine can name one",
        "constraint-dependencies, index-url is not read here",
    ]


def test_its_exclude_newer_counts_where_the_metadata_has_none() -> None:
    """Of what uv reads besides, a span of time, which moves each day, is told."""
    block = '[tool.uv]\nexclude-newer = "2026-11-01T00:00:00Z"'
    assert parse_request(None, [block]).exclude_newer == "2026-11-01T00:00:00Z"
    assert parse_request({"exclude-newer": "2026-10-01"}, [block]).exclude_newer == "2026-10-02T00:00:00Z"
    for value in ('"1 week"', '"P7D"'):
        request = parse_request(None, [f"[tool.uv]\nexclude-newer = {value}"])
        assert request.exclude_newer == ""
        assert "exclude-newer = " in request.warnings[0]
    assert parse_request(None, ["[tool.uv]\nexclude-newer = false"]).warnings == ()


def test_what_is_told_is_told_where_a_notebook_is_added_from_another(tmp_path: Path) -> None:
    """As it is where it starts."""
    script = tmp_path / "script.py"
    block = 'dependencies = ["einops"]\n[tool.uv]\nindex-url = "https://x"'
    script.write_text("# /// script\n" + "".join(f"# {line}\n" for line in block.split("\n")) + "# ///\n")
    found, notices = gathered(Sources(others=[script]), allow_urls=False)
    assert found == ["einops"]
    assert notices == ["# /// script [tool.uv]: index-url is not read here"]
