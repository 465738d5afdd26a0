"""``base adopt``: somebody's own environment as a base, only ever read, looked at again when it changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kernel_provisioner.base.adopt import refresh_adopted
from kernel_provisioner.base.current import is_current
from kernel_provisioner.base.registry import RegisteredBase, read_register
from kernel_provisioner.errors import BaseNotFound, CorruptState
from tests.support.bases import REPOSITORY, Workshop
from tests.support.environ import clean_environment
from tests.support.index import LocalIndex
from tests.support.parts import need
from tests.support.torch_wheels import build_torch
from tests.support.tree import tree_hash
from tests.support.waiting import WITHIN, patient

NOBODY = 65534


@pytest.fixture
def shop(tmp_path: Path, index: LocalIndex) -> Workshop:
    """A home directory and an index with cpu builds of two torch releases."""
    made = Workshop(tmp_path, index)
    made.stock("cpu", torch="2.5.0", vision="0.20.0")
    made.stock("cpu", torch="2.6.0")
    return made


@pytest.fixture
def venv(shop: Workshop) -> Path:
    """Somebody's environment with an older torch."""
    return shop.environment("mine", "torch==2.5.0", "ipykernel", "numpy")


def test_an_environment_is_photographed_and_nothing_is_written_into_it(shop: Workshop, venv: Path) -> None:
    """The manifest says what is in it; the environment is the same, byte for byte."""
    before = tree_hash(venv)
    created = shop.adopt(venv)
    manifest = created.base.manifest
    assert tree_hash(venv) == before
    assert (manifest.tag, manifest.torch, manifest.prefix) == ("cpu", "2.5.0+cpu", str(venv))
    assert manifest.adopted
    assert manifest.fingerprint
    assert not created.existed
    assert created.base.directory.is_relative_to(shop.data_dir)
    assert created.kernel
    assert created.kernel.name == "torch-cpu"


def test_what_fits_pypis_torch_comes_from_pypi(shop: Workshop) -> None:
    """A torch without a label is not from PyTorch's index, which is not asked for torchvision."""
    plain = build_torch(shop.wheels / "pypi", "cpu", "2.7.0", local_label=False)
    shop.index.publish(plain.torch, *plain.ordinary)
    shop.publish("torchvision", "0.22.0", requires=["torch==2.7.0"])
    shop.stock("cpu", torch="2.7.0", vision="0.22.0")
    venv = shop.environment("mine")
    shop.uv.run("pip", "install", "--python", venv / "bin/python", "torch", "ipykernel").check("no")
    base = shop.adopt(venv).base
    assert base.manifest.torch == "2.7.0"
    shop.index.asked.clear()
    built = shop.overlay(base, "torchvision")
    assert built.installed == {"torchvision": "0.22.0"}
    assert [one.path for one in shop.index.asked if one.path.startswith("/whl/")] == []


def test_the_interpreters_path_names_the_same_base(shop: Workshop, venv: Path) -> None:
    """Prefix or interpreter, once or twice: one base."""
    first = shop.adopt(venv)
    again = shop.adopt(venv / "bin/python")
    assert again.existed
    assert again.base.manifest.id == first.base.manifest.id
    assert len(_register(shop)) == 1


def test_an_overlay_on_an_adopted_base_sees_it_and_leaves_it_alone(shop: Workshop, venv: Path) -> None:
    """torch from the environment, torchvision of its build in the overlay, no byte changed."""
    base = shop.adopt(venv).base
    before = tree_hash(venv)
    built = shop.overlay(base, "torchvision")
    assert built.installed == {"torchvision": "0.20.0+cpu"}
    shop.enter(built)
    said = built.python("import torch, torchvision; print(torch.__file__, torchvision.__version__)", "-B")
    assert said == f"{base.manifest.site_dirs[0]}/torch/__init__.py 0.20.0+cpu"
    assert tree_hash(venv) == before


