"""What is unpacked lands in the overlay's staging directory, or nowhere."""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

import pytest

from kernel_provisioner.inkernel.shared import layout
from tests.support.bases import Bench, Built
from tests.support.wheels import build_wheel

UP = "../" * 16


@pytest.mark.parametrize(
    ("name", "path"),
    [("absolute", "{mark}"), ("upwards", UP + "{mark}"), ("data", "data-1.0.data/data/" + UP + "{mark}"),
     ("scripts", "scripts-1.0.data/scripts/" + UP + "{mark}"),
     ("beside", "beside-1.0.data/data/../{overlay}")],
)  # fmt: skip
def test_a_file_for_another_place_is_not_written(bench: Bench, tmp_path: Path, name: str, path: str) -> None:
    """Neither at an absolute path, nor above the overlay, nor in the overlay's own directory."""
    mark = tmp_path / "mark"
    inside = path.format(mark=mark, overlay=layout.ENTERED)
    bench.publish(name, files={f"{name}.py": "", inside: "here"})
    built = bench.overlay(bench.base(), name)
    assert not mark.exists()
    assert not (built.path / layout.ENTERED).exists()
    assert built.ready or name in built.told, built.told


def test_a_link_in_a_wheel_leads_nowhere(bench: Bench, tmp_path: Path) -> None:
    """A link to a directory elsewhere, and a file that goes through it: nothing is written there."""
    wheel = build_wheel(tmp_path, "linked", files={"linked.py": "", "way": str(tmp_path), "way/mark": "here"})
    with zipfile.ZipFile(wheel) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(wheel, "w") as archive:
        for info, data in members:
            if info.filename == "way":
                info.external_attr = 0o120777 << 16
            archive.writestr(info, data)
    bench.index.publish(wheel)
    built = bench.overlay(bench.base(), "linked")
    assert not (tmp_path / "mark").exists()
    assert _links(built) == []
    assert built.ready or "linked" in built.told, built.told


@pytest.mark.parametrize(
    "path", ["_torch_base_site.py", "_torch_base_site/__init__.py", "zzz_torch_base.start"]
)
def test_what_an_overlays_python_starts_with_is_not_replaced(bench: Bench, path: str) -> None:
    """These files run whenever the overlay's interpreter starts."""
    name = "starts-" + path.strip("_").replace("/", "-").replace("_", "-").replace(".", "-")
    bench.publish(name, files={"starts.py": "", path: "x = 1\n"})
    built = bench.overlay(bench.base(), name)
    assert not built.ready
    assert path.partition("/")[0] in built.told
    assert "broken or hostile" in built.told


def test_no_script_takes_the_pythons_name(bench: Bench) -> None:
    """Every command of the overlay's would run it."""
    bench.publish("pythonic", entry_points={"console_scripts": {"python": "pythonic:main"}})
    built = bench.overlay(bench.base(), "pythonic")
    assert not built.ready
    assert "python" in built.told


@pytest.mark.parametrize(
    ("path", "word"),
    [
        # What Python reads beside its interpreter, in place of sys.path.
        ("{}.data/scripts/python._pth", "python._pth"),
        ("{}.data/data/bin/python3.11._pth", "python3.11._pth"),
        ("{}.data/data/bin/pyvenv.cfg", "pyvenv.cfg"),
        ("{}.data/data/bin/pybuilddir.txt", "pybuilddir.txt"),
        ("{}.data/data/lib/python3.11/os.py", "lib/python3.11/os.py"),
        # Bytecode that runs in place of the module that every start imports.
        ("__pycache__/_torch_base_site.cpython-311.pyc", "_torch_base_site"),
        ("uv/__main__.py", "lib/python3.11/site-packages/uv"),
        # A file where the overlay has a directory, and the reverse.
        ("{}.data/data/bin", "replace bin "),
        ("{}.data/data/pyvenv.cfg/x", "pyvenv.cfg"),
        # Metadata of a package that nobody asked for.
        ("{}.data/purelib/torch-9.9.dist-info/x.txt", "torch-9.9.dist-info"),
        ("torch.egg-info", "torch.egg-info"),
        # Modules of the base, in whatever form Python takes them.
        ("torch.abi3.so", "would hide torch.abi3.so"),
        ("numpy.pyc", "would hide numpy.pyc"),
        # Directories that the import path gains before the base's own.
        ("hidden.pth", "outside of this notebook's environment: hidden.pth (/srv/elsewhere)"),
    ],
)
def test_a_file_of_a_package_lands_where_files_of_packages_belong(bench: Bench, path: str, word: str) -> None:
    """Commands, modules and data of its own; anything else is refused, with the file's name."""
    name = "lands-" + re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-")
    escaped = name.replace("-", "_")
    inside = path.format(f"{escaped}-1.0").replace(
        "python3.11", f"python{sys.version_info[0]}.{sys.version_info[1]}"
    )
    content = "/srv/elsewhere\n" if path.endswith(".pth") else "x = 1\n"
    bench.publish(name, files={f"{escaped}.py": "", inside: content})
    built = bench.overlay(bench.base(), name)
    assert not built.ready
    assert word in built.told
    assert "broken or hostile" in built.told


def test_commands_have_the_names_that_commands_have(bench: Bench) -> None:
    """Dots and versions in them, too."""
    names = ("py.test", "mpiexec.hydra", "clang-format-18.1", "find-spark-home.cmd", "a_tool", "c++filt")
    scripts = {f"commands-1.0.data/scripts/{name}": "#!python\n" for name in names}
    bench.publish("commands", files={"commands.py": "", **scripts})
    built = bench.overlay(bench.base(), "commands")
    assert built.ready, built.told


