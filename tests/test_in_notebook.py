"""Inside a notebook: every way to install or start Python sees base and overlay, and stays in the overlay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_provisioner.inkernel.shared.packages import is_receipt
from tests.conftest import TorchBase
from tests.support.notebooks import write_notebook
from tests.support.server import JupyterServer, jupyter_server
from tests.support.session import Session
from tests.support.wheels import build_wheel

pytestmark = [pytest.mark.torch, pytest.mark.network, pytest.mark.slow]

EINOPS = {"accelerator": "cpu", "extras": ["einops"]}
BOTH = "import einops, sys, torch; print(einops.__file__, torch.__file__, sys.prefix)"
INSTALLERS = {
    "pip-magic": "%pip install -q",
    "pip-command": "!pip install -q",
    "pip-module": "!python -m pip install -q",
    "uv-magic": "%uv pip install -q",
    "uv-command": "!uv pip install -q",
}
WORKER = """\
import sys, torch, einops
def where(count):
    return [int(torch.ones(count).sum()), einops.__file__, torch.__file__, sys.prefix]
"""
RANK = """\
import torch.distributed, worker
torch.distributed.init_process_group("gloo")
total = torch.ones(3)
torch.distributed.all_reduce(total)
print(*worker.where(int(total.sum())))
torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def server(home: Path, torch_base_home: TorchBase) -> Iterator[JupyterServer]:
    """One Jupyter server for this module, whose folder holds two files beside the notebook."""
    root = home / "work"
    root.mkdir()
    (root / "worker.py").write_text(WORKER)
    (root / "rank.py").write_text(RANK)
    with jupyter_server(root, torch_base_home.environment(home)) as running:
        yield running


@pytest.fixture(scope="module")
def session(server: JupyterServer) -> Iterator[Session]:
    """An open notebook with one extra, in which a cell has run."""
    write_notebook(server.root / "nb.ipynb", torch_env=EINOPS)
    with server.session("nb.ipynb", "torch-cpu") as opened:
        assert opened.execute("import einops").status == "ok"
        yield opened


@pytest.fixture
def overlay(session: Session, home: Path) -> Path:
    """The overlay of that notebook: it must have been built by now."""
    (found,) = home.glob("cache/torch-overlays/nb-*/0001")
    return found


@pytest.mark.parametrize("how", INSTALLERS)
def test_installs_land_in_the_overlay(how: str, session: Session, overlay: Path, tmp_path: Path) -> None:
    """Each way to install a package puts it where this notebook, and no other, finds it at once."""
    wheel = build_wheel(tmp_path, f"by-{how}")
    done = session.execute(f"{INSTALLERS[how]} {wheel}")
    assert done.status == "ok", done.text
    module = f"by_{how.replace('-', '_')}"
    done = session.execute(f"import {module}; print({module}.__file__)")
    assert done.stdout.startswith(f"{overlay}/lib/"), done.text


@pytest.mark.parametrize(
    "cell",
    [
        f'!python -c "{BOTH}"',
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BOTH!r}])",
        f"import subprocess\nprint(subprocess.check_output(['python3', '-c', {BOTH!r}], text=True))",
        f"%%script python\n{BOTH}",
    ],
    ids=["!python", "sys.executable", "python3", "%%script"],
)
def test_a_python_started_from_a_cell_sees_base_and_overlay(
    cell: str, session: Session, overlay: Path
) -> None:
    """A child process imports the extra from the overlay and torch from the base."""
    done = session.execute(cell)
    assert_sees_both(done.stdout.split(), overlay)


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_multiprocessing_workers_see_base_and_overlay(method: str, session: Session, overlay: Path) -> None:
    """A pool works with a function from a file beside the notebook, whatever its start method."""
    pool = f"multiprocessing.get_context({method!r}).Pool(1)"
    done = session.execute(
        f"import multiprocessing, worker\nwith {pool} as pool: print(*pool.apply(worker.where, (3,)))"
    )
    count, *places = done.stdout.split()
    assert count == "3"
    assert_sees_both(places, overlay)


@pytest.mark.system
def test_torchrun_starts_a_rank_in_the_overlay(session: Session, overlay: Path) -> None:
    """The base's console script runs with the overlay's Python, and so do the processes it starts."""
    assert "--nproc" in session.execute("!torchrun --help").text
    done = session.execute("!torchrun --standalone --nproc-per-node 1 rank.py")
    count, *places = done.stdout.split()[-4:]
    assert count == "3", done.text
    assert_sees_both(places, overlay)