def test_what_is_no_environment_is_told(shop: Workshop) -> None:
    """The message names the path that was looked for."""
    with pytest.raises(BaseNotFound, match="is no Python environment") as caught:
        shop.adopt(shop.home / "nowhere")
    assert str(shop.home / "nowhere/bin/python") in caught.value.why


def test_an_environment_without_torch_is_no_base(shop: Workshop) -> None:
    """And the fix says how to get one."""
    with pytest.raises(BaseNotFound, match="torch cannot be imported") as caught:
        shop.adopt(shop.environment("bare", "ipykernel"))
    assert "base create" in caught.value.fix
    assert _register(shop) == []


def test_an_environment_without_ipykernel_serves_projects(shop: Workshop) -> None:
    """No kernel is registered for it, and it is told how notebooks could run on it."""
    prefix = shop.environment("quiet", "torch")
    said = shop.command("base", "adopt", str(prefix)).stdout
    assert f"{prefix}/bin/python -m pip install ipykernel, then adopt it again" in said
    assert not (shop.data_dir / "kernels").exists()
    (name,) = (base.manifest.id for base in _register(shop))
    assert "holds no ipykernel" in shop.command("venv", str(shop.home / "no"), check=False).stderr
    shop.command("venv", str(shop.home / "env"), "--base", name)
    code = "import torch; print(torch.__version__)"
    assert subprocess.check_output([shop.home / "env/bin/python", "-c", code], text=True) == "2.6.0+cpu\n"


def test_a_torch_that_does_not_say_its_tag_needs_one_named(shop: Workshop) -> None:
    """A build of one's own with a CUDA version that no tag has: ``--tag`` decides."""
    build = build_torch(shop.wheels / "own", "cu124", local_label=False)
    prefix = shop.environment("own", "ipykernel", "torch==2.5.0")
    version = next(prefix.glob("lib/python*/site-packages/torch/version.py"))
    assert build.torch.exists()
    version.write_text("cuda, hip, xpu = 'custom', None, None\n")
    with pytest.raises(BaseNotFound, match="does not say what it was built for") as caught:
        shop.adopt(prefix)
    assert "--tag" in caught.value.fix
    assert shop.adopt(prefix, "cu124").base.manifest.tag == "cu124"


def test_a_system_python_is_looked_at_as_it_stands(shop: Workshop) -> None:
    """What lies in Debian's ``dist-packages`` counts, and serves overlays too; nothing there is touched."""
    system = _system_python()
    need(system, "/usr/bin/python3 from 3.10 on, with packages in dist-packages (apt install python3-yaml)")
    assert system is not None
    with pytest.raises(BaseNotFound, match="/usr is no base"):
        shop.adopt(system)
    venv = shop.home / "over-system"
    shop.uv.run("venv", "--system-site-packages", "--python", system, venv).check("no environment")
    shop.install(venv, "torch==2.5.0", "ipykernel")
    base = shop.adopt(venv).base
    theirs = [place for place in base.manifest.site_dirs if place.endswith("dist-packages")]
    assert theirs
    assert base.manifest.site_dirs[0].startswith(str(venv)), "the environment's own packages come first"
    module = next(name for name in base.manifest.modules if _lies_in(theirs, name))
    built = shop.overlay(base, "torchvision")
    shop.enter(built)
    said = built.python(f"import {module}, torch, torchvision; print({module}.__file__)", "-B")
    assert said.startswith(tuple(theirs)), said
    assert is_current(base)


def test_running_a_notebook_leaves_the_photograph_current(shop: Workshop, venv: Path) -> None:
    """Bytecode and caches are no change; a package that comes, goes or is upgraded is one."""
    base = shop.adopt(venv).base
    subprocess.run([venv / "bin/python", "-c", "import torch, numpy"], check=True, env={})
    assert is_current(base)
    shop.install(venv, "torchvision==0.20.0")
    assert not is_current(base)


