"""Where ``base create`` takes packages from: PyTorch's index, pip's, or a directory, and in which version."""

from __future__ import annotations

import os

import pytest
from packaging.version import Version

from kernel_provisioner.base.create import find_interpreter
from kernel_provisioner.base.installers import BaseSpec, PipInstaller, fitting_order
from kernel_provisioner.errors import InstallFailed, InvalidRequest, OverlayError, ResolutionFailed
from tests.support.bases import REPOSITORY, Workshop, assert_no_base
from tests.support.torch_wheels import NVIDIA, build_torch, build_torchvision
from tests.support.wheels import module


@pytest.mark.parametrize(("asked", "got"), [("2.6.0", "2.6.0"), (">=2.5,<2.7", "2.6.0"), ("", "2.7.0")])
def test_torch_is_chosen_by_version_or_specifier(shop: Workshop, asked: str, got: str) -> None:
    """A bare version means exactly that one, nothing the newest."""
    shop.stock("cpu", torch="2.6.0")
    shop.stock("cpu", torch="2.7.0")
    assert shop.create("cpu", torch=asked).base.manifest.torch == f"{got}+cpu"


@pytest.mark.parametrize(
    ("asked", "order"),
    [
        ("", ["2.6.0+cu124", "2.4.0+cu124", "2.7.0", "2.6.0", "2.4.0"]),
        ("2.6.0", ["2.6.0+cu124", "2.6.0"]),
        ("<2.6", ["2.4.0+cu124", "2.4.0"]),
        ("2.7.0", ["2.7.0"]),
        ("==2.6.0+cu124", ["2.6.0+cu124"]),
        ("2.8.0rc1", ["2.8.0rc1"]),
        ("9", []),
    ],
)
def test_of_what_pip_knows_the_labelled_build_is_looked_at_first(asked: str, order: list[str]) -> None:
    """Then the unlabelled ones, newest first; a build labelled for another tag never, previews when asked."""
    versions = [
        "2.4.0",
        "2.4.0+cu124",
        "2.6.0",
        "2.6.0+cu124",
        "2.6.0+cu126",
        "2.7.0",
        "2.7.0+cpu",
        "2.8.0rc1",
    ]
    found = fitting_order(map(Version, versions), BaseSpec("cu124", asked))
    assert list(map(str, found)) == order


def test_what_is_not_written_as_a_requirement_is_refused_before_anything_is_asked(shop: Workshop) -> None:
    """The message quotes the words and shows how to write them; no index hears of it."""
    for words in ({"torch": "newest"}, {"packages": ["torchvision>="]}):
        with pytest.raises(InvalidRequest, match=r"is no requirement"):
            shop.create("cpu", **words)
    with pytest.raises(InvalidRequest, match="there is no accelerator tag 'cu999'"):
        shop.create("cu999")
    assert shop.index.asked == []


def test_further_packages_come_from_the_index_that_is_theirs(shop: Workshop) -> None:
    """``--with`` takes PyTorch's packages, also transitive ones, from the tag's index."""
    shop.stock("cu124")
    shop.tempt("cu124")
    shop.publish("timm", requires=["torchvision", "numpy"])
    held = shop.create("cu124", packages=["timm"]).base.manifest.distributions
    assert (held["timm"], held["torchvision"], held["numpy"]) == ("1.0", "0.21.0+cu124", "2.1")


@pytest.mark.system
@pytest.mark.parametrize(("installer", "tag"), [("uv", "cpu"), ("uv", "cu124"), ("pip", "cpu")])
def test_of_a_directory_that_holds_several_builds_the_tags_own_is_taken(
    shop: Workshop, installer: str, tag: str
) -> None:
    """To a resolver ``+cu126`` is newer than ``+cpu``; it is not what was asked for."""
    shop.stock()
    links = shop.home / "links"
    for each in ("cpu", "cu124", "cu126"):
        build_torch(links, each)
    created = shop.create(tag, installer=installer, find_links=[str(links)])
    held = created.base.manifest.distributions
    assert held["torch"] == f"2.6.0+{tag}"
    assert any(name.startswith("nvidia-") for name in held) == (tag != "cpu")
    assert created.base.manifest.installer == installer


