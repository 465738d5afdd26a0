"""``base list``, ``show``, ``verify``, ``remove`` and ``default``: what a machine's owner does with bases."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from kernel_provisioner.base.maintain import remove_base, remove_leftover, verify_base
from kernel_provisioner.base.registry import (
    MANIFEST,
    RegisteredBase,
    announced_removal,
    hold,
    is_registered,
    read_register,
    set_alias,
)
from kernel_provisioner.errors import BaseInUse, BaseNotFound
from kernel_provisioner.system import locks
from tests.support.bases import Workshop
from tests.support.index import LocalIndex
from tests.support.waiting import WITHIN
from tests.support.wheels import module


@pytest.fixture
def shop(tmp_path: Path, index: LocalIndex) -> Workshop:
    """A home directory and an index with two releases for cpu and one for cu124."""
    made = Workshop(tmp_path, index)
    made.stock("cpu", torch="2.5.0", vision="0.20.0")
    made.stock("cpu", "cu124", torch="2.6.0")
    return made


@pytest.fixture
def base(shop: Workshop) -> RegisteredBase:
    """One cpu base."""
    return shop.create("cpu").base


def test_the_commands_tell_machines_and_people_the_same(shop: Workshop) -> None:
    """create, list, show, verify, default, remove as typed, each with ``--json`` and its exit status."""
    old = _json(shop, "create", "cpu", "--torch", "2.5.0", "--installer", "uv")
    new = _json(shop, "create", "cpu", "--installer", "uv")
    cuda = _json(shop, "create", "cu124", "--installer", "uv")
    assert (old["existed"], old["torch"], new["torch"], cuda["tag"]) == (
        False,
        "2.5.0+cpu",
        "2.6.0+cpu",
        "cu124",
    )
    listed = {one["id"]: one for one in _json(shop, "list")}
    assert listed.keys() == {old["id"], new["id"], cuda["id"]}
    assert [listed[one["id"]]["default"] for one in (old, new, cuda)] == [False, True, True]
    for one in listed.values():
        assert one["kernel"] == f"torch-{one['tag']}"
        assert Path(one["path"], "bin/python").exists()
    shown = _json(shop, "show", "cu124")
    assert (shown["id"], shown["kernels"]) == (cuda["id"], [])
    assert shown["architectures"] == ["sm_70", "sm_80", "sm_90"]
    assert shown["distributions"]["torch"] == "2.6.0+cu124"
    assert _json(shop, "verify", "cpu") == {
        "id": new["id"], "sound": True, "distributions": 6, "torch": "2.6.0+cpu", "faults": [],
    }  # fmt: skip
    assert _json(shop, "default", "cpu", old["id"]) == {"tag": "cpu", "base": old["id"]}
    assert _json(shop, "show", "cpu")["id"] == old["id"]
    removed = _json(shop, "remove", old["id"])["removed"]
    assert f"cpu now means {new['id']}" in removed
    table = shop.command("base", "list").stdout
    assert f"* {new['id']}" in table
    assert old["id"] not in table


def test_a_name_that_means_no_base_is_told_with_what_there_is(shop: Workshop, base: RegisteredBase) -> None:
    """By id, by tag or by the beginning of an id; otherwise the ones there are."""
    assert _json(shop, "show", base.manifest.id[:-3])["id"] == base.manifest.id
    done = shop.command("base", "show", "cu130", "--json", check=False)
    told = json.loads(done.stdout)
    assert done.returncode == 2
    assert told["error"] == "BaseNotFound"
    assert base.manifest.id in told["why"]


def test_a_tag_cannot_mean_a_base_of_another_tag(shop: Workshop, base: RegisteredBase) -> None:
    """The fix is the command with the right tag."""
    done = shop.command("base", "default", "cu124", base.manifest.id, check=False)
    assert done.returncode == 2
    assert f"jupyter overlay base default cpu {base.manifest.id}" in done.stderr


def test_verify_names_the_altered_and_the_missing_file(base: RegisteredBase) -> None:
    """A base that somebody wrote into, with the right that only root or its owner has."""
    site = Path(base.manifest.site_dirs[0])
    altered, missing = site / "torch/version.py", site / "numpy/__init__.py"
    for path in (altered.parent, missing.parent, altered):
        path.chmod(0o755)
    altered.write_text(altered.read_text() + "# a note\n")
    missing.unlink()
    verdict = verify_base(base)
    assert not verdict.sound
    assert verdict.faults == (
        "numpy/__init__.py is missing (numpy-2.1)",
        "torch/version.py is altered (torch-2.6.0+cpu)",
    )


def test_verify_imports_torch(base: RegisteredBase) -> None:
    """What RECORD cannot tell: a library that is gone from the system, a wrong architecture."""
    (cuda,) = Path(base.manifest.site_dirs[0]).glob("torch/cuda.py")
    cuda.parent.chmod(0o755)
    for path in (cuda.parent / "__pycache__").iterdir():
        path.parent.chmod(0o755)
        path.unlink()
    cuda.chmod(0o644)
    cuda.write_text("raise OSError('libcudart.so.12: cannot open shared object file')\n")
    assert any("import torch: OSError: libcudart.so.12" in fault for fault in verify_base(base).faults)


def test_verify_imports_what_belongs_to_torch(shop: Workshop) -> None:
    """A torchvision that was built for another torch is as it was installed, and of no use."""
    venv = shop.environment("mine", "torch==2.5.0", "ipykernel")
    broken = "raise RuntimeError('operator torchvision::nms does not exist')\n"
    shop.publish("torchvision", "0.20.1", files=module("torchvision", "0.20.1", broken), tag="cpu")
    shop.install(venv, "torchvision==0.20.1")
    (fault,) = verify_base(shop.adopt(venv).base).faults
    assert fault == "import torchvision: RuntimeError: operator torchvision::nms does not exist"


def test_verify_changes_nothing(base: RegisteredBase) -> None:
    """Sound before, sound after, and not a byte between."""
    from tests.support.tree import tree_hash

    before = tree_hash(base.directory)
    assert verify_base(base).sound
    assert tree_hash(base.directory) == before


def test_verify_tells_that_an_adopted_environment_has_changed(shop: Workshop) -> None:
    """With the command that takes it as it is now."""
    venv = shop.environment("mine", "torch==2.5.0", "ipykernel")
    base = shop.adopt(venv).base
    assert verify_base(base).sound
    shop.install(venv, "numpy")
    (fault,) = verify_base(base).faults
    assert f"jupyter overlay base adopt {venv}" in fault


def test_an_adopted_distribution_without_record_is_no_fault(shop: Workshop) -> None:
    """Debian's own packages have none; there is nothing to check them against."""
    venv = shop.environment("mine", "torch==2.5.0", "ipykernel", "numpy")
    next(venv.glob("lib/python*/site-packages/numpy-*.dist-info/RECORD")).unlink()
    assert verify_base(shop.adopt(venv).base).sound