@pytest.mark.parametrize("how", INSTALLERS)
def test_by_hand_numpy_may_be_another_and_torch_may_not(how: str, session: Session) -> None:
    """What a notebook may declare it may install; torch stays the base's, however it is asked for."""
    done = session.execute(f"{INSTALLERS[how].replace(' -q', '')} --dry-run 'numpy<2'")
    assert "numpy==1." in done.text or "numpy-1." in done.text, done.text
    done = session.execute(f"{INSTALLERS[how].replace(' -q', '')} --dry-run 'torch<2'")
    assert "torch==2." in done.text, done.text
    assert "Would install" not in done.text


@pytest.mark.parametrize("command", ["!uv pip list", "!pip list", "%pip list", "%uv pip list"])
def test_lists_show_base_and_overlay(command: str, session: Session) -> None:
    """torch and the extra are both listed, with the version that torch says of itself."""
    torch = session.execute("import torch; print(torch.__version__)").stdout.strip()
    rows = [line.split() for line in session.execute(command).stdout.splitlines()]
    assert ["torch", torch] in rows
    assert "einops" in [row[0] for row in rows if row]


@pytest.mark.parametrize("command", ["!uv pip check", "!pip check"])
def test_checks_find_the_environment_sound(command: str, session: Session) -> None:
    """What base and overlay hold together is consistent, as uv and pip see it."""
    done = session.execute(f"{command}\nprint('exit', _exit_code)")
    assert done.stdout.rstrip().endswith("exit 0"), done.text


@pytest.mark.parametrize("tool", ["pip", "uv pip"])
def test_a_wheel_that_needs_torch_brings_no_second_torch(
    tool: str, session: Session, overlay: Path, tmp_path: Path
) -> None:
    """The base's torch satisfies it; nothing of torch but its receipt lies in the overlay."""
    name = f"wants-torch-{tool.replace(' ', '-')}"
    wheel = build_wheel(tmp_path, name, requires=["torch>=2"])
    done = session.execute(f"!{tool} install -q {wheel}\nprint('exit', _exit_code)")
    assert done.stdout.rstrip().endswith("exit 0"), done.text
    assert session.execute(f"import {name.replace('-', '_')}").status == "ok"
    assert of_torch(overlay) == []


@pytest.mark.parametrize(
    ("command", "package"), [("%pip install -q", "accelerate"), ("!uv pip install -q", "torchmetrics")]
)
def test_a_real_package_that_needs_torch_brings_no_second_torch(
    command: str, package: str, session: Session, overlay: Path
) -> None:
    """A package of the registry that requires torch runs on the base's."""
    session.execute(f"{command} {package}")
    done = session.execute(f"import {package}, torch; print({package}.__file__, torch.__file__)")
    assert done.status == "ok", done.text
    ours, torch = done.stdout.split()
    assert ours.startswith(f"{overlay}/")
    assert "/torch-bases/" in torch
    assert of_torch(overlay) == []


def test_metadata_tell_of_base_and_overlay(session: Session) -> None:
    """importlib.metadata answers for both: versions, files, entry points, and which module is whose."""
    done = session.execute(
        "import importlib.metadata as m, json, torch\n"
        "owners = m.packages_distributions()\n"
        "scripts = m.entry_points(group='console_scripts')\n"
        "print(json.dumps({'torch': m.version('torch') == str(torch.__version__),\n"
        "  'einops': m.version('einops'),\n"
        "  'owners': [owners[name] for name in ('torch', 'numpy', 'einops')],\n"
        "  'torchrun': [one.load().__module__ for one in scripts if one.name == 'torchrun'],\n"
        "  'files': all(f.locate().exists() for name in ('torch', 'einops') for f in m.files(name)),\n"
        "  'twice': sorted(n for n in {d.name for d in m.distributions()}\n"
        "                  if len({d.version for d in m.distributions(name=n)}) > 1)}))"
    )
    said = json.loads(done.stdout)
    assert said.pop("einops")
    assert said == {
        "torch": True, "owners": [["torch"], ["numpy"], ["einops"]], "torchrun": ["torch.distributed.run"],
        "files": True, "twice": [],
    }  # fmt: skip