@pytest.mark.system
@pytest.mark.slow
def test_what_does_not_import_beside_torch_is_no_part_of_a_base(shop: Workshop) -> None:
    """A torchvision for another torch, as PyPI has it, passes for one that fits until it is imported."""
    shop.stock()
    build_torch(shop.wheels / "links", "cpu")
    broken = "raise RuntimeError('operator torchvision::nms does not exist')\n"
    shop.publish(
        "torchvision", "0.21.0", files=module("torchvision", "0.21.0", broken), requires=["torch==2.6.0"]
    )
    links = [str(shop.wheels / "links")]
    with pytest.raises(
        InstallFailed, match=r"torchvision 0\.21\.0 cannot be imported beside torch 2\.6"
    ) as caught:
        shop.create("cpu", installer="pip", find_links=links, packages=["torchvision"])
    assert "import torchvision: RuntimeError: operator torchvision::nms does not exist" in caught.value.why
    assert "--find-links" in caught.value.fix
    assert_no_base(shop)
    build_torchvision(shop.wheels / "links", "cpu")
    base = shop.create("cpu", installer="pip", find_links=links, packages=["torchvision"]).base
    assert base.manifest.distributions["torchvision"] == "0.21.0+cpu"


def test_packages_are_no_tries_for_a_build_that_fits(shop: Workshop) -> None:
    """However many are asked for, builds for other tags are passed over."""
    shop.stock()
    links = shop.home / "links"
    for tag in ("cpu", "cu124", "cu126"):
        build_torch(links, tag)
    names = [f"beside-{number}" for number in range(12)]
    for name in names:
        shop.publish(name)
    held = shop.create("cpu", find_links=[str(links)], packages=names).base.manifest.distributions
    assert held["torch"] == "2.6.0+cpu"
    assert {*names} <= {*held}


def test_where_builds_for_others_come_first_the_message_names_them(shop: Workshop) -> None:
    """After twelve of them the search ends; none of them is installed."""
    shop.stock("cpu")
    links = shop.home / "links"
    for number in range(1, 14):
        build_torch(links, "cu126", f"2.6.{number}")
    with pytest.raises(ResolutionFailed, match="no cpu build of torch is available") as caught:
        shop.create("cpu", find_links=[str(links)])
    assert "builds for others come first: 2.6.13+cu126, 2.6.12+cu126" in caught.value.why
    assert_no_base(shop)


def test_find_links_may_be_a_page(shop: Workshop) -> None:
    """Or a directory, as it is typed, relative to where the user stands."""
    shop.stock("cpu")
    page = f"{shop.index.address}/whl/cpu/torch/"
    shop.env["TORCH_OVERLAY_INDEX"] = f"{shop.index.address}/empty/{{tag}}"
    done = shop.command("base", "create", "cpu", "--installer", "uv", "--find-links", page)
    assert "Ready: cpu-torch2.6.0" in done.stdout
    folder = os.path.relpath(shop.wheels / "cpu", REPOSITORY)  # where the command is run
    again = shop.command("base", "create", "cpu", "--installer", "uv", "--find-links", folder)
    assert "Already there: cpu-torch2.6.0" in again.stdout


@pytest.mark.system
@pytest.mark.slow
def test_where_pytorchs_index_is_down_pip_is_asked_and_both_are_told(shop: Workshop) -> None:
    """``auto`` names the failure of the one and the source of the other."""
    shop.stock("cpu")
    shop.env["PIP_FIND_LINKS"] = str(shop.wheels / "cpu")
    shop.index.misbehave("/whl/", 503)
    told: list[str] = []
    created = shop.create("cpu", installer="auto", told=told)
    assert created.base.manifest.installer == "pip"
    assert created.source.startswith(f"pip: {shop.wheels / 'cpu'}; ")
    assert "answered 503" in created.source, "why it was not PyTorch's index"
    assert any(line.startswith("uv: ") and "503" in line for line in told), told
    assert any("with pip" in line for line in told)


@pytest.mark.system
@pytest.mark.slow
def test_pip_judges_an_unlabelled_build_by_what_it_requires(shop: Workshop) -> None:
    """The default index has torch as PyPI has it, without labels: newest for CUDA, an older one for cpu."""
    shop.stock()
    cpu = build_torch(shop.wheels / "plain", "cpu", "2.5.0", local_label=False)
    cuda = build_torch(shop.wheels / "plain", "cu126", "2.6.0", local_label=False)
    shop.index.publish(cpu.torch, cuda.torch, *cuda.ecosystem, *cuda.ordinary)
    pip = PipInstaller(find_interpreter("", shop.uv), shop.home, shop.env)
    plan = pip.plan(BaseSpec("cpu"))
    assert (plan.pins["torch"], plan.source) == ("2.5.0", f"pip: {shop.index.default}")
    assert not any(name.startswith("nvidia-") for name in plan.pins)
    assert pip.plan(BaseSpec("cu126")).pins.keys() >= {"torch", "triton", *NVIDIA["cu126"]}
    with pytest.raises(ResolutionFailed, match="cu118") as caught:
        pip.plan(BaseSpec("cu118"))
    assert "never taken" in caught.value.why


