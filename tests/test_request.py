from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_provisioner.errors import InvalidRequest
from kernel_provisioner.model.request import MAX_EXTRAS, Request, parse_request

NAN = float("nan")


@pytest.mark.parametrize("metadata", [None, {}], ids=["none", "empty"])
def test_a_notebook_that_says_nothing_asks_for_nothing(metadata: object) -> None:
    """No block and an empty one are the same request, without a word."""
    assert parse_request(metadata, []) == Request()
    assert parse_request(metadata, []).empty


def test_a_whole_block_is_read_and_normalised() -> None:
    """Names become canonical, versions keep their meaning, and the extras keep their order."""
    request = parse_request(
        {
            "accelerator": "CUDA",
            "torch": ">=2.6",
            "requires-python": ">= 3.11",
            "extras": ["Trans_formers [b,A] >= 4.44", "einops", 'tomli; python_version < "3.11"'],
            "exclude-newer": "2026-11-01T02:00:00+02:00",
        },
        [],
    )
    assert request == Request(
        accelerator="cuda",
        torch=">=2.6",
        requires_python=">=3.11",
        extras=("trans-formers[a,b]>=4.44", "einops", 'tomli; python_version < "3.11"'),
        exclude_newer="2026-11-01T00:00:00Z",
    )


# What a notebook may hold, the field that the refusal names, and words that it must say.
REFUSED: list[tuple[Any, str, str]] = [
    ([], "torch_env", "is a list, not an object"),
    ("einops", "torch_env", "is a string"),
    (5, "torch_env", "is a number"),
    (True, "torch_env", "is a boolean"),
    ({"extras": "einops"}, "torch_env.extras", "is a string, not a list"),
    ({"extras": {"einops": 1}}, "torch_env.extras", "is an object"),
    ({"extras": ["einops", 3]}, "torch_env.extras[1]", "is a number, not a string"),
    ({"extras": ["einops", None]}, "torch_env.extras[1]", "is null"),
    ({"extras": [NAN]}, "torch_env.extras[0]", "is a number"),
    ({"extras": [""]}, "torch_env.extras[0]", "is empty"),
    ({"extras": ["  \t"]}, "torch_env.extras[0]", "is empty"),
    ({"extras": ["einops"] * (MAX_EXTRAS + 1)}, "torch_env.extras", "the limit is 256"),
    ({"extras": ["a" * 513]}, "torch_env.extras[0]", "the limit is 512"),
    ({"extras": ["a" * 1_000_000]}, "torch_env.extras[0]", "1,000,000 characters"),
    ({"extras": ["a" + "<1," * 100_000]}, "torch_env.extras[0]", "the limit is 512"),
    ({"extras": ["a; " + "(" * 20_000]}, "torch_env.extras[0]", "the limit is 512"),
    ({"extras": ["a; " + "(" * 400]}, "torch_env.extras[0]", "is not a requirement"),
    ({"extras": ["--index-url=http://x"]}, "torch_env.extras[0]", "is an option"),
    ({"extras": ["-r /etc/passwd"]}, "torch_env.extras[0]", "is an option"),
    ({"extras": ["-e ."]}, "torch_env.extras[0]", "is an option"),
    ({"extras": ["--find-links /tmp"]}, "torch_env.extras[0]", "is an option"),
    ({"extras": ["."]}, "torch_env.extras[0]", "is a path"),
    ({"extras": ["../../x"]}, "torch_env.extras[0]", "is a path"),
    ({"extras": ["/abs/x.whl"]}, "torch_env.extras[0]", "is a path"),
    ({"extras": ["~/x"]}, "torch_env.extras[0]", "is a path"),
    ({"extras": ["x.whl"]}, "torch_env.extras[0]", "is a path"),
    ({"extras": ["x.tar.gz[all]"]}, "torch_env.extras[0]", "is a path"),
    ({"extras": [r"..\x"]}, "torch_env.extras[0]", "is a path"),
    ({"extras": ["numpy===../../x"]}, "torch_env.extras[0]", "is a path"),
    ({"extras": ["numpy===.."]}, "torch_env.extras[0]", "is not a version"),
    ({"extras": ["numpy\n--index-url x"]}, "torch_env.extras[0]", "line break or control character"),
    ({"extras": ["numpy\x00"]}, "torch_env.extras[0]", "line break or control character"),
    ({"extras": ["numpy\r\nscipy"]}, "torch_env.extras[0]", "line break or control character"),
    ({"extras": ["x @ https://example.org/x.whl"]}, "torch_env.extras[0]", "is a URL"),
    ({"extras": ["x @ file:x"]}, "torch_env.extras[0]", "is a URL"),
    ({"extras": ["git+ssh://example.org/x"]}, "torch_env.extras[0]", "is a URL"),
    ({"extras": ["file:///etc/passwd"]}, "torch_env.extras[0]", "is a URL"),
    ({"extras": ["${AWS_SECRET}"]}, "torch_env.extras[0]", "environment variable"),
    ({"extras": ["x==${AWS_SECRET}"]}, "torch_env.extras[0]", "environment variable"),
    ({"torch": "${AWS_SECRET}"}, "torch_env.torch", "environment variable"),
    ({"note": {"deep": ["${AWS_SECRET}"]}}, "torch_env.note.deep[0]", "environment variable"),
    ({"${AWS_SECRET}": 1}, "torch_env", "environment variable"),
    ({"note": NAN}, "torch_env.note", "is nan"),
    ({"note": "\ud800"}, "torch_env.note", "half a character"),
    ({"extras": ["\ud800"]}, "torch_env.extras[0]", "half a character"),
    ({"note": [[1] * 1000] * 1000}, "torch_env", "more than 2,000 values"),
    ({"extras": ["numpy; $(id)"]}, "torch_env.extras[0]", "is not a requirement"),
    ({"extras": ["numpy`id`"]}, "torch_env.extras[0]", "is not a requirement"),
    ({"extras": [";id"]}, "torch_env.extras[0]", "is not a requirement"),
    ({"extras": ["\u0441upy"]}, "torch_env.extras[0]", "U+0441 CYRILLIC SMALL LETTER ES"),
    ({"extras": ["num\u200bpy"]}, "torch_env.extras[0]", "U+200B ZERO WIDTH SPACE"),
    ({"extras": ["\u202eypmun"]}, "torch_env.extras[0]", "U+202E RIGHT-TO-LEFT OVERRIDE"),
    ({"accelerator": "gpu"}, "torch_env.accelerator", "did you mean 'cuda'?"),
    ({"accelerator": "cu99"}, "torch_env.accelerator", "auto, cpu, cuda, rocm, xpu"),
    ({"accelerator": 5}, "torch_env.accelerator", "is 5, which does not exist"),
    ({"accelerator": ["cpu"]}, "torch_env.accelerator", "does not exist"),
    ({"accelerator": "../../root"}, "torch_env.accelerator", "does not exist"),
    ({"requires-python": "<3"}, "torch_env.requires-python", "no Python from 3.10 on"),
    ({"requires-python": ">=abc"}, "torch_env.requires-python", "is not a version specifier"),
    ({"requires-python": 3.11}, "torch_env.requires-python", "is a number"),
    ({"torch": "2.6"}, "torch_env.torch", "is not a version specifier"),
    ({"torch": "===../../x"}, "torch_env.torch", "is not a version"),
    ({"exclude-newer": "yesterday"}, "torch_env.exclude-newer", "neither a date nor"),
    ({"exclude-newer": "2026-13-01"}, "torch_env.exclude-newer", "is not a valid time"),
    ({"exclude-newer": "9999-12-31"}, "torch_env.exclude-newer", "is not a valid time"),
    ({"exclude-newer": 2026}, "torch_env.exclude-newer", "is a number"),
]