@pytest.mark.fault(23)
def test_a_base_in_use_is_not_removed_and_its_user_is_named(shop: Workshop, base: RegisteredBase) -> None:
    """Any process that holds the base's lock counts, whatever its pid; then it goes."""
    lock = hold(base)
    assert lock is not None
    words = [sys.executable, "-c", "input()", "a-kernel"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, pass_fds=(lock.fd,)) as kernel:
        lock.release()
        with pytest.raises(BaseInUse) as caught:
            remove_base(base, data_dir=shop.data_dir)
        assert f"pid {kernel.pid}: " in caught.value.why
        assert "a-kernel" in caught.value.why
        assert f"pid {kernel.pid}: " in "".join(_json(shop, "show", "cpu")["kernels"])
        done = shop.command("base", "remove", "cpu", check=False)
        assert (done.returncode, f"pid {kernel.pid}" in done.stderr) == (2, True)
        assert Path(base.manifest.prefix, "bin/python").exists()
        kernel.communicate(b"\n")
    remove_base(base, data_dir=shop.data_dir)
    assert not base.directory.exists()


def test_the_last_base_of_a_tag_takes_alias_and_kernel_with_it(shop: Workshop, base: RegisteredBase) -> None:
    """Nothing is left that a user could pick in vain; a kernel of that name that is not ours stays."""
    theirs = shop.data_dir / "kernels/torch-cu124/kernel.json"
    theirs.parent.mkdir(parents=True)
    theirs.write_text('{"argv": ["python"], "display_name": "mine"}')
    removed = remove_base(base, data_dir=shop.data_dir)
    assert removed == [f"base {base.manifest.id}", "alias cpu", "kernel torch-cpu"]
    assert (
        sorted(path.name for path in (shop.data_dir / "torch-bases").glob("*") if path.suffix != ".lock")
        == []
    )
    assert [path.name for path in (shop.data_dir / "kernels").iterdir()] == ["torch-cu124"]


