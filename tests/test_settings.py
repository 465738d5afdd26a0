"""Settings: configuration files, a server's own, then the environment; never the notebook."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from traitlets.config import Config

from kernel_provisioner.model.accelerators import DEFAULT_INDEX_TEMPLATE
from kernel_provisioner.policy import Policy
from kernel_provisioner.settings import Settings, TorchOverlay
from tests.support.bases import REPOSITORY
from tests.support.environ import clean_environment


def _settings(environ: Mapping[str, str] | None = None, **traits: Any) -> Settings:
    return TorchOverlay(config=Config(TorchOverlay=traits)).settings(environ or {})


def _python(code: str, env: dict[str, str]) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout


def _loaded(home: Path, config: str = "", **environ: str) -> dict[str, object]:
    """What a process in a clean environment loads; ``config`` is a server's own, as Python."""
    code = (
        "import json, os; from traitlets.config import Config\n"
        "from kernel_provisioner.settings import load_settings\n"
        f"c = Config()\n{config}\nprint(json.dumps(load_settings(os.environ, c).as_dict()))"
    )
    env = clean_environment(home, index=None, inherited=None, **environ)
    done = _python(code, env)
    loaded: dict[str, object] = json.loads(done)
    return loaded


def test_without_any_setting_there_are_sensible_values() -> None:
    """PyTorch's own index, the user's cache, no rule."""
    settings = _settings()
    assert settings.index_template == DEFAULT_INDEX_TEMPLATE
    assert settings.overlay_root.endswith("torch-overlays")
    assert (settings.preference, settings.policy) == ("", Policy())
    policy = settings.policy
    assert (policy.pins, policy.buildable, policy.offline) == ("stack", None, False)


def test_the_environment_comes_last() -> None:
    """For one shell or one container."""
    environ = {"TORCH_OVERLAY_ROOT": "/a", "TORCH_OVERLAY_INDEX": "https://m/{tag}",
               "TORCH_OVERLAY_ACCELERATOR": "cu126", "UV_OFFLINE": "1"}  # fmt: skip
    traits = {"overlay_root": "/b", "index_template": "https://n/{tag}", "preference": "cpu"}
    settings = _settings(environ, **traits)
    assert (settings.overlay_root, settings.index_template) == ("/a", "https://m/{tag}")
    assert (settings.preference, settings.policy.offline) == ("cu126", True)
    assert _settings({}, **traits).overlay_root == "/b"


@pytest.mark.parametrize(
    ("said", "offline"), [("1", True), ("true", True), ("TRUE", True), ("0", False), ("", False)]
)
def test_uvs_own_word_for_offline_counts(said: str, offline: bool) -> None:
    """A machine that says it is offline to uv is offline for us."""
    assert _settings({"UV_OFFLINE": said}).policy.offline is offline


def test_the_root_of_overlays_may_start_with_the_users_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file, and in a variable that no shell has expanded; a launch and its builder see one directory."""
    monkeypatch.setenv("HOME", "/home/you")
    assert _settings(overlay_root="~/overlays").overlay_root == "/home/you/overlays"
    assert _settings({"TORCH_OVERLAY_ROOT": "~/mine"}).overlay_root == "/home/you/mine"


def test_shared_wheel_stores_are_whole_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a file or the environment; one that is named takes the place of those that are found."""
    monkeypatch.setenv("HOME", "/home/you")
    environ = {"TORCH_OVERLAY_STORES": "/srv/a:~/b"}
    assert _settings(environ, shared_stores=["/c"]).shared_stores == ("/srv/a", "/home/you/b")
    assert _settings(shared_stores=["/c"]).shared_stores == ("/c",)
    assert _settings(shared_stores=[]).shared_stores == ()
    with pytest.raises(ValueError, match="shared_stores names 'wheels'"):
        _settings(shared_stores=["wheels"])


def test_a_root_that_is_not_a_whole_path_is_named_by_where_it_is_set() -> None:
    """Each process would look for it in another directory."""
    with pytest.raises(ValueError, match="TORCH_OVERLAY_ROOT is 'mine'"):
        _settings({"TORCH_OVERLAY_ROOT": "mine"})


def test_files_of_the_user_are_read_in_both_forms(tmp_path: Path) -> None:
    """``jupyter execute`` and papermill hand no configuration on, so the files are read here."""
    home = tmp_path / "home"
    folder = home / "jupyter-config"
    folder.mkdir(parents=True)
    (folder / "jupyter_overlay_config.json").write_text(
        '{"TorchOverlay": {"overlay_root": "/a", "preference": "cpu"}}'
    )
    (folder / "jupyter_overlay_config.py").write_text("c.TorchOverlay.preference = 'cu126'\n")
    loaded = _loaded(home)
    assert (loaded["overlay_root"], loaded["preference"]) == ("/a", "cu126")


