"""What a directory really takes on disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel_provisioner.inkernel.shared.disk import Usage, human, usage


def test_plain_files_count_once_by_what_they_occupy(tmp_path: Path) -> None:
    """Blocks, not lengths; a symbolic link is a file of its own, not its goal."""
    (tmp_path / "in/side").mkdir(parents=True)
    small = fill(tmp_path / "in/side/small", 10)
    large = fill(tmp_path / "large", 100_000)
    (tmp_path / "link").symlink_to(tmp_path / "large")
    link = (tmp_path / "link").lstat().st_blocks * 512
    assert usage([tmp_path]) == Usage(own_bytes=small + large + link, own_files=3)


def test_hard_links_to_elsewhere_are_told_apart(tmp_path: Path) -> None:
    """A file that uv's cache has too is linked; one whose names all lie in here is own, counted once."""
    cache, overlay = tmp_path / "cache", tmp_path / "overlay"
    cache.mkdir()
    overlay.mkdir()
    cached = fill(cache / "wheel-file", 5_000)
    os.link(cache / "wheel-file", overlay / "from-cache")
    own = fill(overlay / "one-name", 5_000)
    os.link(overlay / "one-name", overlay / "other-name")
    assert usage([overlay]) == Usage(own_bytes=own, own_files=1, linked_bytes=cached, linked_files=1)
    assert usage([overlay, cache]) == Usage(own_bytes=own + cached, own_files=2)


def test_what_is_not_there_takes_nothing(tmp_path: Path) -> None:
    """A directory that somebody removes meanwhile is no error."""
    assert usage([tmp_path / "gone"]) == Usage()


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (999_600, "1.0 MB"), (1_234_567, "1.2 MB"),
        (5_300_000_000, "5.3 GB"), (2_500_000_000_000, "2500.0 GB"),
    ],
)  # fmt: skip
def test_sizes_are_written_for_people(size: int, text: str) -> None:
    """Powers of ten, one digit behind the point."""
    assert human(size) == text


def fill(path: Path, size: int) -> int:
    """Write a file of ``size`` bytes; what it occupies."""
    path.write_bytes(b"x" * size)
    return path.stat().st_blocks * 512
