"""Every error says what, why and the fix, and can be told in another process."""

from __future__ import annotations

import json

import pytest

from kernel_provisioner import errors
from kernel_provisioner.errors import (
    BuildFailed,
    InvalidRequest,
    LockTimeout,
    NoBaseFits,
    OverlayError,
    UnsupportedPlatform,
    clean,
    refuse_windows,
)

ALL = [getattr(errors, name) for name in errors.__all__ if isinstance(getattr(errors, name), type)]


def test_a_message_reads_as_what_why_and_fix() -> None:
    """Three parts, the longer ones indented under their first line; parts that are empty are left out."""
    error = OverlayError("it failed", why="first\nsecond", fix="do this")
    assert str(error) == "it failed\n  why: first\n       second\n  fix: do this"
    assert str(OverlayError("it failed")) == "it failed"


@pytest.mark.parametrize("kind", ALL)
def test_each_error_survives_json(kind: type[OverlayError]) -> None:
    """The builder writes it, the kernel shows it: the same class with the same words."""
    error = kind("what", why="why", fix="fix")
    again = OverlayError.from_dict(json.loads(json.dumps(error.as_dict())))
    assert type(again) is kind
    assert (again.what, again.why, again.fix) == ("what", "why", "fix")


def test_the_field_of_a_bad_request_survives_json() -> None:
    """Whoever is told in another process can point at it; an error without a field says nothing of one."""
    error = InvalidRequest("it is no list", field="torch_env.extras")
    again = OverlayError.from_dict(json.loads(json.dumps(error.as_dict())))
    assert isinstance(again, InvalidRequest)
    assert again.field == "torch_env.extras"
    assert OverlayError.from_dict(InvalidRequest("what").as_dict()).field == ""
    assert "field" not in OverlayError("what").as_dict()


def test_an_error_of_a_newer_version_is_still_told() -> None:
    """An unknown class becomes the base class; what is missing is empty."""
    error = OverlayError.from_dict({"error": "FromTheFuture", "what": "it failed"})
    assert type(error) is OverlayError
    assert str(error) == "it failed"


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [(InvalidRequest, ValueError), (NoBaseFits, LookupError), (LockTimeout, TimeoutError),
     (BuildFailed, RuntimeError), (UnsupportedPlatform, OSError)],
)  # fmt: skip
def test_each_error_is_the_fitting_builtin(kind: type[OverlayError], builtin: type[Exception]) -> None:
    """Callers who know nothing of this package can catch it."""
    assert issubclass(kind, builtin)


@pytest.mark.parametrize(
    ("dirty", "printed"),
    [
        ("https://user:pa55@host/simple/ and http://token@other/x", "https://****@host/simple/ and http://****@other/x"),
        ("mail someone@example.org", "mail someone@example.org"),
        ("\x1b[31mred\x07", "\\u001b[31mred\\u0007"),
        ("two\nlines\tkept", "two\nlines\tkept"),
        ("right\u202eto\u2066left\ufeff", "right\\u202eto\\u2066left\\ufeff"),
        ("half a pair \ud800", "half a pair \\ud800"),
    ],
)  # fmt: skip
def test_what_is_printed_is_harmless(dirty: str, printed: str) -> None:
    """No credentials, no control characters, nothing that reorders the text, always encodable."""
    assert clean(dirty) == printed
    error = OverlayError(dirty, why=dirty, fix=dirty)
    assert {error.what, error.why, error.fix} == {printed}
    assert printed.encode()


def test_windows_is_refused_with_the_way_out() -> None:
    """At once and clearly; everywhere else nothing happens."""
    with pytest.raises(UnsupportedPlatform) as caught:
        refuse_windows("win32")
    assert "WSL" in caught.value.fix
    refuse_windows("linux")
    refuse_windows("darwin")
