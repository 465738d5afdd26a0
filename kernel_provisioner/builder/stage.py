"""The staging directory: what was unpacked there, checked before anybody may call it an overlay."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from ..errors import PackageDamaged
from ..inkernel.shared.packages import canonical
from ..model.manifest import BaseManifest
from ..overlay.lent import OWN_UV
from ..overlay.skeleton import shebang_for, shebangs_for
from ..system import records
from . import landing

Installed = dict[str, str]  # name, version


def verify(
    staging: Path,
    base: BaseManifest,
    planned: Collection[str],
    replaced: Iterable[str],
    memory: Path | None = None,
    laid: Collection[str] = (),
    sources: Collection[str] = (),
) -> list[Installed]:
    """The distributions in ``staging``, every file of them what its RECORD says, and in its place.

    ``planned`` names the packages that are to be there, ``replaced`` the base's distributions that
    this overlay has versions of its own of. A file that would hide a namespace shared with the base
    is taken out. Those that were ``laid`` come from the store, which has read them; what is remembered in
    ``memory`` (``records.check``) is not read again either. Python may import from ``sources``, directories
    that their user has named. Raises InstallFailed.
    """
    landing.refuse_misplaced(staging, base, planned, replaced, laid, sources)
    installed = []
    sites = sorted(staging.glob("lib/python*/site-packages"))
    for dist_info in (path for site in sites for path in records.dist_infos(site)):
        name, _, version = dist_info.name.removesuffix(".dist-info").partition("-")
        if canonical(name) not in laid and (faults := records.check(dist_info, memory)):
            raise _damaged(faults)
        installed.append({"name": canonical(name), "version": version})
    for site in sites:
        for hider in landing.namespace_hiders(site, base):
            _take_out(hider, site)
    return installed


def verify_unpacked(
    filled: Path, names: Collection[str], check: Callable[[Path], list[records.Fault]] = records.check
) -> None:
    """Raise InstallFailed where a file of these packages, unpacked in ``filled``, is not what RECORD says."""
    landing.refuse_unnamed(filled, names)
    for site in sorted(filled.glob("lib/python*/site-packages")):
        for dist_info in records.dist_infos(site):
            chosen = canonical(dist_info.name.partition("-")[0]) in names
            if chosen and (faults := check(dist_info)):
                raise _damaged(faults)


def readdress(staging: Path, written_for: Path, python: Path) -> None:
    """Let the scripts in ``staging``, which run the interpreter ``written_for``, run ``python``.

    uv was shown another overlay of the same base than the one that they are for. RECORD stays right.
    A uv among them goes behind the overlay's ``bin/uv``, which runs it.
    """
    forms = [form.encode() for form in shebangs_for(written_for)]  # uv has its own mind when to take which
    after = shebang_for(python).encode()
    changed: dict[str, str] = {}
    for script in sorted(staging.glob("bin/*")):
        content = b"" if script.is_symlink() or not script.is_file() else script.read_bytes()
        if before := next((form for form in forms if content.startswith(form)), b""):
            _rewrite(script, after + content.removeprefix(before))
            changed[script.name] = ",".join(records.row_of(script))
    renamed = {"uv": OWN_UV} if os.path.lexists(uv := staging / "bin" / "uv") else {}
    if renamed:
        uv.rename(uv.with_name(OWN_UV))
    # Not by the parser of RECORDs: of thousands of rows these few change, and a cell waits. A pattern
    # that begins with a text is looked for ten times as fast as one that begins with a line.
    row = re.compile(r"(\.\./(?<=^\.\./)(?:\.\./)*bin/)([^,\n]+),(.*)", re.MULTILINE)
    for record in staging.glob("lib/python*/site-packages/*.dist-info/RECORD") if changed or renamed else ():
        text = record.read_text(encoding="utf-8")
        now = row.sub(
            lambda match: f"{match[1]}{renamed.get(match[2], match[2])},{changed.get(match[2]) or match[3]}",
            text,
        )
        if now != text:
            _rewrite(record, now.encode())


def _damaged(faults: list[records.Fault]) -> PackageDamaged:
    first = faults[0]
    return PackageDamaged(
        f"{first.distribution} is damaged: {first}",
        why=f"{len(faults)} of its files differ from its RECORD",
        fix=f"uv cache clean {first.distribution.split('-')[0]}  then restart the kernel;"
        " if it happens again, the package itself is broken",
    )


def _take_out(path: Path, site: Path) -> None:
    """Remove a file and its row in whichever RECORD owns it."""
    relative = path.relative_to(site).as_posix()
    path.unlink()
    for dist_info in records.dist_infos(site):
        rows = list(records.rows(dist_info))
        kept = [row for row in rows if row[0] != relative]
        if len(kept) != len(rows):
            _write_record(dist_info, kept)


def _write_record(dist_info: Path, rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    _rewrite(dist_info / "RECORD", text.getvalue().encode())


def _rewrite(path: Path, content: bytes) -> None:
    """Give a file another content, but not to the file in uv's cache that it may be a hard link to."""
    info = path.stat()
    if info.st_nlink > 1:
        path.unlink()
        path.touch(info.st_mode)
        path.chmod(info.st_mode)
    with path.open("r+b") as file:  # not emptied first: ext4 then waits for the disk
        file.write(content)
        file.truncate()
