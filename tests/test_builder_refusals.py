"""What a package may not do when it is built into an overlay: hide, replace, lie."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.bases import Bench
from tests.support.wheels import flip_a_bit


@pytest.mark.parametrize(
    "path", ["torch/extra.py", "torch.py", "ipykernel.py", "ipykernel/kernelbase.py", "comm/__init__.py",
             "numpy.cpython-311-x86_64-linux-gnu.so"]
)  # fmt: skip
def test_a_package_that_would_hide_a_module_of_the_base_is_refused(bench: Bench, path: str) -> None:
    """It would run instead of the base's own, in this notebook at least."""
    name = "hostile-" + re.sub(r"\W", "-", path)
    bench.publish(name, files={path: b"x = 1\n"})
    built = bench.overlay(bench.base(), name)
    assert not built.ready
    assert "would hide" in built.failure["what"]
    assert Path(path).parts[0] in built.failure["what"]


def test_who_replaces_one_package_may_not_hide_another(bench: Bench) -> None:
    """A numpy of its own that also brings a torch."""
    bench.publish("numpy", "1.25", files={"numpy/__init__.py": "", "torch/__init__.py": ""})
    built = bench.overlay(bench.base(), "numpy==1.25")
    assert not built.ready
    assert "would hide torch" in built.failure["what"]


def test_a_replaced_package_brings_its_own_module_whatever_that_is_called(bench: Bench) -> None:
    """As PyYAML brings ``yaml``."""
    for version in ("1.0", "2.0"):
        bench.publish("py-odd", version, files={"odd/__init__.py": f"__version__ = {version!r}\n"})
    base = bench.create("cpu", packages=["py-odd==1.0"]).base
    built = bench.overlay(base, "py-odd>=2")
    assert built.content["replaced"] == {"py-odd": ["1.0", "2.0"]}
    bench.enter(built)
    assert built.python("import odd; print(odd.__version__)") == "2.0"


def test_directories_that_nobody_imports_are_in_nobodys_way(bench: Bench) -> None:
    """Many wheels pack their ``tests``: the later one's are imported, as in one environment."""
    for name in ("packs-tests", "packs-more-tests"):
        own = f"{name.replace('-', '_')}/__init__.py"
        files = {own: "", "tests/__init__.py": f"whose = {name!r}\n", "docs/conf.py": f"whose = {name!r}\n"}
        bench.publish(name, files={**files, f"tests/test_{name.rpartition('-')[0][-1]}.py": ""})
    private = bench.environment("packs", "torch", "ipykernel", "packs-tests")
    built = bench.overlay(bench.adopt(private).base, "packs-more-tests")
    assert built.ready, built.told
    bench.enter(built)
    bench.install(private, "packs-more-tests")
    code = (
        "import packs_tests, packs_more_tests, tests.test_e, docs.conf; print(tests.whose, docs.conf.whose)"
    )
    alone = subprocess.run([private / "bin/python", "-Ic", code], capture_output=True, text=True, check=True)
    assert built.python(code) == alone.stdout.strip() == "packs-more-tests packs-more-tests"


@pytest.mark.parametrize(
    "wheel",
    [{"requires": ["torch==2.6.0"]}, {"entry_points": {"console_scripts": {"it": "scripts.it:main"}}}],
    ids=["it is built against torch", "a command of the base runs it"],
)
def test_what_is_fixed_or_runs_is_not_hidden_whatever_its_name(bench: Bench, wheel: dict[str, Any]) -> None:
    """A command of the base would fail in the overlay; what torch's stack holds is nobody's to replace."""
    name = f"has-scripts-{next(iter(wheel)).replace('_', '-')}"
    files = {"scripts/__init__.py": "", "scripts/it.py": "def main(): pass\n"}
    bench.publish(name, files=files, **wheel)
    bench.publish("more-scripts", files={"scripts/__init__.py": ""})
    base = bench.create("cpu", packages=[name]).base
    built = bench.overlay(base, "more-scripts", notebook=f"{name}.ipynb")
    assert not built.ready
    assert "would hide scripts" in built.told


def test_a_file_that_would_hide_a_shared_namespace_is_taken_out(bench: Bench) -> None:
    """``nvidia/__init__.py`` would hide all of the base's CUDA libraries; the rest of the package stays."""
    files = {"nvidia/__init__.py": "", "nvidia/dali/__init__.py": "here = True\n"}
    bench.publish("nvidia-dali-cuda120", files=files)
    built = bench.overlay(bench.base("cu124"), "nvidia-dali-cuda120")
    assert built.ready, built.told
    bench.enter(built)
    record = next(built.path.glob("lib/python*/site-packages/nvidia_dali*/RECORD")).read_text()
    assert "nvidia/__init__.py" not in record
    assert "nvidia/dali" in record
    code = "import nvidia, nvidia.dali; print(len(list(nvidia.__path__)), nvidia.dali.here)"
    assert built.python(code) == "2 True"
    cached = next(Path(bench.env["UV_CACHE_DIR"]).rglob("nvidia_dali*.dist-info/RECORD"))
    assert "nvidia/__init__.py" in cached.read_text(), "uv's cache is left as it is"


@pytest.mark.parametrize(
    "path",
    ["{}.data/data/pyvenv.cfg", "{}.data/data/overlay.json", "{}.data/data/constraints.txt",
     "{}.data/data/entered", "{}.data/scripts/python", "{}.data/scripts/python3", "zzz_torch_base.pth"],
)  # fmt: skip
def test_a_package_may_not_replace_what_the_overlay_itself_stands_on(bench: Bench, path: str) -> None:
    """Files of a wheel can land anywhere below the prefix."""
    name = "sly-" + re.sub(r"\W", "-", path).strip("-").lower()
    inside = path.format(f"{name.replace('-', '_')}-1.0")
    bench.publish(name, files={f"{name.replace('-', '_')}.py": "", inside: "#!python\n"})
    built = bench.overlay(bench.base(), name)
    assert not built.ready
    assert Path(path).name in built.told


@pytest.mark.fault(17)
def test_a_wheel_whose_record_lies_is_rejected(bench: Bench) -> None:
    """uv installs a file whose hash is not the one in RECORD; our own check does not let it pass."""
    bench.publish("liar", record="wrong-hash")
    built = bench.overlay(bench.base(), "liar")
    assert not built.ready
    assert "is damaged" in built.failure["what"]
    assert "RECORD" in built.failure["why"]


@pytest.mark.fault(16)
def test_a_damaged_wheel_is_rejected_and_the_next_try_succeeds(bench: Bench) -> None:
    """Nothing is published, nothing of it is used again."""
    wheel = bench.publish("fragile")
    good = wheel.read_bytes()
    flip_a_bit(wheel)
    assert not bench.overlay(bench.base(), "fragile").ready
    wheel.write_bytes(good)
    assert bench.overlay(bench.base(), "fragile").installed == {"fragile": "1.0"}