def test_a_package_cannot_change_the_order_of_the_base_directories(bench: Bench) -> None:
    """A line that leads into the base counts where the base's directories are on the path already."""
    places = bench.base().manifest.site_dirs
    bench.publish("early-path", files={"early_path.py": "", "aaa.pth": f"{places[-1]}\n"})
    bench.publish("late-path", files={"late_path.py": "", "zzz_torch_base_x.pth": f"{places[-1]}\n"})
    early = bench.overlay(bench.base(), "early-path")
    assert not early.ready
    assert f"aaa.pth ({places[-1]})" in early.told
    assert bench.overlay(bench.base(), "late-path").ready


@pytest.mark.parametrize(
    ("path", "word"),
    [("nvidia.py", "nvidia.py"), ("nvidia.abi3.so", "nvidia.abi3.so"),
     ("nvidia/cudnn.py", "nvidia/cudnn.py"), ("nvidia/cudnn/lib/libcudnn.so.0", "libcudnn.so.0")],
)  # fmt: skip
def test_nothing_hides_a_part_of_a_namespace_that_the_base_has(bench: Bench, path: str, word: str) -> None:
    """Nor the whole of it, in any form."""
    name = "hides-" + re.sub(r"[^a-z0-9]+", "-", path.lower())
    bench.publish(name, files={"ours/__init__.py": "", path: "x = 1\n"})
    built = bench.overlay(bench.base("cu124"), name)
    assert not built.ready
    assert "would hide" in built.told
    assert word in built.told


def test_a_namespaces_part_stays_a_namespace(bench: Bench) -> None:
    """An ``__init__`` in a directory that the base shares is taken out, however deep; the rest stays."""
    files = ("nvidia/cudnn/__init__.py", "nvidia/cudnn/lib/libmine.so.1", "nvidia/mine/__init__.py")
    bench.publish("nvidia-mine", files=dict.fromkeys(files, "x = 1\n"))
    built = bench.overlay(bench.base("cu124"), "nvidia-mine")
    assert built.ready, built.told
    bench.enter(built)
    code = (
        "import nvidia.cudnn, nvidia.mine, pathlib; places = map(pathlib.Path, nvidia.cudnn.__path__); "
        "print(sorted(file.name for place in places for file in place.rglob('*.so.*')))"
    )
    assert built.python(code) == "['libcudnn.so.0', 'libmine.so.1']"


def test_who_replaces_a_package_may_replace_its_part_of_a_namespace(bench: Bench) -> None:
    """As a newer protobuf replaces ``google/protobuf``, and nobody else may."""
    for name, version in (("shared-part", "1.0"), ("shared-part", "2.0"), ("shared-thief", "1.0")):
        code = f"__version__ = {name + version!r}\n"
        bench.publish(name, version, files={"shared/part/__init__.py": code})
    base = bench.create("cpu", packages=["shared-part==1.0"]).base
    built = bench.overlay(base, "shared-part==2.0")
    bench.enter(built)
    assert built.python("import shared.part as p; print(p.__version__)") == "shared-part2.0"
    stolen = bench.overlay(base, "shared-thief", notebook="thief.ipynb")
    assert not stolen.ready
    assert "would hide shared/part" in stolen.told


def test_a_directory_that_a_pth_file_adds_holds_no_other_torch(bench: Bench) -> None:
    """It would come before the base's; one that holds modules of its own is as good as site-packages."""
    bench.publish("adds-torch", files={"adds.pth": "deep/down\n", "deep/down/torch/__init__.py": ""})
    bench.publish("adds-module", files={"adds.pth": "# a comment\ndeep\n", "deep/found_there.py": ""})
    refused = bench.overlay(bench.base(), "adds-torch")
    assert not refused.ready
    assert "would hide deep/down/torch" in refused.told
    taken = bench.overlay(bench.base(), "adds-module", notebook="adds.ipynb")
    assert taken.ready, taken.told
    bench.enter(taken)
    assert taken.python("import found_there; print('here')") == "here"


def test_a_file_that_record_does_not_name_is_refused(bench: Bench) -> None:
    """No installer would remove it, and nobody can say whether it is what its author packed."""
    bench.publish("omits", record="omits-a-file")
    built = bench.overlay(bench.base(), "omits")
    assert not built.ready
    assert "files that its RECORD does not name: omits/__init__.py" in built.told


def test_bytecode_that_uv_compiled_is_no_stranger(bench: Bench) -> None:
    """Where its user has it compile what it installs, no RECORD names that."""
    bench.publish("compiled")
    bench.env["UV_COMPILE_BYTECODE"] = "1"
    built = bench.overlay(bench.base(), "compiled")
    assert built.ready, built.told
    assert list((built.path / layout.STAGING).rglob("compiled/__pycache__/*.pyc"))


def test_commands_of_every_kind_are_welcome(bench: Bench) -> None:
    """With versions, as scripts, and whatever else their names begin with."""
    commands = ("tool", "tool3.11", "tool-3", "rst2html.py", "env.sh", "python-argcomplete-check", "x.CMD")
    files = {f"toolbox-1.0.data/scripts/{name}": "#!/bin/sh\n" for name in commands}
    bench.publish("toolbox", files={"toolbox.py": "", **files})
    built = bench.overlay(bench.base(), "toolbox")
    assert built.ready, built.told
    assert {path.name for path in (built.path / layout.STAGING / "bin").iterdir()} == set(commands)


def _links(built: Built) -> list[str]:
    return [str(path) for path in (built.path / layout.STAGING).rglob("*") if path.is_symlink()]
