"""Where rules come from: layers of files of which none can be switched off, and none passed over."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kernel_provisioner.settings import CONFIG_NAME
from tests.support.bases import REPOSITORY
from tests.support.environ import clean_environment

LOAD = """if True:
    import json, os
    from traitlets.config import Config
    from kernel_provisioner.errors import OverlayError
    from kernel_provisioner.settings import load_settings
    c = Config()
    {server}
    try:
        print(json.dumps(load_settings(os.environ, c).as_dict()))
    except OverlayError as error:
        print(json.dumps(error.as_dict()))
    """
LAUNCH = """if True:
    import os
    from kernel_provisioner.notebook.find import FoundNotebook
    from kernel_provisioner.launch.prepare import prepare
    from kernel_provisioner.settings import load_settings
    made = prepare(FoundNotebook(), pinned="", settings=load_settings, environ=os.environ, kernel_id="")
    print(made.failure)
    """


class Machine:
    """A machine with an installation of Jupyter whose configuration its users cannot write, and a user."""

    def __init__(self, home: Path) -> None:
        prefix = home / "opt"
        command = [sys.executable, "-m", "venv", "--without-pip", "--symlinks", str(prefix)]
        subprocess.run(command, check=True)
        self.python = prefix / "bin/python"
        site = prefix / f"lib/python{sysconfig.get_python_version()}/site-packages"
        places = [sysconfig.get_paths()["purelib"], str(REPOSITORY)]
        (site / "borrowed.pth").write_text("".join(f"{place}\n" for place in places))
        self.env = clean_environment(home, index=None, inherited=None)
        self.official = prefix / "etc/jupyter" / f"{CONFIG_NAME}.py"
        self.users = Path(self.env["JUPYTER_CONFIG_DIR"], f"{CONFIG_NAME}.py")
        self.official.parent.mkdir(parents=True)

    def run(self, code: str, **environ: str) -> str:
        """What ``code`` prints in that installation's Python."""
        command = [str(self.python), "-c", code]
        done = subprocess.run(
            command, env={**self.env, **environ}, cwd="/", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    def load(self, server: str = "", **environ: str) -> dict[str, Any]:
        """The settings in force, or the error; ``server`` is a server's own configuration, as Python."""
        loaded: dict[str, Any] = json.loads(self.run(LOAD.format(server=server), **environ))
        return loaded

    def rules(self, server: str = "", **environ: str) -> list[tuple[str, Mapping[str, Any]]]:
        """Each layer's place (the last part of its name) and rules."""
        layers = self.load(server, **environ)["policy"]
        return [(str(layer["source"]), layer["rules"]) for layer in layers]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A fresh one."""
    return Machine(tmp_path)


def test_without_a_file_there_is_no_rule(machine: Machine) -> None:
    """A single user meets no policy."""
    assert machine.load()["policy"] == []


def test_each_file_is_a_layer_the_most_official_first(machine: Machine) -> None:
    """And the server's configuration one more."""
    machine.official.write_text("c.TorchPolicy.denied = ['requests']\nc.TorchPolicy.contact = 'ann'\n")
    machine.users.write_text("c.TorchPolicy.denied = ['einops']\n")
    assert machine.rules("c.TorchPolicy.offline = True") == [
        (str(machine.official), {"contact": "ann", "denied": ["requests"]}),
        (str(machine.users), {"denied": ["einops"]}),
        ("the configuration of this server or command", {"offline": True}),
    ]


@pytest.mark.parametrize(
    "environ",
    [
        {"JUPYTER_NO_CONFIG": "1"},
        {"JUPYTER_CONFIG_DIR": "/nowhere"},
        {"JUPYTER_CONFIG_PATH": "/nowhere"},
        {"JUPYTER_PREFER_ENV_PATH": "0"},
        {"JUPYTER_PREFER_ENV_PATH": "1"},
        {"HOME": "/nowhere", "XDG_CONFIG_HOME": "/nowhere"},
        {"UV_OFFLINE": "0", "UV_EXCLUDE_NEWER": "2030-01-01", "TORCH_POLICY_OFFLINE": "0"},
    ],
    ids=lambda environ: next(iter(environ)),
)
def test_no_environment_variable_hides_the_installations_file(
    machine: Machine, environ: dict[str, str]
) -> None:
    """Jupyter itself would leave it out."""
    machine.official.write_text("c.TorchPolicy.offline = True\n")
    assert (str(machine.official), {"offline": True}) in machine.rules(**environ)


def test_no_environment_variable_leads_away_from_the_systems_files(machine: Machine) -> None:
    """With JUPYTER_PLATFORM_DIRS Jupyter looks where XDG_CONFIG_DIRS says, and there alone."""
    code = "from kernel_provisioner.settings import _official_path\nprint(*_official_path(), sep='\\n')"
    places = machine.run(code, JUPYTER_PLATFORM_DIRS="1", XDG_CONFIG_DIRS="/mine").splitlines()
    system = ["/etc/jupyter", "/usr/local/etc/jupyter"]
    assert [*system, str(machine.official.parent)] == [place for place in places if place != "/mine/jupyter"]
    assert places[:2] == machine.run(code).splitlines()[:2] == system


def test_a_users_own_file_cannot_take_a_rule_back(machine: Machine) -> None:
    """Neither by another value nor by deleting it from what was read before."""
    machine.official.write_text("c.TorchPolicy.denied = ['requests']\nc.TorchPolicy.locked_only = True\n")
    machine.users.write_text(
        "c.TorchPolicy.denied = []\nc.TorchPolicy.locked_only = False\n"
        "c = get_config()\nc.clear()\nc.TorchPolicy.allow_urls = ['https://u.example/']\n"
    )
    assert (str(machine.official), {"denied": ["requests"], "locked_only": True}) in machine.rules()


def test_a_users_template_counts_only_among_the_allowed_indexes(machine: Machine) -> None:
    """Whether a file or TORCH_OVERLAY_INDEX names it."""
    listed = ["https://m/simple", "https://m/whl/{tag}", "https://n/whl/{tag}"]
    machine.official.write_text(f"c.TorchPolicy.indexes = {listed!r}\n")
    machine.users.write_text("c.TorchOverlay.index_template = 'https://evil/{tag}'\n")
    assert machine.load()["index_template"] == "https://m/whl/{tag}"
    assert machine.load(TORCH_OVERLAY_INDEX="https://x/{tag}")["index_template"] == "https://m/whl/{tag}"
    assert machine.load(TORCH_OVERLAY_INDEX=listed[2])["index_template"] == listed[2]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("c.TorchPolicy.alowed = ['a']\n", "TorchPolicy has no 'alowed'; did you mean allowed?"),
        ("c.TorchPolcy.allowed = ['a']\n", "did you mean c.TorchPolicy?"),
        ("c.torch_policy.offline = True\n", "did you mean c.TorchPolicy?"),
        ("c.Torchy.offline = True\n", "c.Torchy is nothing"),
        ("c.TorchOverlay.source_builds = 'never'\n", "write c.TorchPolicy.source_builds"),
        ("c.TorchOverlay.offlin = True\n", "TorchOverlay has no 'offlin'"),
        ("c.TorchPolicy.cooldown = 'soon'\n", "is not a time span"),
        ("c.TorchPolicy.indexes = ['https://m/simple']\n", "without an index of the PyTorch packages"),
        ("c.TorchPolicy.denied = ['bad[extra]']\n", "write 'bad', which means the package with any of them"),
        ("c.TorchPolicy.allowed = [\n", "SyntaxError"),
        ("raise RuntimeError('odd')\n", "RuntimeError: odd"),
    ],
)
@pytest.mark.parametrize("whose", ["official", "users"])
def test_a_policy_that_cannot_be_read_refuses_every_launch(
    machine: Machine, whose: str, content: str, said: str
) -> None:
    """With the file's path and the fix, in the kernel's cells."""
    path: Path = getattr(machine, whose)
    path.write_text(content)
    told = machine.run(LAUNCH)
    assert said in told
    assert str(path) in told
    assert "fix: " in told


