"""Who else could change what lies at a path: decided component by component, links included."""

from __future__ import annotations

import grp
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_provisioner.errors import BuildFailed, UvUnusable
from kernel_provisioner.system.permissions import danger_at, make_private, refuse_strangers
from tests.support.parts import need


def test_a_private_path_is_nobody_elses(tmp_path: Path) -> None:
    """What is there, and what is not there yet."""
    (tmp_path / "a").mkdir()
    assert danger_at(tmp_path / "a") is None
    assert danger_at(tmp_path / "a/b/c") is None
    assert danger_at(Path("/")) is None


def test_a_directory_for_everybody_is_a_danger_to_what_lies_in_it(tmp_path: Path) -> None:
    """It is named, with the command that closes it; a sticky bit is enough on the way, not at the end."""
    way = tmp_path / "open way"
    way.mkdir()
    way.chmod(0o777)
    danger = danger_at(way / "a/b")
    assert danger is not None
    assert (danger.path, danger.how) == (str(way), "every user can write to it")
    assert danger.remedy.startswith(f"chmod o-w '{way}'  or  chmod +t '{way}'")
    way.chmod(0o1777)
    assert danger_at(way / "a/b") is None
    danger = danger_at(way)
    assert danger is not None
    assert danger.remedy == f"chmod o-w '{way}'"


WHO_CAN_CHANGE = """
import sys
from pathlib import Path
from kernel_provisioner.system.permissions import danger_at
danger = danger_at(Path(sys.argv[1]))
print(danger.how if danger else "nobody else")
"""


@pytest.mark.parametrize(
    ("group", "of", "how"),
    [
        (54321, [], "its group (gid 54321), whose people are not known here, may write to it"),
        (54321, [54321], "nobody else"),
        (65534, [65534], "its group (gid 65534), whose people are not known here, may write to it"),
    ],
    ids=["no group of ours", "the group of a container's volume", "a group that a container does not know"],
)
def test_a_group_without_a_name_is_nobodys_only_where_it_is_ours(
    tmp_path: Path, group: int, of: list[int], how: str
) -> None:
    """A shared disk may have members of it that this machine does not know."""
    need(os.geteuid() == 0, "root, who can give a directory to a group")
    need(not _has_name(54321), "a group number without a name")
    place = tmp_path / "store"
    place.mkdir()
    os.chown(place, -1, group)
    place.chmod(0o2775)
    words = [sys.executable, "-c", WHO_CAN_CHANGE, str(place)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        words, env=env, cwd="/", extra_groups=of, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == how


def _has_name(group: int) -> bool:
    try:
        return bool(grp.getgrgid(group))
    except KeyError:
        return False


@pytest.mark.parametrize("link", ["absolute", "relative", "upwards", "of a link"])
def test_what_a_link_leads_through_counts(tmp_path: Path, link: str) -> None:
    """Also where a textual look at the path would not come by there."""
    (tmp_path / "open/real").mkdir(parents=True)
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "way/deep").mkdir(parents=True)
    goal = {
        "absolute": str(tmp_path / "open/real"),
        "relative": "../open/real",
        "upwards": "deep/../../open/real",
        "of a link": "second",
    }[link]
    (tmp_path / "way/link").symlink_to(goal)
    (tmp_path / "way/second").symlink_to(tmp_path / "open/real")
    danger = danger_at(tmp_path / "way/link/overlays")
    assert danger is not None
    assert danger.path == str(tmp_path / "open")


def test_two_dots_after_a_link_mean_the_links_goal(tmp_path: Path) -> None:
    """As the system reads them: not the directory that the link lies in."""
    (tmp_path / "open/real").mkdir(parents=True)
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to("open/real")
    danger = danger_at(tmp_path / "link/../overlays")
    assert danger is not None
    assert danger.path == str(tmp_path / "open")


def test_a_relative_path_counts_from_here(tmp_path: Path) -> None:
    """In a process of its own, whose working directory others can write to."""
    tmp_path.chmod(0o777)
    code = (
        "from pathlib import Path; from kernel_provisioner.system.permissions import danger_at; "
        "print(danger_at(Path('x')).path)"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(tmp_path)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    """With the system's own error."""
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(OSError, match="symbolic links"):
        danger_at(tmp_path / "one/overlays")


def test_a_file_on_the_way_is_the_systems_own_error(tmp_path: Path) -> None:
    """Nothing can lie in a file."""
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        danger_at(tmp_path / "file/overlays")


def test_the_refusal_says_what_where_how_and_the_way_out(tmp_path: Path) -> None:
    """As an error of the caller's kind."""
    tmp_path.chmod(0o777)
    with pytest.raises(UvUnusable) as caught:
        refuse_strangers(
            tmp_path / "x", what="uv's cache cannot be used", fix="set UV_CACHE_DIR", error=UvUnusable
        )
    assert caught.value.what == f"uv's cache cannot be used: other users can change {tmp_path}"
    assert caught.value.why.startswith("every user can write to it: ")
    assert (
        caught.value.fix == f"chmod o-w {tmp_path}  or  chmod +t {tmp_path}  (its owner); or set UV_CACHE_DIR"
    )
    with pytest.raises(BuildFailed):
        refuse_strangers(tmp_path, what="no", fix="")
    tmp_path.chmod(0o700)
    refuse_strangers(tmp_path / "x", what="no", fix="")


def test_a_private_directory_is_private_with_all_its_parents(tmp_path: Path) -> None:
    """Whatever the umask; what is there already is left as it is."""
    tmp_path.chmod(0o755)
    before = os.umask(0)
    try:
        make_private(tmp_path / "a/b/c")
        make_private(tmp_path / "a/b")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / path).stat().st_mode) for path in ("", "a", "a/b", "a/b/c")]
    assert modes == [0o755, 0o700, 0o700, 0o700]
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_private(tmp_path / "file")