def test_site_packages_are_the_overlays_then_the_bases(session: Session, overlay: Path) -> None:
    """Libraries that look for CUDA or headers through ``site`` find the base too."""
    done = session.execute("import site, sys; print(*site.getsitepackages(), sys.prefix)")
    own, base, prefix = done.stdout.split()
    assert own.startswith(f"{overlay}/lib/")
    assert "/torch-bases/" in base
    assert prefix == str(overlay)


def test_overlay_says_what_the_notebook_runs_on(session: Session, overlay: Path, tmp_path: Path) -> None:
    """``%overlay`` names base, reason, extras, what was put in by hand, the directory and its size."""
    session.execute(f"%pip install -q {build_wheel(tmp_path, 'put-by-hand')}")
    shown = session.execute("%overlay").stdout
    rows = dict(line.split(maxsplit=1) for line in shown.splitlines() if line[:1] != " ")
    assert rows["base"].startswith("cpu-torch")
    assert rows["why"].startswith("torch-cpu: the kernel that was picked")
    assert rows["extras"] == "einops"
    assert "put-by-hand 1.0" in rows["by"]
    assert rows["overlay"] == str(overlay)
    assert "of its own" in rows["disk"]
    assert "shared in the base" in shown


def test_overlay_freeze_lists_what_the_base_does_not_have(session: Session) -> None:
    """The lines are exact requirements: the extra is there, torch is not."""
    lines = session.execute("%overlay freeze").stdout.splitlines()
    assert [line for line in lines if line.startswith("einops==")]
    assert not [line for line in lines if line.startswith(("torch==", "numpy=="))]


def test_overlay_log_tells_the_build(session: Session) -> None:
    """The steps of the build, in order."""
    phases = [line.split()[0] for line in session.execute("%overlay log").stdout.splitlines()]
    assert phases[0] == "plan"
    assert phases[-1] == "ready"


def test_overlay_add_installs_and_offers_the_declaration(session: Session, overlay: Path) -> None:
    """The package is there at once, and the next cell would declare it for good."""
    done = session.execute("%overlay add humanize")
    assert "humanize" in done.text
    assert session.execute("import humanize; print(humanize.__file__)").stdout.startswith(str(overlay))
    (offer,) = done.reply["payload"]
    assert offer["source"] == "set_next_input"
    assert offer["text"] == '# /// script\n# dependencies = ["humanize"]\n# ///'
    assert "othing to add" in session.execute("%overlay add humanize").text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("torch==1.0", "torch is the base's"),
        ("einops>9000", "only einops<"),
        ("./local.whl", "path"),
        ("--index-url=http://127.0.0.1/", "option"),
    ],
)
def test_overlay_add_refuses_with_cause_and_fix(
    words: str, told: str, session: Session, overlay: Path
) -> None:
    """What cannot go with the base, and what nobody may ask for, fails the cell and changes nothing."""
    before = session.execute("%overlay freeze").stdout
    done = session.execute(f'%overlay add "{words}"')
    assert done.status == "error"
    assert done.error.startswith("AddFailed: ")
    assert told in done.text
    assert "fix" in done.text
    assert "Traceback" not in done.text
    assert session.execute("%overlay freeze").stdout == before
    assert of_torch(overlay) == []


@pytest.mark.parametrize(
    "line", ["%overlay delete einops", "%overlay add", "%overlay freeze now", "%overlay add 'a"]
)
def test_overlay_explains_itself_where_it_is_misspelt(line: str, session: Session) -> None:
    """Anything else shows how the magic is used, and no traceback of ours."""
    done = session.execute(line)
    assert "%overlay add PACKAGE…" in done.text
    assert "magics.py" not in done.text


def assert_sees_both(places: list[str], overlay: Path) -> None:
    """``places`` are where einops and torch were imported from, and the process's prefix."""
    einops, torch, prefix = places
    assert einops.startswith(f"{overlay}/lib/")
    assert "/torch-bases/" in torch
    assert prefix == str(overlay)


def of_torch(overlay: Path) -> list[str]:
    """What the overlay itself holds of torch and its accelerator libraries, other than receipts."""
    (site,) = overlay.glob("lib/python*/site-packages")
    return [
        entry.name
        for entry in site.iterdir()
        if entry.name.split("-")[0].split(".")[0] in {"torch", "torchgen", "functorch", "nvidia", "triton"}
        and not (entry.suffix == ".dist-info" and is_receipt(entry))
    ]