@pytest.mark.parametrize("content", ['{"TorchPolicy": 5}', '{"TorchPolicy": []}', '{"TorchOverlay": null}'])
def test_a_section_that_is_no_object_is_named(machine: Machine, content: str) -> None:
    """JSON can hold anything there."""
    path = machine.users.with_suffix(".json")
    path.write_text(content)
    told = machine.load()
    assert (told["error"], told["what"]) == ("CorruptState", f"{path} cannot be used")
    assert "has to be an object" in told["why"]


def test_a_mistake_in_a_servers_configuration_refuses_too(machine: Machine) -> None:
    """There is no file to name."""
    for server in (
        "c.TorchPolicy.ofline = True",
        "c.TorchPolicy.offline = 'maybe'",
        "c.TorchOverlay.pins = 'all'",
    ):
        assert machine.load(server)["error"] == "CorruptState"


def test_a_file_or_a_directory_that_anybody_can_write_is_no_policy(machine: Machine) -> None:
    """Its Python runs as whoever starts Jupyter; closed again, it counts."""
    machine.official.write_text("c.TorchPolicy.offline = True\n")
    for place in (machine.official, machine.official.parent):
        mode = place.stat().st_mode
        place.chmod(mode | 0o002)
        told = machine.run(LAUNCH)
        assert f"{place} can be changed by any user" in told
        assert f"chmod o-w {place}" in told
        place.chmod(mode)
    assert machine.load()["policy"]


def test_a_file_that_cannot_be_seen_refuses(machine: Machine) -> None:
    """Somebody's directory on the way is closed, or a link goes round in circles: it may be a policy."""
    machine.official.symlink_to(machine.official)
    told = machine.run(LAUNCH)
    assert f"cannot check whether {machine.official} exists" in told


def test_a_changed_policy_counts_for_the_next_launch_of_a_server_that_runs(machine: Machine) -> None:
    """Also a second change within the resolution of the file's time, of another length."""
    code = f"""if True:
        import os, pathlib
        from kernel_provisioner.settings import load_settings
        path = pathlib.Path({str(machine.official)!r})
        for text in ("", "c.TorchPolicy.offline = True", "c.TorchPolicy.locked_only = True"):
            path.write_text(text)
            os.utime(path, (1, 1))
            print(load_settings().policy.spec() | {{"offline": load_settings().policy.offline}})
        path.unlink()
        print(load_settings().policy.spec())
        """
    said = machine.run(code).splitlines()
    assert said == [
        "{'offline': False}",
        "{'offline': True}",
        "{'locked_only': [True], 'offline': False}",
        "{}",
    ]


def test_doctor_shows_every_rule_with_its_file(machine: Machine) -> None:
    """On a command line that sets one more."""
    machine.official.write_text("c.TorchPolicy.denied = ['requests']\n")
    command = [str(machine.python), "-m", "kernel_provisioner.cli.app", "doctor", "--json"]
    words = ["--TorchPolicy.max_packages=5", "--TorchPolicy.allowed=einops"]
    done = subprocess.run(
        [*command, *words], env=machine.env, cwd="/", capture_output=True, text=True, check=False
    )
    shown = [one["text"] for one in json.loads(done.stdout) if one["area"] == "policy"]
    assert shown[0] == f'rule denied = ["requests"] in {machine.official}'
    assert {text.partition(" in ")[0] for text in shown[1:]} == {
        'rule allowed = ["einops"]',
        "rule max_packages = 5",
    }
