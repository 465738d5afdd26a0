"""Whether packages go together, from their metadata alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel_provisioner.builder.whole import Distribution, distributions, needs, upset

HERE = {
    "top": Distribution("1.0", ("middle[more]>=2", "gone; python_version < '3'")),
    "middle": Distribution("2.5", ("leaf", "extra-only; extra == 'more'", "never; extra == 'other'")),
    "leaf": Distribution("1.0+cpu", ("top", "not a requirement at all")),
    "extra-only": Distribution("3.0"),
    "unasked": Distribution("1.0", ("leaf>=2",)),
}


def test_all_that_is_reached_is_named() -> None:
    """Extras count, markers count, circles end, and what no tool can read is passed over."""
    found = needs(["top"], HERE, "3.11.7")
    assert found.names == {"top", "middle", "leaf", "extra-only"}
    assert found.faults == ()


@pytest.mark.parametrize(
    ("root", "fault"),
    [
        ("absent>=1", "the notebook needs absent>=1, which is not there"),
        ("leaf>=2", "the notebook needs leaf>=2, and 1.0+cpu is there"),
        ("unasked", "unasked needs leaf>=2, and 1.0+cpu is there"),
        ("middle[other]", "middle needs never, which is not there"),
    ],
)
def test_what_is_missing_or_too_old_is_told_with_who_asks(root: str, fault: str) -> None:
    """A clause that a person can act on."""
    assert needs([root], HERE, "3.11.7").faults == (fault,)


def test_markers_are_asked_for_the_bases_python() -> None:
    """Which need not be the one that runs this."""
    here = {"old": Distribution("1.0", ("backport; python_version < '3.11'",))}
    assert needs(["old"], here, "3.11.0").faults == ()
    assert needs(["old"], here, "3.10.9").faults == ("old needs backport, which is not there",)


def test_who_does_not_go_with_a_changed_package_is_told() -> None:
    """Also where no extra needs that one; packages that nobody changed are not judged."""
    assert upset(["leaf"], HERE, "3.11.7") == ["unasked needs leaf>=2, and 1.0+cpu is there"]
    assert upset(["top"], HERE, "3.11.7") == []


def test_the_first_directory_that_has_a_package_counts(tmp_path: Path) -> None:
    """An overlay's own comes before the base's."""
    for place, version in (("first", "2.0"), ("second", "1.0")):
        info = tmp_path / place / f"Some_Name-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Name: Some_Name\nVersion: {version}\nRequires-Dist: a\nRequires-Dist: b\n"
        )
    found = distributions([tmp_path / "first", tmp_path / "second", tmp_path / "none"])
    assert found == {"some-name": Distribution("2.0", ("a", "b"))}
