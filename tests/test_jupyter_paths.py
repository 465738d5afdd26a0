"""Jupyter's search paths are remembered, and never past a change of what they rest on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from jupyter_core.paths import jupyter_config_path, jupyter_path

from kernel_provisioner.system.jupyter_paths import config_path, data_path


@pytest.mark.parametrize(
    ("ours", "jupyters", "variables"),
    [
        (data_path, jupyter_path, ["JUPYTER_PATH", "JUPYTER_DATA_DIR", "XDG_DATA_HOME", "HOME"]),
        (config_path, jupyter_config_path, ["JUPYTER_CONFIG_PATH", "JUPYTER_CONFIG_DIR", "HOME"]),
    ],
    ids=["data", "config"],
)
def test_they_are_jupyters_own_whatever_changes(
    ours: Callable[[], tuple[Path, ...]],
    jupyters: Callable[[], list[str]],
    variables: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """After each variable that is set, and again after it is taken back."""
    seen = {ours()}
    for name in (*variables, "JUPYTER_PREFER_ENV_PATH"):
        for value in (str(tmp_path / name), "0"):
            with monkeypatch.context() as change:
                change.setenv(name, value)
                assert ours() == tuple(map(Path, jupyters())), name
                seen.add(ours())
        assert ours() == tuple(map(Path, jupyters())), name
    assert len(seen) > 2, "the variables make a difference"
