"""An overlay's skeleton: a plain environment that uv, pip and Python all take for one that has torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.errors import CorruptState
from kernel_provisioner.inkernel import nested
from kernel_provisioner.launch import argv
from kernel_provisioner.overlay.environment import kernel_environment
from kernel_provisioner.overlay.guards import Terms
from kernel_provisioner.overlay.skeleton import shebang_for, site_packages, write_skeleton
from kernel_provisioner.policy import Layer, Policy
from kernel_provisioner.uv.discovery import uv_path
from tests.support.bases import Workshop
from tests.support.index import serve_index
from tests.support.torch_wheels import NVIDIA
from tests.support.tree import tree_hash

UV = uv_path()
FOUND = "import os, sys, uv; os.execv(uv.find_uv_bin(), ['uv', *sys.argv[1:]])"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegisteredBase]:
    """One cu124 base for this module, which lies in a directory with a blank."""
    with serve_index() as index:
        shop = Workshop(tmp_path_factory.mktemp("a base"), index)
        shop.stock("cu124")
        yield shop.create("cu124").base


@pytest.fixture
def overlay(tmp_path: Path, base: RegisteredBase) -> Path:
    """A fresh overlay without extras."""
    return _written(tmp_path / "overlay", base)


def _written(prefix: Path, base: RegisteredBase) -> Path:
    prefix.mkdir(parents=True)
    write_skeleton(prefix, base, uv=UV)
    return prefix


def _run(overlay: Path, code: str) -> str:
    command = [str(overlay / "bin/python"), "-I", "-B", "-c", code]
    done = subprocess.run(command, env={}, capture_output=True, text=True, check=False)
    return done.stdout.strip() + done.stderr


def test_it_is_a_virtual_environment_of_the_true_interpreter(overlay: Path, base: RegisteredBase) -> None:
    """Not of the base's: whose prefix would be the base's, too."""
    said = json.loads(_run(overlay, "import json, sys; print(json.dumps([sys.prefix, sys.base_prefix]))"))
    assert said == [str(overlay), str(Path(base.manifest.interpreter).parents[1])]
    xy = ".".join(map(str, sys.version_info[:2]))
    for name in ("python", "python3", f"python{xy}"):
        assert (overlay / "bin" / name).resolve() == Path(base.manifest.interpreter)
    assert (overlay / "pyvenv.cfg").read_text().splitlines() == [
        f"home = {Path(base.manifest.interpreter).parent}",
        "include-system-site-packages = false",
        f"version_info = {base.manifest.python}",
        f"extends-environment = {base.manifest.prefix}",
    ]


def test_the_bases_packages_are_importable_and_come_after_the_overlays_own(
    overlay: Path, base: RegisteredBase
) -> None:
    """The path lists the overlay first; libraries that search site directories find the base, too."""
    own = str(site_packages(overlay))
    code = (
        "import json, site, sys, torch; print(json.dumps([sys.path, torch.__file__, site.getsitepackages()]))"
    )
    path, torch, sites = json.loads(_run(overlay, code))
    (theirs,) = base.manifest.site_dirs
    assert path.index(own) < path.index(theirs)
    assert torch.startswith(theirs)
    assert sites == [own, theirs]
    assert _run(overlay, "import nvidia; print(len(list(nvidia.__path__)))") == "1"


def test_a_start_file_does_what_the_import_line_does(overlay: Path, base: RegisteredBase) -> None:
    """Python 3.15 calls what the file names, and 3.18 no longer runs import lines (PEP 829)."""
    (start,) = overlay.glob("lib/python*/site-packages/*.start")
    assert start.with_suffix(".pth").exists(), "of the same name: it switches the import line off"
    code = (
        "import pkgutil, site; site.PREFIXES.clear(); "
        f"pkgutil.resolve_name({start.read_text().strip()!r})(); print(site.PREFIXES)"
    )
    done = subprocess.run([overlay / "bin/python", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([base.manifest.prefix])


def test_every_distribution_of_the_base_has_a_receipt(overlay: Path, base: RegisteredBase) -> None:
    """With the metadata that a resolver reads, and a RECORD that names nothing but the receipt."""
    receipts = {
        dist.metadata["Name"]: dist for dist in metadata.distributions(path=[str(site_packages(overlay))])
    }
    versions = {name: dist.version for name, dist in receipts.items()}
    assert versions.pop("uv") == metadata.version("uv"), "it is lent, and counts as installed"
    assert versions == dict(base.manifest.distributions)
    torch = receipts["torch"]
    assert {line.split("==")[0] for line in torch.requires or ()} >= set(NVIDIA["cu124"])
    for dist in receipts.values():
        for file in dist.files or ():
            located = Path(str(dist.locate_file(file)))
            assert located.is_file()
            assert located.parent.suffix == ".dist-info"
            assert not located.is_symlink()
            assert not located.parent.is_symlink()


def test_jupyter_in_it_finds_a_way_to_start_torch_kernels(
    overlay: Path, base: RegisteredBase, tmp_path: Path
) -> None:
    """An entry point that belongs to no package of its own; not where no kernel of ours runs."""

    def points(prefix: Path) -> list[tuple[str, str]]:
        found = metadata.distributions(path=[str(site_packages(prefix))])
        every = [(dist.metadata["Name"], point) for dist in found for point in dist.entry_points]
        return [(name, point.value) for name, point in every if point.name == "torch-overlay"]

    assert points(overlay) == [("ipykernel", "_torch_overlay_provisioner:TorchOverlayProvisioner")]
    spec = json.loads((overlay / "share/jupyter/kernels/torch/kernel.json").read_text())
    assert spec["argv"][0] == sys.executable, "the installation that made it"
    project = tmp_path / "project"
    project.mkdir()
    write_skeleton(project, base, Terms(kernel=False), uv=UV)
    assert points(project) == []


def test_what_is_handed_over_has_one_name() -> None:
    """The provisioner in an overlay runs alone, by its path, and cannot import it."""
    assert nested.CLIENT == argv.CLIENT


def test_scripts_of_the_base_run_in_the_overlay(overlay: Path) -> None:
    """The base's own scripts would run with the base's prefix and miss the overlay."""
    (site_packages(overlay) / "mine.py").write_text("")
    script = overlay / "bin/torchrun"
    assert (
        subprocess.run([script], env={}, capture_output=True, text=True, check=True).stdout == "2.6.0+cu124\n"
    )
    assert script.read_text().startswith(f"#!{overlay}/bin/python\n")


def test_uv_is_lent(overlay: Path) -> None:
    """``!uv`` and ``python -m uv`` run the server's own; the base holds none."""
    for command in (["bin/uv"], ["bin/python", "-m", "uv"], ["bin/python", "-c", FOUND]):
        run = [str(overlay / command[0]), *command[1:], "--version"]
        done = subprocess.run(run, env={}, capture_output=True, text=True, check=False)
        assert done.stdout.split()[:2] == ["uv", metadata.version("uv")], done.stderr


