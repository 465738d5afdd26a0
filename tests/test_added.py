"""What is to be installed where ``%overlay add`` has added to what a notebook declares."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel_provisioner.overlay.added import added_names, forget, merged, remember, undeclared
from tests.support.bases import Bench

OLD = 'python_version < "3.12"'
NEW = 'python_version >= "3.12"'


@pytest.mark.parametrize(
    ("declared", "added", "installed"),
    [
        (["einops", "ray"], ["tqdm"], ["einops", "ray", "tqdm"]),
        (["numpy", "einops"], ["numpy<2"], ["einops", "numpy<2"]),
        (["ray[tune]"], ["ray[serve]"], ["ray[serve,tune]"]),
        (["ray[tune]<2"], ["ray>=2"], ["ray[tune]>=2"]),
        (["ray[tune]"], ["Ray[Tune]==2"], ["Ray[Tune]==2"]),
        (["ray[tune]", "ray[default]"], ["ray[serve]"], ["ray[default,serve,tune]"]),
        ([f"ray[tune]<2; {OLD}", f"ray[a]; {NEW}"], ["ray>=3"],
         [f"ray[tune]; {OLD}", f"ray[a]; {NEW}", "ray>=3"]),
        ([f"ray<2; {OLD}", f"ray; {NEW}"], ["ray[air]"], ["ray[air]"]),
        ([f"ray[air]; {OLD}"], ["ray[air]"], ["ray[air]"]),
        (["ray[tune]<2"], [f"ray[air]; {NEW}"], ["ray[tune]<2", f"ray[air]; {NEW}"]),
        ([f"ray[tune]<2; {NEW}"], [f"ray[air]; {NEW}"], [f"ray[air,tune]; {NEW}"]),
        (["ray[tune]"], ["ray @ https://host/ray.whl"], ["ray[tune] @ https://host/ray.whl"]),
        (["ray[tune]"], ["ray["], ["ray["]),
    ],
)  # fmt: skip
def test_an_addition_takes_the_place_of_a_version_and_of_nothing_else(
    declared: list[str], added: list[str], installed: list[str]
) -> None:
    """The extras of a package stay, with the environments that they are declared for."""
    assert merged(declared, added) == tuple(installed)


@pytest.mark.parametrize(
    "additions",
    [
        ["ray[serve]", "ray[air]"],
        ["ray[serve]", "tqdm", "ray>=2"],
        ["tqdm<5", "ray[serve]", "tqdm"],
        [f"ray[serve]>1; {NEW}", "ray[air]"],
        ["ray[air]", f"ray[serve]; {OLD}", "ray"],
    ],
)
def test_a_launch_asks_for_what_additions_one_by_one_have_come_to(
    tmp_path: Path, additions: list[str]
) -> None:
    """Or it would build a new overlay, in which something is missing."""
    declared = ("ray[tune]<2", "einops")
    at_the_time: tuple[str, ...] = declared
    for new in additions:
        at_the_time = merged(at_the_time, [new])
        remember(tmp_path, declared, [new])
    assert merged(declared, undeclared(tmp_path, declared)) == at_the_time
    assert undeclared(tmp_path, ("ray", "einops")) == tuple(
        text for text in undeclared(tmp_path, declared) if not text.startswith("ray")
    )
    assert forget(tmp_path, ["ray"]) == ["ray"]
    assert "ray" not in added_names(tmp_path)


def test_what_an_extra_of_a_package_brings_is_there_after_the_next_build(bench: Bench) -> None:
    """Declared is one, added another: the overlay of the next launch has both."""
    bench.publish("ray", extras={"tune": ["tune-needs"], "serve": ["serve-needs"]})
    for name in ("tune-needs", "serve-needs"):
        bench.publish(name)
    built = bench.overlay(bench.base(), "ray[tune]")
    bench.enter(built)
    assert bench.build(built.generation, "--add", "ray[serve]").done.returncode == 0
    whole = merged(["ray[tune]"], undeclared(built.path.parent, ["ray[tune]"]))
    again = bench.overlay(bench.base(), *whole)
    assert again.installed.keys() == {"ray", "tune-needs", "serve-needs"}