@pytest.mark.parametrize(("metadata", "field", "words"), REFUSED, ids=lambda value: repr(value)[:40])
def test_what_cannot_be_meant_is_refused_with_its_place_and_a_fix(
    metadata: object, field: str, words: str
) -> None:
    """The message names the field, says what is wrong with it, and how to write it."""
    with pytest.raises(InvalidRequest) as refused:
        parse_request(metadata, [])
    assert refused.value.field == field
    assert field in refused.value.what
    assert words in str(refused.value)
    assert refused.value.fix


def test_the_message_of_a_refusal_prints_on_any_terminal_and_in_few_lines() -> None:
    """Control characters are escaped, credentials dropped, and a megabyte is not repeated."""
    for extra in ("x\x1b[31m", "x @ https://me:secret@example.org/x", "\u202ex", "x" * 1_000_000):
        with pytest.raises(InvalidRequest) as refused:
            parse_request({"extras": [extra]}, [])
        text = str(refused.value)
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "secret" not in text
        assert len(text) < 1000


@pytest.mark.parametrize(
    "key",
    ["index", "env", "argv", "python", "LD_LIBRARY_PATH", "allow_build", "trusted", "timeout", "overlay_path",
     "extra-index-url", "find-links"],
)  # fmt: skip
def test_what_only_the_owner_of_the_machine_decides_is_ignored_and_said(key: str) -> None:
    """Such a key changes nothing but the warnings."""
    request = parse_request({key: "http://example.org", "extras": ["einops"]}, [])
    assert request.extras == ("einops",)
    assert "only the owner of this machine can set it" in request.warnings[0]
    assert repr(key) in request.warnings[0]


