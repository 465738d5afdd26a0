"""``base create``: the right build of torch for each tag, all of it or nothing, never changed again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_provisioner.base.registry import read_register
from kernel_provisioner.errors import BaseNotFound, InstallFailed, OverlayError
from tests.support.bases import REPOSITORY, Workshop, assert_no_base
from tests.support.environ import clean_environment
from tests.support.index import LocalIndex
from tests.support.pythons import Python
from tests.support.torch_wheels import NVIDIA, build_torch, family_of
from tests.support.tree import tree_hash
from tests.support.waiting import WITHIN, patient, wait_for
from tests.support.wheels import build_wheel, flip_a_bit

TAGS = ("cpu", "cu118", "cu121", "cu124", "cu126", "rocm6.2", "xpu")
COMMAND = [sys.executable, "-m", "kernel_provisioner.cli.app", "base"]


def test_each_tag_gets_its_own_build_whatever_the_default_index_offers(shop: Workshop) -> None:
    """Seven tags side by side: torch and torchvision of the tag, everything else from the default index."""
    shop.stock(*TAGS)
    shop.tempt(*TAGS)
    for tag in TAGS:
        manifest = shop.create(tag, packages=["torchvision"]).base.manifest
        held = manifest.distributions
        assert (manifest.tag, held["torch"], held["torchvision"]) == (tag, f"2.6.0+{tag}", f"0.21.0+{tag}")
        assert held["numpy"] == "2.1", "the stale copy on PyTorch's index is never taken"
        nvidia = {name: version for name, version in held.items() if name.startswith("nvidia-")}
        assert nvidia == NVIDIA.get(tag, {})
        assert bool(manifest.architectures) == (family_of(tag) in ("cuda", "rocm"))
        said = _python(manifest.prefix, "import torch; print(torch.version.cuda, torch.version.hip)")
        assert ("12.4" in said, "6.2" in said) == (tag == "cu124", tag == "rocm6.2")
    register = read_register([shop.data_dir / "torch-bases"])
    assert [base.manifest.tag for base in register.bases] == sorted(TAGS)
    assert {register.get(tag).manifest.tag for tag in TAGS} == set(TAGS), "each tag means its own base"


def test_a_base_is_registered_under_a_name_that_says_what_it_is(shop: Workshop) -> None:
    """Id, alias, manifest and kernel agree, and a machine can read them."""
    shop.stock("cu124")
    created = shop.create("cu124")
    base = created.base.manifest
    xy = "".join(map(str, sys.version_info[:2]))
    assert base.id.startswith(f"cu124-torch2.6.0-py{xy}-")
    assert (shop.data_dir / "torch-bases/cu124.alias").read_text() == f"{base.id}\n"
    assert base.prefix == str(created.base.directory / "venv")
    assert base.installer == "uv"
    assert created.source == shop.index.template.format(tag="cu124")
    assert created.kernel
    spec = json.loads((created.kernel / "kernel.json").read_text())
    assert created.kernel == shop.data_dir / "kernels/torch-cu124"
    assert spec["display_name"] == "torch-cu124 (shared)"
    assert spec["metadata"]["kernel_provisioner"] == {
        "provisioner_name": "torch-overlay",
        "config": {"accelerator": "cu124"},
    }
    assert spec["metadata"]["supported_encryption"] == "curve"
    assert "build for CUDA 12.4" in spec["metadata"]["torch_overlay"]["description"]
    assert (created.kernel / "logo-64x64.png").is_file()
    assert ">CUDA</text></svg>" in (created.kernel / "logo-svg.svg").read_text()


def test_what_overlays_may_replace_is_learnt_from_torchs_own_metadata(shop: Workshop) -> None:
    """Fixed is what torch pins exactly; numpy, torch's loose needs and what ipykernel needs are not."""
    shop.stock("cu126")
    base = shop.create("cu126").base.manifest
    assert base.fixed == {"torch", "triton", *NVIDIA["cu126"]}
    assert base.namespaces == {"nvidia"}
    assert {"torch", "triton", "ipykernel", "numpy"} <= base.modules.keys()