def test_constraints_hold_what_is_fixed_alone(overlay: Path, base: RegisteredBase, tmp_path: Path) -> None:
    """Local labels included, which alone hold the build; where no kernel runs, ipykernel is free."""
    lines = (overlay / "constraints.txt").read_text().splitlines()
    names = {line.partition("==")[0] for line in lines if "==" in line}
    assert names == {*base.manifest.fixed, "ipykernel", "uv"}
    assert "torch==2.6.0+cu124" in lines
    assert names.isdisjoint({"numpy", "pip"})
    (prefix := tmp_path / "project").mkdir()
    write_skeleton(prefix, base, Terms(kernel=False), uv=UV)
    for path, lent in ((prefix / "constraints.txt", {"uv"}), (overlay / "build-constraints.txt", set())):
        found = {line.partition("==")[0] for line in path.read_text().splitlines() if "==" in line}
        assert found == {*base.manifest.fixed, *lent}
        assert "ipykernel" not in found


def test_a_policy_that_pins_all_holds_the_whole_base(base: RegisteredBase, tmp_path: Path) -> None:
    """By hand as in a build."""
    (prefix := tmp_path / "strict").mkdir()
    write_skeleton(prefix, base, Terms(Policy((Layer("a file", {"pins": "all"}),))), uv=UV)
    assert {*base.manifest.constraints} <= {*(prefix / "constraints.txt").read_text().splitlines()}


def test_writing_one_leaves_the_base_alone(tmp_path: Path, base: RegisteredBase) -> None:
    """Not a byte, however many overlays there are."""
    before = tree_hash(base.directory)
    for number in range(5):
        _written(tmp_path / str(number), base)
    assert tree_hash(base.directory) == before