def test_the_tag_passes_to_the_newest_base_that_is_left(shop: Workshop) -> None:
    """Removing what a tag means leaves it meaning something."""
    old, new = shop.create("cpu", torch="2.5.0").base, shop.create("cpu").base
    remove_base(new, data_dir=shop.data_dir)
    assert read_register([shop.data_dir / "torch-bases"]).get("cpu") == old
    assert (shop.data_dir / "kernels/torch-cpu/kernel.json").exists()


def test_an_adopted_environment_survives_its_removal(shop: Workshop) -> None:
    """What is removed is the registration."""
    venv = shop.environment("mine", "torch==2.5.0", "ipykernel")
    remove_base(shop.adopt(venv).base, data_dir=shop.data_dir)
    assert (venv / "bin/python").exists()
    assert read_register([shop.data_dir / "torch-bases"]).bases == ()


def test_an_alias_of_a_base_that_is_gone_hides_no_other(shop: Workshop, base: RegisteredBase) -> None:
    """The tag then means a base of it that is there."""
    root = shop.data_dir / "torch-bases"
    set_alias(root, "cpu", "cpu-torch9.9.0-py311-00000000")
    assert read_register([root]).get("cpu") == base


def killed_while_removed(base: RegisteredBase) -> Path:
    """What a removal leaves that is killed once it has taken the base out of the register."""
    (base.directory / MANIFEST).unlink()
    return base.directory


def test_what_a_killed_removal_left_is_seen_and_removed(shop: Workshop, base: RegisteredBase) -> None:
    """Under its locks: not while somebody makes it, nor while something stands on it."""
    root = shop.data_dir / "torch-bases"
    assert read_register([root]).leftovers == ()
    left = killed_while_removed(base)
    register = read_register([root])
    assert (register.bases, register.leftovers) == ((), (left,))
    assert register.leftover(base.manifest.id) == left
    assert register.leftover("cpu") is None
    with locks.exclusive(root / f"{left.name}.new.lock"), pytest.raises(BaseInUse, match="being created"):
        remove_leftover(left)
    with locks.shared(base.lock_path), pytest.raises(BaseInUse):
        remove_leftover(left)
    with pytest.raises(BaseInUse) as caught:
        remove_leftover(left, standing=lambda: [Path("/project/.venv")])
    assert "/project/.venv" in caught.value.why
    assert left.is_dir()
    assert remove_leftover(left) == [f"what was left of {left.name}", "alias cpu"]
    assert not left.exists()
    assert shop.create("cpu").existed is False


def test_a_base_is_no_leftover(base: RegisteredBase) -> None:
    """Made again meanwhile, it stays."""
    with pytest.raises(BaseNotFound):
        remove_leftover(base.directory)
    assert is_registered(base)