def test_the_second_create_finds_the_base_already_there(shop: Workshop) -> None:
    """The same plan gives the same base, which stays as it is, down to the times of its files."""
    shop.stock("cpu")
    first = shop.create("cpu")
    before = tree_hash(first.base.directory)
    second = shop.create("cpu")
    assert (first.existed, second.existed) == (False, True)
    assert second.base == first.base
    assert tree_hash(first.base.directory) == before


def test_a_newer_torch_makes_a_second_base_of_the_tag_which_the_tag_then_means(shop: Workshop) -> None:
    """Kernels that run on the first base keep it; new ones follow the alias."""
    shop.stock("cpu")
    old = shop.create("cpu").base
    shop.stock("cpu", torch="2.7.0", vision="0.22.0")
    new = shop.create("cpu").base
    register = read_register([shop.data_dir / "torch-bases"])
    assert {base.manifest.torch for base in register.bases} == {"2.6.0+cpu", "2.7.0+cpu"}
    assert register.get("cpu") == new
    assert register.get(old.manifest.id) == old


def test_a_cpu_base_never_receives_accelerator_libraries(shop: Workshop) -> None:
    """Not even where a package that somebody adds to it needs them."""
    shop.stock("cpu")
    shop.publish("nvidia-nccl-cu12", "2.21.5")
    shop.publish("greedy", requires=["nvidia-nccl-cu12"])
    with pytest.raises(InstallFailed, match="nvidia-nccl-cu12"):
        shop.create("cpu", packages=["greedy"])
    assert_no_base(shop)


def test_a_build_that_turns_out_to_be_for_another_tag_is_refused(shop: Workshop) -> None:
    """A mirror that serves a wrong tree is found out by torch itself, and nothing of it stays."""
    wrong = build_torch(shop.wheels, "cu124", local_label=False)
    shop.stock()
    shop.index.publish(wrong.torch, *wrong.ecosystem, tag="cu126")
    shop.index.publish(*wrong.ordinary)
    with pytest.raises(InstallFailed, match="is a cu124 build, not cu126"):
        shop.create("cu126")
    assert_no_base(shop)


def test_a_damaged_wheel_leaves_nothing_behind(shop: Workshop) -> None:
    """The hash that the index named does not fit; the base is never published, and the next try works."""
    shop.stock("cpu")
    numpy = shop.wheels / "numpy-2.1-py3-none-any.whl"
    good = numpy.read_bytes()
    flip_a_bit(numpy)
    with pytest.raises(OverlayError) as caught:
        shop.create("cpu")
    assert "numpy" in caught.value.why
    assert_no_base(shop)
    numpy.write_bytes(good)
    assert shop.create("cpu").base.manifest.distributions["numpy"] == "2.1"


def test_a_torch_that_cannot_be_imported_is_no_base(shop: Workshop) -> None:
    """Its own error is told."""
    shop.stock()
    broken = {"torch/__init__.py": "raise ImportError('libc10.so: wrong ELF class')\n"}
    shop.publish("torch", "2.6.0+cpu", tag="cpu", files=broken)
    with pytest.raises(BaseNotFound, match="torch cannot be imported") as caught:
        shop.create("cpu")
    assert "wrong ELF class" in caught.value.why
    assert_no_base(shop)


def test_a_base_whose_kernel_cannot_be_registered_leaves_the_tag_as_it_was(shop: Workshop) -> None:
    """An older base of the tag goes on being what it means, and none of the new one stays."""
    shop.stock("cpu", torch="2.5.0", vision="0.20.0")
    shop.stock("cpu")
    old = shop.create("cpu", torch="2.5.0").base
    kernels = shop.data_dir / "kernels"
    shutil.rmtree(kernels)
    kernels.write_text("in the way")
    with pytest.raises(OverlayError):
        shop.create("cpu")
    root = shop.data_dir / "torch-bases"
    register = read_register([root])
    assert (register.bases, register.aliases) == ((old,), {"cpu": old.manifest.id})
    assert register.get("cpu") == old
    assert register.leftovers == ()


