from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_provisioner.notebook.scan import MAX_WORK, MalformedJson, Scanner, TooMuchWork

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(), inner, max_size=6),
    max_leaves=40,
)


def scanner(text: bytes, piece: int = 1 << 20) -> Scanner:
    """A scanner that is fed ``piece`` bytes at a time."""
    stream = io.BytesIO(text)
    return Scanner(lambda size: stream.read(min(size, piece)))


def pieces_of(scan: Scanner) -> dict[str, object]:
    """The members of the object at hand, each kept and decoded."""
    found = {}
    for key in scan.members():
        text = scan.value(keep=1 << 20)
        assert text is not None
        found[key] = json.loads(text)
    return found


@given(
    document=st.dictionaries(st.text(max_size=100), JSON, max_size=6),
    indent=st.sampled_from([None, 1]),
    escaped=st.booleans(),
    piece=st.integers(1, 40) | st.just(1 << 20),
)
def test_members_are_what_the_json_module_says(
    document: dict[str, object], indent: int | None, escaped: bool, piece: int
) -> None:
    """Wherever the pieces that the text comes in happen to end."""
    text = json.dumps(document, indent=indent, ensure_ascii=escaped).encode()
    assert pieces_of(scanner(text, piece)) == document


@given(value=JSON, piece=st.integers(1, 40))
def test_a_value_that_is_passed_over_ends_where_it_ends(value: object, piece: int) -> None:
    """What comes after it is found again."""
    scan = scanner(json.dumps([value, "after"]).encode(), piece)
    found = [scan.value(keep=100 if number else 0) for number, _ in enumerate(scan.elements())]
    assert found == [None, b'"after"']
    assert scan.peek() == b""


@pytest.mark.parametrize(
    "value",
    ['"' + "a" * 3_000_000 + '"', '"' + r"\"\\" * 500_000 + '"', '"' + "\\n" * 900_000 + '"',
     "[" * 1000 + "]" * 1000, "[" + "1," * 900_000 + "1]", '["' + '","' * 400_000 + '"]',
     "[" + '{"a":[1,"b"]},' * 200_000 + "0]"],
    ids=["plain", "escapes", "newlines", "deep", "numbers", "strings", "records"],
)  # fmt: skip
def test_values_longer_than_a_piece_are_passed_over(value: str) -> None:
    """As outputs are: pictures, logs, tables."""
    text = json.dumps({"outputs": 0, "metadata": {"a": 1}}).replace("0", value, 1).encode()
    scan = scanner(text)
    kept = {key: scan.value(keep=100) for key in scan.members()}
    assert kept == {"outputs": None, "metadata": b'{"a": 1}'}


def test_a_value_longer_than_what_is_to_be_kept_is_not() -> None:
    """The limit is exact, also over the edge of a piece."""
    for piece in (3, 1000):
        assert scanner(b'"0123456789"', piece).value(keep=12) == b'"0123456789"'
        assert scanner(b'"0123456789"', piece).value(keep=11) is None


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b'{"a"', b'{"a":', b'{"a":1', b'{"a":1,', b'{"a":1,}', b"{1:1}", b'{"a" 1}', b'{"a":"',
     b'{"a":"\\', b'{"a":[[]', b'{"a":}', b"[]", b"\x00\x00", b'{"a":1]'],
)  # fmt: skip
def test_what_is_no_object_is_said_to_be_none(text: bytes) -> None:
    """Cut short, or something else altogether."""
    for piece in (1, 1000):
        with pytest.raises(MalformedJson):
            pieces_of(scanner(text, piece))


def test_work_is_bounded_in_the_number_of_brackets() -> None:
    """A text of nothing but brackets is given up, not walked to its end."""
    with pytest.raises(TooMuchWork, match="text and tables"):
        scanner(b"[" * (MAX_WORK // 128 + 2)).value()