def test_a_servers_own_configuration_is_on_top_of_the_files(tmp_path: Path) -> None:
    """And the environment on top of both."""
    home = tmp_path / "home"
    folder = home / "jupyter-config"
    folder.mkdir(parents=True)
    (folder / "jupyter_overlay_config.py").write_text("c.TorchOverlay.preference = 'cpu'\n")
    server = "c.TorchOverlay.preference = 'cu124'"
    assert _loaded(home)["preference"] == "cpu"
    assert _loaded(home, server)["preference"] == "cu124"
    assert _loaded(home, server, TORCH_OVERLAY_ACCELERATOR="rocm6.4")["preference"] == "rocm6.4"


def test_a_changed_file_counts_without_a_new_process(tmp_path: Path) -> None:
    """A server lives for weeks; its next launch reads what the admin wrote today."""
    home = tmp_path / "home"
    config = home / "jupyter-config/jupyter_overlay_config.py"
    code = f"""if True:
        import os, pathlib
        from kernel_provisioner.settings import load_settings
        path = pathlib.Path({str(config)!r})
        for number, tag in enumerate(("cpu", "cu124", None)):
            path.write_text(f"c.TorchOverlay.preference = {{tag!r}}\\n") if tag else path.unlink()
            if tag: os.utime(path, (number, number))
            print(load_settings(os.environ).preference or "none")
        """
    env = clean_environment(home, index=None, inherited=None)
    done = _python(code, env)
    assert done.split() == ["cpu", "cu124", "none"]


def test_settings_are_written_down_without_credentials() -> None:
    """Files hand them to the builder, and no file of ours holds anybody's password."""
    index = "https://me:s3cret@mirror.example/whl/{tag}"
    written = _settings({"TORCH_OVERLAY_ROOT": "/größe", "TORCH_OVERLAY_INDEX": index}).as_dict()
    assert json.loads(json.dumps(written)) == {
        "overlay_root": "/größe",
        "index_template": "https://mirror.example/whl/{tag}",
        "preference": "",
        "policy": [],
        "shared_stores": [],
    }


def test_one_servers_configuration_does_not_stay_for_the_next(tmp_path: Path) -> None:
    """What was read from files is kept in the process, what was merged into it is not."""
    home = tmp_path / "home"
    folder = home / "jupyter-config"
    folder.mkdir(parents=True)
    (folder / "jupyter_overlay_config.py").write_text("c.TorchOverlay.overlay_root = '/a'\n")
    first = "c.TorchOverlay.preference = 'cu124'\nload_settings(os.environ, c)\nc = Config()"
    assert _loaded(home, first)["preference"] == ""


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("py", "c.TorchPolicy.pins = (\n", "SyntaxError"),
        ("py", "raise RuntimeError('odd')\n", "RuntimeError: odd"),
        ("py", "import sys\nsys.exit('enough')\n", "SystemExit: enough"),
        ("py", "c.TorchOverlay.overlay_root = 'here'\n", "TorchOverlay.overlay_root is 'here'"),
        ("py", "c.TorchOverlay.overlay_root = '~nobody-at-all/x'\n", "'~nobody-at-all/x'"),
        (
            "py",
            "c.TorchOverlay.overlay_root = '/disk:2/x'\n",
            "'/disk:2/x', and PATH takes no",
        ),
        ("json", "{", "JSONDecodeError"),
        ("py", "c.TorchPolicy.pins = 'none'\n", "pins"),
        ("py", "c.TorchOverlay.pins = 'all'\n", "write c.TorchPolicy.pins"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_in_the_cell(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    """It may hold the owner's policy, so nothing goes on without it; and nothing raises in a server."""
    home = tmp_path / "home"
    folder = home / "jupyter-config"
    folder.mkdir(parents=True)
    (folder / f"jupyter_overlay_config.{name}").write_text(content)
    code = """if True:
        import os
        from kernel_provisioner.notebook.find import FoundNotebook
        from kernel_provisioner.launch.prepare import prepare
        from kernel_provisioner.settings import load_settings
        launch = prepare(FoundNotebook(), pinned="", settings=load_settings, environ=os.environ, kernel_id="")
        print(launch.failure)
        """
    env = clean_environment(home, index=None, inherited=None)
    done = _python(code, env)
    assert said in done
    assert "jupyter_overlay_config" in done
    assert "fix: " in done
