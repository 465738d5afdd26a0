"""A kernel that ends at its start is told as any base that cannot be used, and not as a fault of ours."""

from __future__ import annotations

import json

from tests.support.bases import Bench
from tests.support.notebooks import write_notebook


def test_a_kernel_that_dies_at_its_start_is_told_with_its_last_words(bench: Bench) -> None:
    """No cell ran: exit status 2, the cause and a fix, and nothing else; the base's ipykernel is a fake."""
    bench.base()
    path = write_notebook(bench.home / bench.notebook, "print(1)", torch_env={"accelerator": "cpu"})
    done = bench.command("run", str(path), "--output", str(path), "--json", check=False)
    assert done.returncode == 2, done.stderr
    said = json.loads(done.stdout)
    assert said["error"] == "BuildFailed"
    assert "did not start" in said["what"]
    assert "ipykernel" in said["why"]
    assert "jupyter overlay doctor" in said["fix"]
    assert "Traceback" not in done.stderr
    assert "AssertionError" not in done.stderr
    assert "outputs" in path.read_text()
