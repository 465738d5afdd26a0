"""Installed files against RECORD: what uv installs without a look, and what a full disk leaves."""

from __future__ import annotations

import json
import os
import re
import zipfile
from pathlib import Path

import pytest

from kernel_provisioner.system import records
from tests.support.wheels import Record, build_wheel


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site directory with one sound distribution."""
    return _unpacked(tmp_path)


def test_a_sound_distribution_has_no_faults(site: Path) -> None:
    """Bytecode that Python added later, and RECORD's own row without a hash, do not matter."""
    cache = site / "tiny/__pycache__"
    cache.mkdir()
    (cache / "__init__.cpython-311.pyc").write_bytes(b"later")
    (dist_info,) = records.dist_infos(site)
    assert dist_info.name == "tiny-1.0.dist-info"
    assert records.check(dist_info) == []


def test_an_altered_file_is_found_by_size_and_by_hash(site: Path) -> None:
    """Longer is noticed without reading; as long but different is noticed by its digest."""
    module = site / "tiny/__init__.py"
    text = module.read_text()
    for changed in (text + "#", text.replace("1.0", "6.6")):
        module.write_text(changed)
        assert _faults(site) == ["tiny/__init__.py is altered (tiny-1.0)"]
    module.write_text(text)
    assert _faults(site) == []


def test_a_missing_file_is_named(site: Path) -> None:
    """As after a kill half-way through an install."""
    (site / "tiny/__init__.py").unlink()
    assert _faults(site) == ["tiny/__init__.py is missing (tiny-1.0)"]


def test_missing_metadata_is_a_fault_too(site: Path) -> None:
    """Whatever RECORD gives a hash of has to be there."""
    (site / "tiny-1.0.dist-info/METADATA").unlink()
    assert _faults(site) == ["tiny-1.0.dist-info/METADATA is missing (tiny-1.0)"]


@pytest.mark.parametrize("row", ["../../../../../../../../../../dev/zero", "/dev/zero"])
def test_what_is_no_file_is_never_read(site: Path, row: str) -> None:
    """A device has no end; and no row leads to the root of the file system."""
    record = site / "tiny-1.0.dist-info/RECORD"
    record.write_text(record.read_text() + f"{row},sha256={'A' * 43},\n")
    assert _faults(site) == [f"{row} is {'no file' if row[0] == '.' else 'missing'} (tiny-1.0)"]


def test_a_folder_in_the_place_of_a_file_is_a_fault(site: Path) -> None:
    """An odd disk, told like any other."""
    (site / "tiny/__init__.py").unlink()
    (site / "tiny/__init__.py").mkdir()
    (fault,) = _faults(site)
    assert fault.startswith("tiny")


def test_a_missing_record_is_a_fault(site: Path) -> None:
    """Nothing could be checked, which is not the same as sound."""
    (site / "tiny-1.0.dist-info/RECORD").unlink()
    (fault,) = _faults(site)
    assert "RECORD is unreadable" in fault


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b'a,"sha256=x', b"a\x00b,sha256=x,1\n"])
def test_an_unreadable_record_is_a_fault_and_no_traceback(site: Path, content: bytes) -> None:
    """Bytes that are no text, a quote that never ends, a NUL in a name."""
    (site / "tiny-1.0.dist-info/RECORD").write_bytes(content)
    assert _faults(site)


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "shake_256", "nonsense"])
def test_a_hash_that_is_not_to_be_trusted_is_a_fault(site: Path, algorithm: str) -> None:
    """The specification forbids md5 and sha1; an unknown name proves nothing."""
    (site / "tiny-1.0.dist-info/RECORD").write_text(f"tiny/__init__.py,{algorithm}=abc,\n")
    (fault,) = _faults(site)
    assert algorithm in fault


@pytest.mark.parametrize("record", ["wrong-hash", "names-a-missing-file"])
def test_a_wheel_whose_record_lies_is_found_out(tmp_path: Path, record: Record) -> None:
    """uv installs these."""
    assert _faults(_unpacked(tmp_path, record=record))


def test_names_and_sizes_alone_show_what_is_missing_or_cut_short(tmp_path: Path) -> None:
    """Nothing is read then: what has the right size is found by the whole check alone."""
    site = _unpacked(tmp_path)
    module, info = site / "tiny/__init__.py", site / "tiny-1.0.dist-info"
    text = module.read_text()
    module.write_text("#" * len(text))
    assert records.cut_short(info) == []
    assert [fault.kind for fault in records.check(info)] == ["altered"]
    module.write_text(text[1:])
    assert [fault.kind for fault in records.cut_short(info)] == ["altered"]
    module.unlink()
    assert [fault.kind for fault in records.cut_short(info)] == ["missing"]


def test_files_outside_the_site_directory_are_checked_as_well(tmp_path: Path) -> None:
    """Scripts and data lie beside it; RECORD names them with dots."""
    site = _unpacked(tmp_path)
    script = site.parent / "bin/tiny"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n")
    with (site / "tiny-1.0.dist-info/RECORD").open("a") as record:
        record.write("../bin/tiny,,10\n")
    assert _faults(site) == []
    script.write_text("#!/bin/sh\nrm -rf /\n")
    assert _faults(site) == ["../bin/tiny is altered (tiny-1.0)"]


def test_names_with_commas_and_quotes_are_read_as_csv(tmp_path: Path) -> None:
    """A file name may hold anything."""
    site = _unpacked(tmp_path)
    (site / 'odd, "name".txt').write_text("x")
    with (site / "tiny-1.0.dist-info/RECORD").open("a") as record:
        record.write('"odd, ""name"".txt",,1\n')
    assert _faults(site) == []