@pytest.mark.system
@pytest.mark.slow
def test_a_python_without_pip_gets_one_for_the_occasion(shop: Workshop) -> None:
    """As Debian's without python3-pip, or one that somebody keeps bare; the Python itself stays as it is."""
    bare = shop.environment("bare")
    shop.stock("cpu")
    pip = PipInstaller(
        bare / "bin/python", shop.home, {**shop.env, "PIP_FIND_LINKS": str(shop.wheels / "cpu")}
    )
    assert pip.plan(BaseSpec("cpu")).pins["torch"] == "2.6.0+cpu"
    assert not list(bare.glob("lib/python*/site-packages/pip"))


def test_a_users_index_strategy_never_brings_torch_from_elsewhere(shop: Workshop) -> None:
    """With ``unsafe-best-match`` uv prefers the newest of all indexes; the base is refused, not wrong."""
    shop.stock("cpu")
    shop.tempt("cpu")
    shop.env["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    with pytest.raises(OverlayError) as caught:
        shop.create("cpu")
    assert "torch" in caught.value.what
    assert_no_base(shop)


def test_a_users_further_index_counts_for_what_is_not_pytorchs(shop: Workshop) -> None:
    """UV_INDEX is still heard, although ours is put before it."""
    shop.stock("cpu")
    shop.publish("private", tag="corp")
    shop.env["UV_INDEX"] = shop.index.template.format(tag="corp")
    assert "private" in shop.create("cpu", packages=["private"]).base.manifest.distributions


def test_behind_a_proxy_our_own_index_is_still_reached(shop: Workshop) -> None:
    """uv must not ask the proxy for the loopback address, whatever else goes through it."""
    shop.stock("cpu")
    by_name = {
        variable: shop.env[variable].replace("127.0.0.1", "localhost")
        for variable in ("TORCH_OVERLAY_INDEX", "UV_DEFAULT_INDEX")
    }
    dead = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "NO_PROXY": "localhost"}
    done = shop.command("base", "create", "cpu", "--installer", "uv", check=False, **by_name, **dead)
    assert done.returncode == 0, done.stderr


def test_a_version_that_does_not_exist_is_told_with_what_there_is(shop: Workshop) -> None:
    """The resolver's own reason, with the real index in place of ours; nothing stays behind."""
    shop.stock("cpu")
    with pytest.raises(ResolutionFailed, match=r"torch==9\.9 for cpu") as caught:
        shop.create("cpu", torch="9.9")
    assert "torch==9.9" in caught.value.why
    with pytest.raises(ResolutionFailed) as pip:
        shop.create("cpu", torch="9.9", installer="pip", find_links=[str(shop.wheels / "cpu")])
    assert "2.6.0+cpu" in pip.value.why
    assert_no_base(shop)


def test_a_tag_that_the_index_does_not_have_is_told_plainly(shop: Workshop) -> None:
    """A mirror without that tree: its address and torch are named."""
    shop.stock("cpu")
    with pytest.raises(InstallFailed) as caught:
        shop.create("cu126")
    assert f"{shop.index.address}/whl/cu126/ has no torch" in caught.value.why


def test_where_neither_has_torch_both_reasons_are_told(shop: Workshop) -> None:
    """``auto`` ends with what uv met and what pip met."""
    shop.stock("cpu")
    shop.index.misbehave("/whl/", 500)
    with pytest.raises(OverlayError) as caught:
        shop.create("cpu", installer="auto")
    assert "uv: " in caught.value.why
    assert "500" in caught.value.why
    assert "pip: pip finds no torch" in caught.value.why
    assert_no_base(shop)


def test_an_index_that_never_answers_is_given_up_and_named(shop: Workshop) -> None:
    """The real address stands in the message, not our own."""
    shop.stock("cpu")
    shop.env["UV_HTTP_TIMEOUT"] = "1"
    shop.index.misbehave("/whl/", "hang")
    with pytest.raises(InstallFailed) as caught:
        shop.create("cpu")
    assert f"{shop.index.address}/whl/cpu/torch/" in caught.value.why
