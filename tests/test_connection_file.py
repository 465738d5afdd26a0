"""The connection file that a kernel writes again: whoever reads it meanwhile sees a whole one."""

from __future__ import annotations

import contextlib
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_core.paths import secure_write

from kernel_provisioner.inkernel import kernel


def test_a_kernel_puts_its_connection_file_in_place_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a server reads it that has just been told that a warm kernel listens."""
    path, before = tmp_path / "kernel.json", '{"key": "k"}'
    path.write_text(before)
    seen: list[str] = []

    @contextlib.contextmanager
    def watched(name: str) -> Iterator[Any]:
        with secure_write(name) as file:
            seen.append(path.read_text())
            yield file

    monkeypatch.setattr("jupyter_client.connect.secure_write", watched)
    app: Any = kernel.IPKernelApp(  # type: ignore[no-untyped-call]
        connection_file=str(path), transport="tcp", ip="127.0.0.1"
    )
    for name in ("shell", "iopub", "stdin", "hb", "control"):
        setattr(app, f"{name}_port", 1024)
    app.session.key = b"k"
    app.write_connection_file()
    assert seen == [before]
    assert json.loads(path.read_text())["shell_port"] == 1024
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