def test_a_mistyped_key_is_ignored_with_the_right_one_named() -> None:
    """An unknown key warns, and a near miss says what was probably meant."""
    (warning,) = parse_request({"requires_python": ">=3.11"}, []).warnings
    assert "did you mean 'requires-python'?" in warning


def test_many_unknown_keys_make_few_warnings() -> None:
    """A thousand unknown keys do not fill the notebook's first output."""
    warnings = parse_request({f"key{number}": number for number in range(900)}, []).warnings
    assert len(warnings) == 6
    assert warnings[-1] == "895 more unknown keys in torch_env are ignored"


def test_a_lock_in_the_block_is_checked_like_everything_in_it() -> None:
    """A lock of too many packages is refused before any of them is looked at."""
    lock = {"lock-version": "1.0", "packages": ["…"] * 5000, "tool": {"torch-overlay": {}}}
    with pytest.raises(InvalidRequest, match=r"torch_env\.lock") as caught:
        parse_request({"lock": lock}, [])
    assert caught.value.field.startswith("torch_env.lock")


def test_a_requirement_named_torch_chooses_the_base() -> None:
    """It joins ``torch`` under any spelling; torch's own extras stay to be installed."""
    request = parse_request({"torch": "<3", "extras": ["Torch>=2", "torch[opt_einsum]!=2.5", "einops"]}, [])
    assert request.torch == "!=2.5,<3,>=2"
    assert request.extras == ("torch[opt-einsum]", "einops")


def test_a_torch_with_a_marker_is_left_to_the_resolver() -> None:
    """Its marker speaks of a Python that is not chosen yet."""
    request = parse_request({"extras": ['torch<2.5; python_version < "3.9"']}, [])
    assert request.torch == ""
    assert request.extras == ('torch<2.5; python_version < "3.9"',)


def test_markers_that_are_false_here_are_kept() -> None:
    """The base may run another Python than this one."""
    extras = ('pywin32; sys_platform == "win32"',)
    assert parse_request({"extras": list(extras)}, []).extras == extras


def test_a_repeated_extra_counts_once_and_two_versions_both() -> None:
    """Contradictions are for the resolver, which can say why."""
    assert parse_request({"extras": ["numpy>=2", "NumPy >=2", "numpy<2"]}, []).extras == (
        "numpy>=2",
        "numpy<2",
    )


@pytest.mark.parametrize("extra", ["x @ https://example.org/x.whl", "x @ git+https://example.org/x"])
def test_urls_are_let_through_where_the_administrator_allows_them(extra: str) -> None:
    """They are refused otherwise, and files of the machine and torch itself always are."""
    assert parse_request({"extras": [extra]}, [], allow_urls=True).extras == (extra,)
    for never in ("x @ file:///etc/x.whl", "torch @ https://example.org/t.whl", "https://example.org/x.whl"):
        with pytest.raises(InvalidRequest):
            parse_request({"extras": [never]}, [], allow_urls=True)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("2026-11-01", "2026-11-02T00:00:00Z"),
        ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z"),
        ("2026-11-01t00:30:00.25+01:00", "2026-10-31T23:30:00.25Z"),
    ],
)
def test_exclude_newer_means_the_same_moment_on_every_machine(said: str, meant: str) -> None:
    """A date lasts to its end in UTC, a time is converted to UTC."""
    assert parse_request({"exclude-newer": said}, []).exclude_newer == meant


def test_a_script_block_joins_the_metadata() -> None:
    """``dependencies`` come after ``extras``, and both ``requires-python`` hold."""
    block = 'requires-python = ">=3.11"\ndependencies = ["einops", "torch>=2"]\n[tool.ruff]\nfix = true'
    request = parse_request({"extras": ["transformers"], "requires-python": "<3.14"}, [block])
    assert request == Request(
        torch=">=2", requires_python="<3.14,>=3.11", extras=("transformers", "einops")
    ), "and tool tables are somebody else's"