def test_a_directory_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    """As a base that was removed under us."""
    assert records.dist_infos(tmp_path / "nowhere") == []


def _unpacked(directory: Path, *, record: Record = "right") -> Path:
    wheel = build_wheel(directory / "wheels", "tiny", record=record)
    site = directory / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def _seen(directory: Path) -> Path:
    """The dist-info of a distribution whose only module is a hard link, and was found right once."""
    site = _unpacked(directory)
    (dist_info,) = records.dist_infos(site)
    (directory / "cache").hardlink_to(site / "tiny/__init__.py")
    assert records.check(dist_info, directory / "seen") == []
    return dist_info


def _faults(site: Path) -> list[str]:
    return [str(fault) for dist_info in records.dist_infos(site) for fault in records.check(dist_info)]


def test_a_hard_linked_file_that_was_right_is_not_read_again(tmp_path: Path) -> None:
    """An overlay's files are links to the cache: what was read once is the same in the next overlay."""
    dist_info = _seen(tmp_path)
    module = dist_info.parent / "tiny/__init__.py"
    before = module.stat()
    module.write_bytes(b"#" * before.st_size)  # unseen, for its time is set back: that it was not read shows
    os.utime(module, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert records.check(dist_info, tmp_path / "seen") == []


def test_an_altered_file_is_read_again_and_found(tmp_path: Path) -> None:
    """What was remembered is the inode with its time and size, and the hash that it was held against."""
    dist_info = _seen(tmp_path)
    module = dist_info.parent / "tiny/__init__.py"
    module.write_bytes(b"#" * module.stat().st_size)
    assert [str(fault) for fault in records.check(dist_info, tmp_path / "seen")] == [
        "tiny/__init__.py is altered (tiny-1.0)"
    ]


def test_another_record_is_held_against_every_file(tmp_path: Path) -> None:
    """A file that was right for one RECORD may be wrong for the next."""
    dist_info = _seen(tmp_path)
    record = dist_info / "RECORD"
    text = record.read_text()
    record.write_text(re.sub(r"(tiny/__init__.py,sha256=)[^,]+", rf"\1{'A' * 43}", text))
    assert [fault.path for fault in records.check(dist_info, tmp_path / "seen")] == ["tiny/__init__.py"]
    record.write_text(f"{text}tiny/more.py,,\n")
    assert [str(fault) for fault in records.check(dist_info, tmp_path / "seen")] == [
        "tiny/more.py is missing (tiny-1.0)"
    ]


def test_a_script_is_always_read_and_changes_nothing_for_the_others(tmp_path: Path) -> None:
    """It names its environment's interpreter: each environment has its own, and its own row for it."""
    site = _unpacked(tmp_path)
    (dist_info,) = records.dist_infos(site)
    module, script, record = site / "tiny/__init__.py", tmp_path / "bin/tiny", dist_info / "RECORD"
    (tmp_path / "cache").hardlink_to(module)
    script.parent.mkdir()
    text = record.read_text()
    for shebang in ("#!/one/python", "#!/another/python"):
        script.write_text(shebang)
        record.write_text(f"{text}../bin/tiny,{','.join(records.row_of(script))}\n")
        assert records.check(dist_info, tmp_path / "seen") == []
        before = module.stat()
        module.write_bytes(b"#" * before.st_size)  # unseen, as above
        os.utime(module, ns=(before.st_atime_ns, before.st_mtime_ns))
    script.write_text("altered")
    assert [str(fault) for fault in records.check(dist_info, tmp_path / "seen")] == [
        "../bin/tiny is altered (tiny-1.0)"
    ]


def test_a_file_of_ones_own_is_always_read(tmp_path: Path) -> None:
    """A copy shares its inode with nobody: remembering it would help nobody."""
    site = _unpacked(tmp_path)
    (dist_info,) = records.dist_infos(site)
    assert records.check(dist_info, tmp_path / "seen") == []
    assert not (tmp_path / "seen").exists()


@pytest.mark.parametrize("change", [{"paths": 5}, {"device": "x"}, {"inodes": []}])
def test_what_was_remembered_may_be_of_another_version(tmp_path: Path, change: dict[str, object]) -> None:
    """Whatever stands in it, what is there is looked at; never a traceback."""
    dist_info = _seen(tmp_path)
    memory = tmp_path / "seen/tiny-1.0.json"
    memory.write_text(json.dumps(json.loads(memory.read_bytes()) | change))
    (dist_info.parent / "tiny/__init__.py").write_text("altered")
    assert [fault.path for fault in records.check(dist_info, tmp_path / "seen")] == ["tiny/__init__.py"]


def test_what_was_remembered_wrongly_is_forgotten(tmp_path: Path) -> None:
    """A file that never was makes one check fail; the next looks at every file."""
    dist_info = _seen(tmp_path)
    memory = tmp_path / "seen/tiny-1.0.json"
    memory.write_text(json.dumps(json.loads(memory.read_bytes()) | {"own": [[1, None]]}))
    assert [fault.path for fault in records.check(dist_info, tmp_path / "seen")] == ["1"]
    assert records.check(dist_info, tmp_path / "seen") == []


def test_what_was_remembered_may_be_torn(tmp_path: Path) -> None:
    """Then everything is read, as if nothing had been remembered."""
    site = _unpacked(tmp_path)
    (tmp_path / "seen").mkdir()
    (tmp_path / "seen/tiny-1.0.json").write_text('{"tiny/__init__.py": [1, 2')
    (site / "tiny/__init__.py").write_text("altered")
    (dist_info,) = records.dist_infos(site)
    assert records.check(dist_info, tmp_path / "seen")