def test_a_changed_environment_keeps_its_name_and_shows_its_new_state(shop: Workshop, venv: Path) -> None:
    """Another package in it, the same torch: the id, the alias and the kernel stay."""
    old = shop.adopt(venv).base
    shop.install(venv, "torchvision==0.20.0")
    new = refresh_adopted(old)
    assert new.manifest.id == old.manifest.id
    assert new.manifest.distributions["torchvision"] == "0.20.0+cpu"
    assert is_current(new)
    assert [base.manifest for base in _register(shop)] == [new.manifest]
    assert refresh_adopted(old).manifest == new.manifest, "whoever comes second finds it done"


def test_another_torch_in_it_makes_it_another_base_in_the_same_place(shop: Workshop, venv: Path) -> None:
    """The name tells the truth again, and the tag means it as before."""
    old = shop.adopt(venv).base
    shop.install(venv, "torch==2.6.0")
    new = refresh_adopted(old)
    assert new.manifest.id.startswith("cpu-torch2.6.0-")
    assert [base.manifest.id for base in _register(shop)] == [new.manifest.id]
    assert read_register([shop.data_dir / "torch-bases"]).get("cpu") == new
    assert (shop.data_dir / "kernels/torch-cpu/kernel.json").exists()


def test_a_change_never_takes_the_tag_from_another_base(shop: Workshop, venv: Path) -> None:
    """What the tag means was somebody's choice."""
    adopted = shop.adopt(venv).base
    chosen = shop.create("cpu").base
    shop.install(venv, "torchvision==0.20.0")
    refresh_adopted(adopted)
    assert read_register([shop.data_dir / "torch-bases"]).get("cpu") == chosen


def test_a_named_tag_outlives_a_change_of_other_packages(shop: Workshop, venv: Path) -> None:
    """Who said ``--tag`` need not say it again while torch is the same."""
    base = shop.adopt(venv, "cu124").base
    shop.install(venv, "torchvision==0.20.0")
    assert refresh_adopted(base).manifest.tag == "cu124"


def test_an_environment_that_lost_its_torch_is_told_with_both_ways_out(shop: Workshop, venv: Path) -> None:
    """It has changed, why that is no base any more, and how to remove it."""
    base = shop.adopt(venv).base
    shop.uv.run("pip", "uninstall", "--python", venv / "bin/python", "torch").check("uninstall")
    with pytest.raises(BaseNotFound, match="has changed since it was adopted") as caught:
        refresh_adopted(base)
    assert "torch cannot be imported" in caught.value.why
    assert f"base remove {base.manifest.id}" in caught.value.fix


def test_a_register_of_somebody_elses_names_the_command_for_its_owner(shop: Workshop, venv: Path) -> None:
    """A user's launch cannot record the change; the message has all that the admin needs to type."""
    base = shop.adopt(venv).base
    shop.install(venv, "torchvision==0.20.0")
    with _as_another_user(base.directory), pytest.raises(CorruptState) as caught:
        refresh_adopted(base)
    assert caught.value.fix == (
        f"let its owner run:  JUPYTER_DATA_DIR={shop.data_dir} "
        f"jupyter overlay base adopt {venv}/bin/python --tag cpu"
    )


def test_a_register_that_cannot_be_written_is_told(shop: Workshop, venv: Path) -> None:
    """The disk's own reason, and the same command."""
    base = shop.adopt(venv).base
    shop.install(venv, "torchvision==0.20.0")
    for file in base.receipts.iterdir():
        file.unlink()
    base.receipts.rmdir()
    base.receipts.write_text("in the way")
    with pytest.raises(CorruptState, match="has changed since") as caught:
        refresh_adopted(base)
    assert "cannot be recorded" in caught.value.why
    assert "base adopt" in caught.value.fix


@pytest.mark.fault(23)
def test_the_next_launch_notices_the_change(shop: Workshop, venv: Path) -> None:
    """``prepare`` starts on the environment as it is now, in an overlay whose receipts show it."""
    shop.adopt(venv)
    first = _launch(shop)
    shop.install(venv, "torch==2.6.0")
    second = _launch(shop)
    assert (first["torch"], second["torch"]) == ("2.5.0+cpu", "2.6.0+cpu")
    assert second["receipts"] == ["torch-2.6.0+cpu.dist-info"]


