from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from kernel_provisioner.errors import NoBaseFits
from kernel_provisioner.hardware import Gpu, Hardware
from kernel_provisioner.model.accelerators import FAMILIES, TAGS, family_of, minimum_driver
from kernel_provisioner.model.manifest import BaseManifest
from kernel_provisioner.model.request import Request
from kernel_provisioner.selection import Selection, creatable, rank, select

JUNK = st.text(max_size=8)
TAG = st.sampled_from(
    ["cpu", "cu118", "cu124", "cu126", "cu128", "cu130", "cu132", "rocm6.4", "rocm7.2", "xpu"]
)
TORCH = st.sampled_from(["2.6.0", "2.8.0", "2.10.0+local", "2.13.0", "2.15.0", "2.16.0.dev20261120"])
SPECIFIER = st.sampled_from(["", ">=2.6", ">=2.10", "<2.9", "==2.13.*", "!=2.13.0", ">=2.14", ">=99"])
PYTHON = st.sampled_from(["3.10.14", "3.11.9", "3.13.1"])

GPUS = st.builds(
    Gpu,
    name=st.just("NVIDIA Test") | JUNK,
    compute_capability=st.none() | st.tuples(st.integers(3, 13), st.integers(0, 9)),
)
MACHINES = st.builds(
    Hardware,
    platform=st.sampled_from(["linux", "linux", "linux", "darwin", "win32"]),
    machine=st.sampled_from(["x86_64", "aarch64", "arm64"]),
    driver=st.sampled_from(["", "450.80.02", "470.82.01", "527.41", "550.54.15", "580.65.06", "nonsense"]),
    gpus=st.lists(GPUS, max_size=3).map(tuple),
    amd=st.lists(st.sampled_from(["gfx906", "gfx942", "gfx1036", "gfx1151"]), max_size=2).map(tuple),
    xpu=st.booleans(),
    mps=st.booleans(),
    wsl=st.booleans(),
    notes=st.lists(JUNK, max_size=2).map(tuple),
)
REQUESTS = st.builds(
    Request,
    accelerator=st.sampled_from(["auto", "auto", "cuda", "cuda", "cpu", "cu126", "rocm", "rocm7.2", "xpu"]),
    torch=SPECIFIER,
    requires_python=st.sampled_from(["", ">=3.11", "<3.13", ">=4"]),
)
PINS = st.sampled_from(["", "", "", "cpu", "cu126", "cu130", "rocm7.2", "xpu"])
PREFERENCES = st.sampled_from(["", "cpu", "cu126", "cuda", "rocm", "nonsense"])


def manifest(number: int, tag: str, torch: str, python: str, architectures: tuple[str, ...]) -> BaseManifest:
    """A base as far as choosing looks at it."""
    return BaseManifest(
        id=f"{tag}-{torch}-{number}",
        tag=tag,
        torch=torch,
        python=python,
        prefix=f"/{number}",
        interpreter="",
        site_dirs=(),
        distributions={"ipykernel": "7.0"},
        fixed=frozenset(),
        modules={},
        architectures=architectures,
    )


BUILT_FOR = st.just(()) | st.lists(
    st.sampled_from(["sm_50", "sm_70", "sm_80", "sm_90a", "compute_90", "sm_120", "gfx942", "?"]), max_size=4
).map(tuple)
BASES = st.lists(st.tuples(TAG, TORCH, PYTHON, BUILT_FOR), max_size=6).map(
    lambda rows: [manifest(number, *row) for number, row in enumerate(rows)]
)
ANYTHING = st.lists(st.tuples(JUNK, JUNK, JUNK, st.lists(JUNK, max_size=2).map(tuple)), max_size=3).map(
    lambda rows: [manifest(number, *row) for number, row in enumerate(rows)]
)
ALIASES = st.dictionaries(TAG, st.sampled_from([f"cu126-2.13.0-{number}" for number in range(6)]), max_size=3)


@dataclasses.dataclass(frozen=True)
class Case:
    """One launch: everything that choosing may look at."""

    request: Request
    machine: Hardware
    bases: Sequence[BaseManifest]
    pinned: str
    aliases: dict[str, str]
    preference: str

    def outcome(self) -> Selection | str:
        """The selection, or the whole text of the refusal."""
        try:
            return select(
                self.request,
                self.machine,
                self.bases,
                pinned=self.pinned,
                aliases=self.aliases,
                preference=self.preference,
            )
        except NoBaseFits as error:
            return str(error)


CASES = st.builds(Case, REQUESTS, MACHINES, BASES, PINS, ALIASES, PREFERENCES)
WILD_REQUESTS = st.builds(Request, accelerator=JUNK, torch=JUNK, requires_python=JUNK)
WILD_CASES = st.builds(Case, WILD_REQUESTS, MACHINES, ANYTHING, JUNK, st.dictionaries(JUNK, JUNK), JUNK)