def test_a_place_that_takes_no_files_is_named(shop: Workshop) -> None:
    """A message with the path, not a traceback."""
    shop.stock("cpu")
    shop.data_dir.rmdir()
    shop.data_dir.write_text("in the way")
    done = shop.command("base", "create", "cpu", check=False)
    assert done.returncode == 2
    assert str(shop.data_dir) in done.stderr
    assert "fix: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_python_that_is_not_there_is_told(shop: Workshop) -> None:
    """With the command that would bring it."""
    with pytest.raises(BaseNotFound, match=r"no Python '3\.99'"):
        shop.create("cpu", python="3.99")


def test_the_result_is_read_only_and_compiled(shop: Workshop) -> None:
    """No write bit on any file, readable by others whatever the umask, bytecode for every module."""
    shop.stock("cpu")
    made = shop.command("base", "create", "cpu", "--json", TORCH_OVERLAY_INDEX=shop.index.template)
    base = Path(json.loads(made.stdout)["path"])
    for path in (base, *base.rglob("*")):
        mode = path.lstat().st_mode
        assert stat.S_ISLNK(mode) or not mode & 0o222, path
        assert stat.S_ISLNK(mode) or mode & 0o044 == 0o044, path
    assert base.parent.stat().st_mode & 0o777 == 0o755
    modules = list(base.glob("lib/python*/site-packages/**/*.py"))
    assert modules
    for path in modules:
        assert list(path.parent.glob(f"__pycache__/{path.stem}.*.pyc")), path