@pytest.mark.parametrize(
    ("blocks", "field", "words"),
    [
        (['dependencies = ["a"]', 'dependencies = ["b"]'], "# /// script", "more than once"),
        (['requires-python = ">=3.11"', 'dependencies = ["b"]'], "# /// script", "more than once"),
        ([""] * 20, "# /// script", "20 times; the limit is 16"),
        (["dependencies = ["], "# /// script", "not valid TOML"),
        (["a = " + "[" * 10_000], "# /// script", "not valid TOML"),
        (["a = " + "1" * 10_000], "# /// script", "not valid TOML"),
        (["#" * 20_000], "# /// script", "the limit is 16,384"),
        (['dependencies = "einops"'], "# /// script dependencies", "is a string, not a list"),
        (['dependencies = ["ok", "-e ."]'], "# /// script dependencies[1]", "is an option"),
        (['requires-python = "<3"'], "# /// script requires-python", "no Python from 3.10 on"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_wrong_script_block_is_refused_in_its_own_words(blocks: list[str], field: str, words: str) -> None:
    """The fix shows a line of TOML in a comment, as the cell has it."""
    with pytest.raises(InvalidRequest) as refused:
        parse_request(None, blocks)
    assert refused.value.field == field
    assert words in str(refused.value)


def test_of_several_script_blocks_the_one_that_holds_all_others_counts() -> None:
    """As ``%overlay add`` offers them, one after the other, whatever their order in the notebook."""
    less = 'requires-python = ">=3.11"\ndependencies = ["einops"]'
    more = 'requires-python = ">=3.11"\ndependencies = ["einops", "humanize"]'
    for blocks in ([less, more], [more, less, less], ["", more]):
        request = parse_request(None, blocks)
        assert (request.extras, request.requires_python) == (("einops", "humanize"), ">=3.11")


def test_an_unknown_key_in_a_script_block_is_said() -> None:
    """As in the metadata."""
    (warning,) = parse_request(None, ["dependences = []"]).warnings
    assert "did you mean 'dependencies'?" in warning


def test_the_digest_follows_what_is_asked_and_nothing_else() -> None:
    """Spelling and warnings do not change it, each value does."""
    plain = parse_request({"extras": ["Einops"]}, [])
    assert plain.digest() == parse_request({"extras": ["einops"], "surprise": 1}, []).digest()
    others: list[dict[str, object]] = [
        {"extras": ["einops>=0.8"]},
        {"extras": ["einops"], "torch": ">=2"},
        {"extras": ["einops", "timm"]},
        {"extras": ["timm", "einops"]},
        {"extras": ["einops"], "accelerator": "cpu"},
    ]
    digests = {parse_request(other, []).digest() for other in others}
    assert len(digests | {plain.digest()}) == len(others) + 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
KNOWN = st.fixed_dictionaries(
    {},
    optional={
        "accelerator": JSON,
        "torch": st.text() | st.from_regex(r"[<>=!~]{1,3}[0-9.*+a-z]{1,9}", fullmatch=True),
        "requires-python": st.text() | st.from_regex(r"[<>=!~]{1,3}3\.[0-9.*]{1,5}", fullmatch=True),
        "extras": st.lists(st.text() | st.from_regex(r"[-\w.\[\]<>=;@ /]{1,20}") | JSON, max_size=3),
        "exclude-newer": st.text() | st.from_regex(r"\d{4}-\d\d-\d\d([Tt]\d\d:\d\d:\d\d(Z|\+\d\d:\d\d))?"),
    },
)


@given(metadata=JSON | KNOWN, blocks=st.lists(st.text(), max_size=2))
def test_any_value_at_all_gives_a_request_or_a_refusal(metadata: object, blocks: list[str]) -> None:
    """Nothing a notebook can hold makes a traceback of ours."""
    refusals: list[InvalidRequest] = []
    request = Request()
    try:
        request = parse_request(metadata, blocks)
    except InvalidRequest as refused:
        refusals.append(refused)
    assert all(refused.field and refused.fix for refused in refusals)
    again = parse_request({"extras": list(request.extras), "torch": request.torch or None}, [])
    assert (again.extras, again.torch) == (request.extras, request.torch), "and parsing is stable"