@pytest.mark.network
@pytest.mark.slow
def test_a_kernel_runs_on_an_adopted_environment(tmp_path: Path, front_index: LocalIndex) -> None:
    """Real ipykernel, the commands as they are typed, a client that starts the kernel; nothing written."""
    front_index.publish_torch("cpu", build_torch(tmp_path / "wheels", "cpu"))
    env = clean_environment(
        tmp_path,
        TORCH_OVERLAY_INDEX=front_index.template,
        TORCH_OVERLAY_ROOT=str(tmp_path / "overlays"),
        UV_DEFAULT_INDEX=front_index.default,
        PYTHONDONTWRITEBYTECODE="1",
    )
    prefix = tmp_path / "mine"
    index = front_index.template.format(tag="cpu")
    install = ("pip", "install", "--python", str(prefix / "bin/python"), "--index", index)
    for words in (("venv", "--python", sys.executable, str(prefix)), (*install, "torch", "ipykernel")):
        subprocess.run([sys.executable, "-m", "uv", *words], env=env, check=True, capture_output=True)
    before = tree_hash(prefix)
    command = [sys.executable, "-m", "kernel_provisioner.cli.app", "base", "adopt", str(prefix), "--json"]
    made = subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert json.loads(made.stdout)["path"] == str(prefix)
    script = f"""if True:
        from jupyter_client.manager import start_new_kernel
        manager, client = start_new_kernel(kernel_name="torch-cpu", startup_timeout={WITHIN})
        try:
            code = "import sys, torch; print(); print(torch.__file__, sys.prefix)"
            client.execute_interactive(code, timeout={WITHIN})
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
        """
    ran = subprocess.run([sys.executable, "-c", script], env=env, cwd=REPOSITORY, capture_output=True,
                         text=True, timeout=patient(200), check=False)  # fmt: skip
    torch, overlay = ran.stdout.splitlines()[-1].split() if ran.stdout else ("", "")
    assert torch.startswith(str(prefix)), ran.stdout + ran.stderr
    assert overlay.startswith(str(tmp_path / "overlays"))
    assert tree_hash(prefix) == before


def _register(shop: Workshop) -> list[RegisteredBase]:
    return list(read_register([shop.data_dir / "torch-bases"]).bases)


def _launch(shop: Workshop) -> dict[str, object]:
    """What a launch without a notebook is told of its base, and the receipts of torch in its overlay."""
    code = """if True:
        import json, os, pathlib
        from kernel_provisioner.notebook.find import FoundNotebook
        from kernel_provisioner.launch.prepare import prepare
        from kernel_provisioner.settings import load_settings
        found, settings = FoundNotebook(), load_settings()
        launch = prepare(found, pinned="cpu", settings=settings, environ=os.environ, kernel_id="k")
        told = json.loads(launch.env["TORCH_OVERLAY"])
        found = pathlib.Path(told["overlay"]).glob("lib/python*/site-packages/torch-*.dist-info")
        print(json.dumps({**told["base"], **told["failure"], "receipts": [path.name for path in found]}))
        """
    env = {**shop.env, "TORCH_OVERLAY_ROOT": str(shop.home / "o")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    told: dict[str, object] = json.loads(done.stdout)
    return told


@contextmanager
def _as_another_user(directory: Path) -> Iterator[None]:
    """Somebody who can read ``directory`` at most: root steps down, anybody else loses the right to write."""
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)
        return
    directory.chmod(0o555)
    try:
        yield
    finally:
        directory.chmod(0o755)


def _system_python() -> Path | None:
    """The system's Python, where it is new enough and has packages of its distribution."""
    code = "import sys; print(sys.version_info >= (3, 10) and any('dist-packages' in p for p in sys.path))"
    system = Path("/usr/bin/python3")
    if not system.exists():
        return None
    done = subprocess.run([system, "-I", "-c", code], capture_output=True, text=True, check=False)
    return system if done.stdout == "True\n" else None


def _lies_in(places: list[str], module: str) -> bool:
    return any(Path(place, module, "__init__.py").exists() for place in places)