@pytest.mark.fault(18)
def test_a_damaged_manifest_is_set_aside_with_its_reason(shop: Workshop, base: RegisteredBase) -> None:
    """Other bases go on working; the list names the damaged one and the way out."""
    other = shop.create("cu124").base
    for content in ("", '{"schema": 1', '{"schema": 99}', "[]", '{"schema": 1, "id": "x"}'):
        (base.directory / "base.json").write_text(content)
        register = read_register([shop.data_dir / "torch-bases"])
        assert register.bases == (other,), content
        (damage,) = register.damaged
        assert str(base.directory) in damage.what
        assert damage.fix
        with pytest.raises(BaseNotFound):
            register.get("cpu-torch")
    assert str(base.directory) in shop.command("base", "list").stdout


def test_a_users_base_comes_before_the_systems(shop: Workshop, base: RegisteredBase, tmp_path: Path) -> None:
    """Two registers: the first wins for a tag, and both are seen."""
    system = Workshop(tmp_path / "system", shop.index)
    theirs = system.create("cpu", torch="2.5.0").base
    roots = [shop.data_dir / "torch-bases", system.data_dir / "torch-bases"]
    assert read_register(roots).get("cpu") == base
    assert read_register(roots[::-1]).get("cpu") == theirs
    assert len(read_register(roots).bases) == 2


def test_holding_a_base_is_seen_by_others(base: RegisteredBase) -> None:
    """Shared among kernels, and gone with the last of them."""
    first, second = hold(base), hold(base)
    assert first is not None
    assert second is not None
    first.release()
    assert locks.is_held(base.lock_path)
    second.release()
    assert not locks.is_held(base.lock_path)


@pytest.mark.parametrize("announced", [False, True])
def test_only_a_removal_that_the_owner_announces_is_waited_for(base: RegisteredBase, announced: bool) -> None:
    """Whoever can read the lock file can lock it, for as long as they like."""
    with contextlib.ExitStack() as theirs, ThreadPoolExecutor() as pool:
        if announced:
            theirs.enter_context(announced_removal(base))
        theirs.enter_context(locks.exclusive(base.lock_path))
        held = pool.submit(hold, base, patience=WITHIN)
        if announced:
            assert wait([held], timeout=0.2).done == set()
            (base.directory / MANIFEST).unlink()  # as a removal does first of all
        assert held.result(timeout=WITHIN / 2) is None
    assert is_registered(base) is not announced


def test_what_a_killed_removal_left_is_not_waited_for(base: RegisteredBase) -> None:
    """Else whoever can lock the base's lock file could cost each launch the time that a removal gets."""
    with contextlib.ExitStack() as left, ThreadPoolExecutor() as pool:
        left.enter_context(announced_removal(base))
        left.enter_context(locks.exclusive(base.lock_path))
        held = pool.submit(hold, base, patience=2 * WITHIN, counts=0.0)
        assert held.result(timeout=WITHIN) is None


def test_a_removal_that_is_given_up_ends_the_wait(base: RegisteredBase) -> None:
    """The kernel that waited then holds the base, and nothing of the announcement is left."""
    before = base.lock_path.stat().st_mode
    with ThreadPoolExecutor() as pool:
        with announced_removal(base), locks.exclusive(base.lock_path):
            held = pool.submit(hold, base, patience=WITHIN)
        lock = held.result(timeout=WITHIN)
    assert lock is not None
    lock.release()
    assert base.lock_path.stat().st_mode == before


def test_nobody_else_can_hold_up_who_keeps_the_bases(shop: Workshop, base: RegisteredBase) -> None:
    """Of all locks beside the bases others can open one: that which their kernels hold."""
    remove_base(base, data_dir=shop.data_dir)
    base = shop.create("cpu").base
    others = [path for path in base.directory.parent.glob("*.lock") if path.stat().st_mode & 0o077]
    assert others == [base.lock_path]


def _json(shop: Workshop, *words: str) -> Any:
    """What ``jupyter overlay base … --json`` prints; nothing else may stand on stdout."""
    return json.loads(shop.command("base", *words, "--json").stdout)
