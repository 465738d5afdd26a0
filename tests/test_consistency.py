"""Whether packages go together, from their metadata alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel_provisioner.builder.consistency import Distribution, distributions, needed, needs, upset

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
    """Which do not have to be the one that runs this."""
    here = {"old": Distribution("1.0", ("backport; python_version < '3.11'",))}
    assert needs(["old"], here, "3.11.0").faults == ()
    assert needs(["old"], here, "3.10.9").faults == ("old needs backport, which is not there",)


def test_who_does_not_go_with_a_changed_package_is_told() -> None:
    """Also where no extra needs that one; packages that nobody changed are not judged."""
    assert upset(["leaf"], HERE, "3.11.7") == ["unasked needs leaf>=2, and 1.0+cpu is there"]
    assert upset(["top"], HERE, "3.11.7") == []


def test_a_new_version_of_what_is_in_the_base_is_needed_where_its_own_does_not_go_with_the_others() -> None:
    """And what that needs, one after the other; a new version of what goes with them is not."""
    base = {
        "numbers": Distribution("2.1"),
        "frames": Distribution("2.0", ("numbers>=2",)),
        "plots": Distribution("2.0", ("frames>=2",)),
        "calm": Distribution("1.0", ("numbers",)),
    }
    new = {
        "numbers": Distribution("1.26"),
        "frames": Distribution("1.0", ("numbers<2", "columns")),
        "plots": Distribution("1.0", ("frames<2",)),
        "columns": Distribution("1.0"),
        "calm": Distribution("0.9"),
        "stray": Distribution("1.0"),
    }
    found = needed(["numbers<2"], new, base, "3.11.7")
    assert found.names == {"numbers", "frames", "plots", "columns"}
    assert found.faults == ()


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
