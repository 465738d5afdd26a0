"""The words of a uv command are sorted as uv sorts them."""

from __future__ import annotations

import pytest

from kernel_provisioner.inkernel.uv_words import EXTRAS, GROUPS, parse


@pytest.mark.parametrize(
    ("words", "name", "rest"),
    [
        ("run python -c x --extra no", "run", ["python", "-c", "x", "--extra", "no"]),
        ("-q --directory /d run --extra a -m module -x", "run", ["module", "-x"]),
        ("run --with a -w b -- tool --with c", "run", ["tool", "--with", "c"]),
        ("run --script s.py", "run", ["s.py"]),
        ("run - x", "run", ["-", "x"]),
        ("add --group docs a -r r.txt b", "add", ["a", "b"]),
        ("sync --extra=a -p3.11 -qq", "sync", []),
        ("--version", "", []),
    ],
)
def test_what_is_to_be_run_is_no_option(words: str, name: str, rest: list[str]) -> None:
    """The words after the first that is no option are the program's own for ``run``."""
    command = parse(words.split())
    assert (command.name, list(command.rest)) == (name, rest)


def test_options_are_found_by_their_names_however_they_are_written() -> None:
    """With the value as a word of its own, after a sign, or close to a short name."""
    command = parse(["sync", "--extra=a", "--extra", "b", "--group", "docs", "-p3.11", "-qq", "--no-dev"])
    assert command.words(EXTRAS) == ["--extra=a", "--extra", "b"]
    assert command.words(GROUPS) == ["--group", "docs", "--no-dev"]
    assert (command.value("--extra"), command.value("-p", "--python")) == ("b", "3.11")
    assert command.words_but(EXTRAS | GROUPS) == ["-p3.11", "-qq"]
