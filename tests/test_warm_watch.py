"""Looking at kernels until they have imported torch goes on, whatever becomes of one of them."""

from __future__ import annotations

import mmap
import os
import threading
from pathlib import Path

import pytest

from kernel_provisioner.warm.imported import TorchWatch
from tests.support.waiting import WITHIN


def test_what_goes_wrong_with_one_kernel_is_logged_and_the_next_is_looked_at(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """This process stands for a kernel that has imported torch: it has a file of that name loaded."""
    library = tmp_path / "libtorch_cpu.so"
    library.write_bytes(bytes(mmap.PAGESIZE))
    watch, failed, found = TorchWatch(), threading.Event(), threading.Event()

    def fails() -> bool:
        failed.set()
        raise ValueError("a base whose files make no sense")

    def finds() -> bool:
        found.set()
        return True

    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ):
        watch.add(os.getpid(), fails)
        assert failed.wait(WITHIN)
        watch.add(os.getpid(), finds)
        assert found.wait(WITHIN)
    assert "a base whose files make no sense" in caplog.text