@given(CASES | WILD_CASES)
def test_there_is_always_a_base_or_a_refusal_with_a_fix(case: Case) -> None:
    """Whatever manifests, metadata and drivers say, nobody is left with a traceback."""
    outcome = case.outcome()
    if isinstance(outcome, Selection):
        assert outcome.base in case.bases
        assert outcome.reason.startswith(f"torch-{outcome.base.tag}: ")
        assert "\n" not in outcome.reason
    else:
        assert "  fix: " in outcome


@given(CASES, st.randoms(use_true_random=False))
def test_the_order_of_bases_does_not_matter(case: Case, shuffler: random.Random) -> None:
    """Directories are listed in any order; the same base, the same words."""
    shuffled = list(case.bases)
    shuffler.shuffle(shuffled)
    assert dataclasses.replace(case, bases=shuffled).outcome() == case.outcome()


@given(CASES)
def test_the_chosen_base_satisfies_the_notebook(case: Case) -> None:
    """torch and Python are demands, whatever was picked or preferred."""
    outcome = case.outcome()
    if isinstance(outcome, Selection):
        assert SpecifierSet(case.request.torch).contains(Version(outcome.base.torch), prereleases=True)
        assert SpecifierSet(case.request.requires_python).contains(outcome.base.python)


@given(CASES)
def test_cuda_is_never_cpu(case: Case) -> None:
    """Nor any other family what it is not."""
    outcome = case.outcome()
    wish = case.pinned or case.request.accelerator
    if isinstance(outcome, Selection) and wish != "auto":
        assert outcome.base.tag == wish or family_of(outcome.base.tag) == wish


@given(CASES)
def test_a_gpu_build_that_was_not_picked_has_a_gpu_to_run_on(case: Case) -> None:
    """And a driver that is new enough, where its version is known."""
    outcome = case.outcome()
    if isinstance(outcome, Selection) and not case.pinned:
        tag, machine = outcome.base.tag, case.machine
        present = {"cpu": True, "cuda": machine.gpus, "rocm": machine.amd, "xpu": machine.xpu}
        assert present[family_of(tag) or ""]
        least = minimum_driver(tag, windows=machine.wsl)
        if least and machine.driver[:1].isdigit():
            assert tuple(map(int, machine.driver.split("."))) >= least


@given(CASES)
def test_the_ranking_holds_each_base_that_fits_once(case: Case) -> None:
    """Its first is the selection, and each of the others would be chosen if it were alone."""
    options = {"pinned": case.pinned, "aliases": case.aliases, "preference": case.preference}
    ranked = rank(case.request, case.machine, case.bases, **options)  # type: ignore[arg-type]
    ids = [selection.base.id for selection in ranked]
    assert len(ids) == len(set(ids))
    for base in case.bases:
        alone = dataclasses.replace(case, bases=[base]).outcome()
        assert isinstance(alone, Selection) == (base.id in ids)
    if ranked:
        assert case.outcome() == ranked[0]


@given(CASES)
def test_a_refusal_gives_a_reason_for_every_base(case: Case) -> None:
    """None is passed over in silence."""
    outcome = case.outcome()
    if isinstance(outcome, str):
        told = [line.strip().removeprefix("why: ") for line in outcome.splitlines()]
        for base in case.bases:
            assert any(line.startswith(f"{base.id}: ") and len(line) > len(base.id) + 2 for line in told)


@given(CASES)
def test_what_is_advised_would_be_chosen(case: Case) -> None:
    """A base of the advised tag fits the same notebook on the same machine."""
    wish = case.pinned or case.request.accelerator
    tag = creatable(wish, case.request, case.machine, pinned=bool(case.pinned))
    if not tag:
        return
    assert tag in TAGS
    made = manifest(99, tag, "0", "3.12.1", ())
    asked = dataclasses.replace(case.request, torch="", requires_python="")
    assert isinstance(dataclasses.replace(case, request=asked, bases=[made]).outcome(), Selection)


@given(CASES)
def test_a_preference_is_followed_or_explained(case: Case) -> None:
    """For auto, a base of what the machine prefers is taken, or a notice says that none fits."""
    auto = dataclasses.replace(case, pinned="", request=dataclasses.replace(case.request, accelerator="auto"))
    outcome = auto.outcome()
    if isinstance(outcome, Selection) and (case.preference in FAMILIES or family_of(case.preference)):
        followed = case.preference in (outcome.base.tag, family_of(outcome.base.tag))
        assert followed != any("which this machine prefers" in notice for notice in outcome.notices)