@pytest.mark.parametrize(
    ("moment", "how"), [("plan", signal.SIGINT), ("install", signal.SIGINT), ("install", signal.SIGTERM)]
)
def test_interrupted_nothing_half_made_stays(shop: Workshop, moment: str, how: signal.Signals) -> None:
    """While an index keeps uv waiting: a sentence, exit status 130, an empty register, no uv left."""
    shop.stock("cpu")
    where = "/whl/cpu/torch/" if moment == "plan" else "/whl/cpu/torch-2.6.0+cpu-py3-none-any.whl"
    shop.index.misbehave(where, "hang")
    child = subprocess.Popen([*COMMAND, "create", "cpu", "--installer", "uv"], env=shop.env, cwd=REPOSITORY,
                             text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    if moment == "plan":
        wait_for(lambda: shop.index.asked_for("torch"), "uv asks for torch")
    else:
        wait_for(lambda: [one for one in shop.index.asked if one.path.endswith(".whl")], "uv fetches torch")
    child.send_signal(how)
    _, stderr = child.communicate(timeout=WITHIN)
    assert child.returncode == 130, stderr
    assert "nothing unfinished was left behind" in stderr
    assert_no_base(shop)
    wait_for(lambda: not _processes_naming(str(shop.home)), "uv has ended as well")
    shop.index.behave()
    assert shop.create("cpu").existed is False


def test_two_processes_that_make_the_same_base_make_one(shop: Workshop) -> None:
    """The second waits for the first and finds the base there; both succeed."""
    shop.stock("cpu")
    shop.index.misbehave("/whl/cpu/torch-2.6.0+cpu-py3-none-any.whl", "wait")
    children = [
        subprocess.Popen([*COMMAND, "create", "cpu", "--installer", "uv", "--json"], env=shop.env,
                         cwd=REPOSITORY, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]  # fmt: skip
    wait_for(lambda: sum(one.path == "/whl/cpu/torch/" for one in shop.index.asked) >= 2, "both plan")
    shop.index.behave()
    outcomes = [child.communicate(timeout=WITHIN) for child in children]
    assert [child.returncode for child in children] == [0, 0], outcomes
    told = [json.loads(stdout) for stdout, _ in outcomes]
    assert sorted(one["existed"] for one in told) == [False, True]
    assert told[0]["id"] == told[1]["id"]
    assert shop.create("cpu").base.manifest.id == told[0]["id"]


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.system
def test_a_kernel_starts_on_a_base_of_each_python(
    tmp_path: Path, front_index: LocalIndex, each_python: Python
) -> None:
    """Fake torch, real ipykernel: the client starts the kernel, torch and an extra are imported."""
    folder = tmp_path / "wheels"
    front_index.publish_torch("cpu", build_torch(folder, "cpu"))
    front_index.publish(build_wheel(folder, "kp-extra", "1.5"))
    env = clean_environment(tmp_path, TORCH_OVERLAY_INDEX=front_index.template,
                            UV_DEFAULT_INDEX=front_index.default, UV_INDEX="",
                            TORCH_OVERLAY_ROOT=str(tmp_path / "overlays"))  # fmt: skip
    made = subprocess.run(
        [*COMMAND, "create", "cpu", "--installer", "uv", "--python", each_python.executable, "--json"],
        env=env, cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["python"] == ".".join(map(str, each_python.version))
    (tmp_path / "note.ipynb").write_text(json.dumps({
        "cells": [], "nbformat": 4, "nbformat_minor": 5,
        "metadata": {"torch_env": {"extras": ["kp-extra"]}},
    }))  # fmt: skip
    code = "import sys, torch, kp_extra; print(sys.version_info[:2], torch.__version__, kp_extra.__version__)"
    script = f"""if True:
        import os
        from jupyter_client.manager import KernelManager
        manager = KernelManager(kernel_name="torch-cpu")
        manager.start_kernel(env={{**os.environ, "KERNEL_NOTEBOOK_PATH": {str(tmp_path / "note.ipynb")!r}}})
        client = manager.blocking_client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout={WITHIN})
            client.execute_interactive({code!r}, timeout={WITHIN})
        finally:
            manager.shutdown_kernel(now=True)
        """
    ran = subprocess.run([sys.executable, "-c", script], env=env, cwd=REPOSITORY, capture_output=True,
                         text=True, timeout=patient(200), check=False)  # fmt: skip
    assert f"{each_python.version[:2]} 2.6.0+cpu 1.5" in ran.stdout, ran.stdout + ran.stderr


def _python(prefix: str, code: str) -> str:
    command = [f"{prefix}/bin/python", "-I", "-c", code]
    return subprocess.run(command, env={}, capture_output=True, text=True, check=True).stdout


def _processes_naming(text: str) -> list[str]:
    """The command lines of running processes that name ``text``."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if text in line and int(entry.parent.name) != os.getpid():
            found.append(line)
    return found


def test_a_base_that_is_there_is_taken_without_asking_anybody(shop: Workshop) -> None:
    """Where it has what is asked for; ``--upgrade`` looks for a newer torch."""
    shop.stock("cpu")
    shop.env["TORCH_OVERLAY_INDEX"] = shop.index.template
    shop.command("base", "create", "cpu")
    shop.stock("cpu", torch="2.7.0", vision="0.22.0")
    shop.index.asked.clear()
    for words in ((), ("--torch", "2.6.0"), ("--torch", ">=2.5,<2.7"), ("--with", "numpy>=2")):
        told = shop.command("base", "create", "cpu", *words).stdout
        assert told.startswith("Already there: cpu-torch2.6.0"), words
        assert "--upgrade looks for a newer torch" in told
    assert shop.index.asked == []
    assert "Ready: cpu-torch2.7.0" in shop.command("base", "create", "cpu", "--upgrade").stdout
    assert "Already there: cpu-torch2.7.0" in shop.command("base", "create", "cpu").stdout