@pytest.mark.parametrize("name", ["with blank", "it's", 'a "quoted" one', "größe-日本", "x" * 150])
def test_scripts_run_wherever_the_overlay_lies(tmp_path: Path, base: RegisteredBase, name: str) -> None:
    """A shebang with a blank, or longer than the kernel of the operating system reads, goes through sh."""
    overlay = _written(tmp_path / name, base)
    command, env = [overlay / "bin/torchrun"], {"PATH": os.defpath}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.stdout == "2.6.0+cu124\n", done.stderr


def test_a_shebang_is_plain_where_that_works() -> None:
    """127 bytes with the mark and the line's end; counted as bytes, not as characters."""
    assert shebang_for(Path("/o/bin/python")) == "#!/o/bin/python"
    longest = "/" + "x" * 124
    assert shebang_for(Path(longest)) == f"#!{longest}"
    for path in ("/" + "x" * 125, "/" + "ö" * 63, "/a b/python", "/a\tb/python"):
        assert shebang_for(Path(path)).startswith("#!/bin/sh\n")


def test_a_damaged_skeleton_file_is_told(tmp_path: Path, base: RegisteredBase) -> None:
    """With the way to make it again."""
    damaged = tmp_path / "skeleton.json"
    elsewhere = base._replace(directory=tmp_path)
    for content in ("", "{", "[]", '{"files": 3}'):
        damaged.write_text(content)
        os.utime(damaged, ns=(len(content), len(content)))
        (prefix := tmp_path / f"o{len(content)}").mkdir()
        with pytest.raises(CorruptState, match="cannot be read") as caught:
            write_skeleton(prefix, elsewhere, uv=UV)
        assert "base create" in caught.value.fix


def test_a_renewed_skeleton_file_is_read_again(tmp_path: Path, base: RegisteredBase) -> None:
    """A server lives for weeks; an adopted base is recorded again meanwhile."""
    file = tmp_path / "skeleton.json"
    for number, name in enumerate(("first", "second")):
        file.write_text(json.dumps({"files": [[f"bin/{name}", 0o644, ""]], "links": []}))
        os.utime(file, ns=(number, number))
        (prefix := tmp_path / name).mkdir()
        write_skeleton(prefix, base._replace(directory=tmp_path), uv=UV)
        assert (prefix / "bin" / name).exists()


def test_what_is_no_overlay_is_told(tmp_path: Path) -> None:
    """Rather than a traceback about a glob."""
    with pytest.raises(CorruptState, match="is no overlay"):
        site_packages(tmp_path)


def test_a_free_threaded_base_has_its_own_directory_name(tmp_path: Path, base: RegisteredBase) -> None:
    """``python3.13t``, as its interpreter looks for it."""
    xy = base.manifest.python_xy
    free = base.manifest._replace(site_dirs=(f"/b/lib/python{xy}t/site-packages",))
    (prefix := tmp_path / "free").mkdir()
    write_skeleton(prefix, base._replace(manifest=free), uv=UV)
    assert site_packages(prefix) == prefix / f"lib/python{xy}t/site-packages"


def test_the_kernels_environment_points_at_the_overlay(overlay: Path, base: RegisteredBase) -> None:
    """Everything that a cell starts lands in it, and nothing of another environment comes along."""
    outer = {"PATH": "/usr/bin", "PYTHONPATH": "/evil", "PYTHONHOME": "/evil", "CONDA_PREFIX": "/conda",
             "UV_TARGET": "/evil", "PIP_USER": "1", "PIP_CONSTRAINT": "/evil", "PIP_CONFIG_FILE": os.devnull,
             "HF_TOKEN": "the user's own"}  # fmt: skip
    env = kernel_environment(outer, overlay)
    assert env["VIRTUAL_ENV"] == str(overlay)
    assert env["PATH"] == f"{overlay}/bin:/usr/bin"
    assert env["PYTHONNOUSERSITE"] == "1"
    assert env["TORCH_EXTENSIONS_DIR"].startswith(str(overlay))
    assert env["HF_TOKEN"] == "the user's own", "a kernel is the user's, not a package manager"
    assert not env.keys() & {"PYTHONPATH", "PYTHONHOME", "CONDA_PREFIX", "UV_TARGET", "PIP_USER",
                             "PIP_CONSTRAINT", "PIP_CONFIG_FILE"}  # fmt: skip
    assert outer["PATH"] == "/usr/bin"
