from __future__ import annotations

import pytest

from kernel_provisioner.errors import InvalidRequest
from kernel_provisioner.model.fields import MAX_LENGTH, Field, kind, show

FIELD = Field("torch_env.extras", "write it right")


def test_a_refusal_is_a_sentence_about_the_field() -> None:
    """It carries the field's name for programs and the fix for people."""
    refused = FIELD[3].refuse("is odd", "because")
    assert refused.field == "torch_env.extras[3]"
    assert str(refused) == "torch_env.extras[3] is odd\n  why: because\n  fix: write it right"


def test_a_line_is_stripped_and_of_bounded_length() -> None:
    """The longest line passes, one more character does not."""
    assert FIELD.line(" einops\t") == "einops"
    assert FIELD.line("a" * MAX_LENGTH)
    with pytest.raises(InvalidRequest):
        FIELD.line("a" * (MAX_LENGTH + 1))


@pytest.mark.parametrize(
    ("value", "name"),
    [("", "a string"), (1, "a number"), (1.5, "a number"), (True, "a boolean"), ([], "a list"),
     ({}, "an object"), (None, "null")],
)  # fmt: skip
def test_kinds_are_told_in_the_words_of_json(value: object, name: str) -> None:
    """People who write notebooks need not know Python's type names."""
    assert kind(value) == name


def test_what_is_shown_fits_in_a_message() -> None:
    """Long and deep values are cut."""
    assert show("einops") == "'einops'"
    assert len(show("x" * 1_000_000)) < 100
    assert len(show([["x" * 1000] * 1000] * 1000)) < 100
