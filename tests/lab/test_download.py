"""A download that takes a while: in the corner it says how much has come, of how much, and how fast."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.index import LocalIndex, Trouble
from tests.support.notebooks import write_notebook
from tests.support.server import JupyterServer
from tests.support.wheels import build_wheel

from .conftest import Open

pytestmark = [pytest.mark.system, pytest.mark.browser, pytest.mark.network, pytest.mark.slow]

BYTES = 1_500_000
"""Of each package: uv says nothing of the downloads of small ones."""


def test_bytes_and_speed_of_a_download_are_told(
    lab: JupyterServer, tab: Open, tiny_index: LocalIndex, lab_home: Path
) -> None:
    """One package has come, the other has not: 1.5 MB of 2.9 MB, at some speed; then it is cancelled."""
    troubles: dict[str, Trouble] = {"large-near": "wait", "large-far": "trickle"}
    for name, trouble in troubles.items():
        data = {f"{name.replace('-', '_')}/data": os.urandom(BYTES)}  # which no wheel makes smaller
        tiny_index.publish(build_wheel(lab_home / "wheels", name, files=data))
        file = f"/simple/{name.replace('-', '_')}-1.0-py3-none-any.whl"
        tiny_index.misbehave(file, trouble)
    write_notebook(
        lab.root / "large.ipynb", "1", kernel="torch-cpu",
        torch_env={"accelerator": "cpu", "extras": ["large-near", "large-far"]},
    )  # fmt: skip
    page = tab(lab)
    page.open("large.ipynb")
    toast = page.page.get_by_role("alert").filter(has_text="large.ipynb: Downloading large-far")
    expect(toast).to_contain_text("0 of 1 · 0 B of 1.5 MB")
    tiny_index.behave()
    toast = page.page.get_by_role("alert").filter(has_text="1 of 2")
    expect(toast).to_contain_text(re.compile(r"1\.5 MB of 2\.9 MB · \S+ [kM]?B/s"))  # uv rounds its MiB
    page.picture("downloading")
    page.button("Cancel", within=toast).click()
    expect(page.chip).to_have_text("Build failed")
