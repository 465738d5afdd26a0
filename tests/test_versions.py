"""A notebook gets the versions that a private environment with the same torch would get."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kernel_provisioner.model.manifest import BaseManifest
from tests.support.bases import Bench, Workshop
from tests.support.wheels import build_wheel

MANY = 40
"""Old versions of a package that ask for nothing of what its newest ones need."""


def test_an_extra_is_never_taken_old_to_spare_a_base_package(bench: Bench) -> None:
    """Its old versions would fit the base's numpy; the newest does not, and gets the numpy that it needs."""
    base = bench.base()
    _publish_cloud(bench)
    built = bench.overlay(base, "cloud")
    assert built.installed == {"cloud": "3.0", "numpy": "1.26"}
    assert built.content["replaced"] == {"numpy": ["2.1", "1.26"]}


def test_nor_is_what_an_extra_needs(bench: Bench) -> None:
    """The same one step deeper, where nobody has named the package."""
    base = bench.base()
    _publish_cloud(bench)
    bench.publish("cloud-files", requires=["cloud"])
    built = bench.overlay(base, "cloud-files")
    assert built.installed == {"cloud-files": "1.0", "cloud": "3.0", "numpy": "1.26"}


def test_where_one_of_two_must_be_older_it_is_the_one_that_a_private_environment_has_older(
    bench: Bench,
) -> None:
    """uv's choice depends on what it learns of first: of torch, which a private environment asks for.

    sagemaker needs boto3 and s3fs, which needs the version of fsspec that is its own.
    """
    base = bench.base()
    for number in range(9):
        bench.publish("torch-plain-dependency", f"0.{number}")
        bench.publish("store", f"0.{number}", requires=[f"torch-plain-dependency==0.{number}", "middle"])
        bench.publish("middle", f"1.{number}", requires=[f"core>=1.{number},<1.{number + 1}"])
        bench.publish("client", f"1.{number}", requires=[f"core==1.{number}"])
        bench.publish("core", f"1.{number}")
    bench.publish("store", "0.0.4", requires=["core"])
    bench.publish("store", "1.0", requires=["torch-plain-dependency==1.0", "middle"])
    bench.publish("client", "2.0", requires=["core==2.0"])
    bench.publish("core", "2.0")
    bench.publish("both", requires=["client", "core", "store"])
    prefix = bench.environment("private", "both", f"torch=={base.manifest.torch}")
    listed = bench.uv.run("pip", "list", "--python", prefix / "bin/python", "--format", "json").stdout
    private = {package["name"]: package["version"] for package in json.loads(listed)}
    installed = bench.overlay(base, "both").installed
    assert installed == {name: private[name] for name in ("both", "client", "core", "middle", "store")}
    assert installed["store"] == "1.0"


def test_what_will_do_of_the_base_is_not_replaced(bench: Bench) -> None:
    """A private environment would have the newest numpy; the base's is in the extra's range, and is there."""
    base = bench.base()
    bench.publish("numpy", "2.9")
    bench.publish("any-numpy", requires=["numpy>=2"])
    assert bench.overlay(base, "any-numpy").installed == {"any-numpy": "1.0"}
    assert bench.overlay(base, "numpy", notebook="other.ipynb").installed == {}


def test_what_ipykernel_needs_is_replaced_within_ipykernels_range(bench: Bench) -> None:
    """It needs comm>=0.1: another one will do, but none that is older."""
    base = bench.base()
    bench.publish("comm", "0.9")
    bench.publish("comm", "0.0.1")
    bench.publish("newer", requires=["comm>=0.9"])
    bench.publish("older", requires=["comm<0.1"])
    built = bench.overlay(base, "newer")
    assert built.content["replaced"] == {"comm": ["0.2", "0.9"]}
    refused = bench.overlay(base, "older", notebook="other.ipynb")
    assert "on comm>=0.1" in refused.failure["why"]
    assert refused.failure["what"].startswith("the extras older do not fit on")


def test_ipykernel_itself_is_never_replaced_under_a_notebook(bench: Bench) -> None:
    """The notebook's kernel is made of it, and is in memory before any overlay is ready."""
    base = bench.base()
    bench.publish("ipykernel", "99.0")
    bench.publish("wants-ipykernel", requires=["ipykernel>=99"])
    built = bench.overlay(base, "wants-ipykernel")
    assert "ipykernel>=99" in built.failure["why"]


def test_in_an_environment_for_a_project_even_ipykernel_is_replaced(bench: Bench, tmp_path: Path) -> None:
    """No kernel of ours runs there; torch stays."""
    base = bench.base().manifest.id
    bench.publish("ipykernel", "99.0")
    bench.command("venv", str(tmp_path / "env"), "--base", base, "ipykernel>=99")
    content = json.loads((tmp_path / "env/overlay.json").read_text())
    assert content["replaced"] == {"ipykernel": ["6.30", "99.0"]}
    refused = bench.command("venv", str(tmp_path / "other"), "--base", base, "torch>=99", check=False)
    assert "torch>=99 is required" in refused.stderr


def test_what_other_base_packages_need_is_kept(bench: Bench) -> None:
    """torch needs torch-plain-dependency>=1; the extra that knows it only below gets none at all."""
    base = bench.base()
    bench.publish("torch-plain-dependency", "0.5")
    bench.publish("torch-plain-dependency", "2.0")
    bench.publish("forward", requires=["torch-plain-dependency>=2"])
    bench.publish("forward", "0.9", requires=["torch-plain-dependency<1"])
    built = bench.overlay(base, "forward")
    assert built.content["replaced"] == {"torch-plain-dependency": ["1.0", "2.0"]}
    older = bench.overlay(base, "forward<1", notebook="other.ipynb")
    assert "torch-plain-dependency" in older.told


@pytest.mark.parametrize("requires", [["torch==2.6.0"], ["torch"]])
def test_what_is_built_against_torch_is_fixed_with_it(shop: Workshop, requires: list[str]) -> None:
    """Compiled and in need of torch, or in need of that torch alone; what only imports torch is not."""
    shop.stock("cpu")
    tag = "py3-none-linux_x86_64" if requires == ["torch"] else "py3-none-any"
    folder = shop.home / "more"
    shop.index.publish(
        build_wheel(folder, "ops", requires=requires, tag=tag), build_wheel(folder, "lib", requires=["torch"])
    )
    base = shop.create("cpu", packages=["ops", "lib"]).base.manifest
    assert base.fixed == {"torch", "ops"}


def test_a_base_of_an_earlier_version_fixes_no_more_than_one_of_today(bench: Bench) -> None:
    """Its record names what ipykernel needs among what is fixed."""
    record = bench.base("cu126").manifest.as_dict()
    today = set(record["fixed"])
    record["fixed"] += ["ipykernel", "traitlets", "tornado", "python-dateutil", "comm"]
    assert BaseManifest.from_dict(record, where="base.json").fixed == today


def _publish_cloud(bench: Bench) -> None:
    """A package whose newest versions need an older numpy than the base's, and whose old ones need none."""
    bench.publish("numpy", "1.26")
    for minor in range(MANY):
        bench.publish("cloud", f"0.{minor}")
        bench.publish("cloud", f"2.{minor}", requires=["numpy<2"])
    bench.publish("cloud", "3.0", requires=["numpy<2"])
