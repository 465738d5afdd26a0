"""The wheel store is compiled by the base's own Python, which may need to be told where its libraries are."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.builder.spec import BuildSpec
from kernel_provisioner.builder.supply import compile_entries
from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.store import entry as entries
from tests.support.bases import Bench
from tests.support.stored import wait_until_compiled

OF_A_CLUSTER = """\
#!/bin/sh
[ "$LD_LIBRARY_PATH" = /modules/python/lib ] || { echo "error while loading shared libraries" >&2; exit 127; }
exec "$(dirname "$0")/real" "$@"
"""


@pytest.fixture
def uncompiled(bench: Bench) -> tuple[BuildSpec, Path]:
    """An overlay's order on a Python that needs that variable, and an entry that it is linked to."""
    bench.publish("einops")
    base = bench.base()
    built = bench.overlay(base, "einops")
    wait_until_compiled(built)
    python = bench.home / "module" / "python"
    python.parent.mkdir(exist_ok=True)
    if not python.exists():
        (python.parent / "real").symlink_to(base.manifest.interpreter)
        python.write_text(OF_A_CLUSTER)
        python.chmod(0o755)
    entry = Path(built.content[layout.ENTRIES][0])
    entry.chmod(0o755)
    (entry / entries.COMPILED).unlink()
    spec = BuildSpec.read(built.generation, bench.overlays.root, "")
    manifest = spec.manifest._replace(interpreter=str(python))
    return spec._replace(base=RegisteredBase(manifest, spec.base.directory)), entry


def test_a_python_that_needs_a_variable_for_its_libraries_compiles_all_the_same(
    uncompiled: tuple[BuildSpec, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the base was looked at."""
    spec, entry = uncompiled
    monkeypatch.setenv("LD_LIBRARY_PATH", "/modules/python/lib")
    compile_entries(spec, [os.fspath(entry)])
    assert (entry / entries.COMPILED).exists()


def test_where_it_cannot_be_compiled_that_is_logged(
    uncompiled: tuple[BuildSpec, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The overlay serves without, and the next build tries again."""
    spec, entry = uncompiled
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    with caplog.at_level(logging.WARNING):
        compile_entries(spec, [os.fspath(entry)])
    assert not (entry / entries.COMPILED).exists()
    assert "was not compiled: error while loading shared libraries" in caplog.text
