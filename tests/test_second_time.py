"""The second notebook and the third fare as the first: what is remembered makes no outcome worse.

One notebook asks for something on an empty store. Then something happens, and two more ask for the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.errors import without_credentials
from kernel_provisioner.inkernel.shared.environment import INDEX_VARIABLE
from kernel_provisioner.model.lock import Lock, LockedPackage
from tests.support import stored
from tests.support.bases import Workshop
from tests.support.index import LocalIndex, serve_index
from tests.support.wheels import build_sdist, build_wheel

TORCH, NEWER = "2.6.0", "2.7.0"


class Kind(NamedTuple):
    """A kind of request, what it comes to, one of its files, and rules that forbid it.

    ``waits``: for a cell's consent. ``locked``: the notebook carries a lock.
    """

    extras: tuple[str, ...]
    comes_to: dict[str, str]
    file: str
    forbidden_by: dict[str, Any]
    waits: bool = False
    locked: bool = False


_PLAIN = {"plain": "1.0", "plain-part": "1.0"}
_PART = "/simple/plain_part-1.0-py3-none-any.whl"
_SOURCE = "/simple/sourced-1.0.tar.gz"
_NUMPY = "/simple/numpy-1.25-py3-none-any.whl"
_VISION = "/whl/cpu/torchvision-0.21.0+cpu-py3-none-any.whl"
KINDS = {
    "wheels": Kind(("plain",), _PLAIN, _PART, {"denied": ["plain-part"]}),
    "source-only": Kind(("sourced",), {"sourced": "1.0"}, _SOURCE, {"source_builds": "never"}, waits=True),
    "exact-lock": Kind(("plain",), _PLAIN, _PART, {"denied": ["plain"]}, locked=True),
    "source-only-exact-lock": Kind(
        ("sourced",), {"sourced": "1.0"}, _SOURCE, {"denied": ["s*"]}, waits=True, locked=True
    ),
    "replaced": Kind(("numpy<2",), {"numpy": "1.25"}, _NUMPY, {"pins": "all"}),
    "pytorch": Kind(("torchvision",), {"torchvision": "0.21.0+cpu"}, _VISION, {"denied": ["torchvision"]}),
}


class Outcome(NamedTuple):
    """What a notebook's user sees: whether a cell had to run first, and what came of it."""

    waited: bool
    installed: dict[str, str]
    error: str = ""


@dataclasses.dataclass
class Machine:
    """A store, a cache and settings, and an index at ``index`` that may move to ``new``."""

    shop: Workshop
    new: LocalIndex
    bases: dict[str, RegisteredBase]
    locks: dict[str, Lock]
    index: LocalIndex
    user: str = "me:old"
    torch: str = TORCH
    rules: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def store(self) -> Path:
        """What notebooks and their builders know."""
        return self.shop.overlays.root

    @property
    def cache(self) -> Path:
        """uv's."""
        return Path(self.shop.env["UV_CACHE_DIR"])

    def ask(self, kind: Kind, notebook: str) -> Outcome:
        """Open a notebook that asks for this kind, and run its first cell."""
        address = f"http://{self.user}@127.0.0.1:{self.index.port}"
        self.shop.env["UV_DEFAULT_INDEX"] = f"{address}/simple"
        lock = self.locks[kind.extras[0]] if kind.locked else None
        self.shop.env[INDEX_VARIABLE] = template = f"{address}/whl/{{tag}}"
        settings = {"index_template": without_credentials(template), **self.rules}
        base = self.bases[self.torch]
        generation = self.shop.begin(base, *kind.extras, notebook=f"{notebook}.ipynb", lock=lock, **settings)
        built = self.shop.build(generation)
        waited = not built.ready and not built.failure
        if waited:
            built = self.shop.build(generation, "--cell-ran")
        if built.ready:
            stored.wait_until_compiled(built)  # what goes on in the store would be copied half, or outlive it
            return Outcome(waited, built.installed)
        return Outcome(waited, {}, f"{built.failure['error']}: {built.failure['what']}")

    def save(self, place: Path) -> None:
        """Keep a copy of store and cache."""
        shutil.copytree(self.store, place / "store", symlinks=True)
        shutil.copytree(self.cache, place / "cache", symlinks=True)

    def restore(self, place: Path) -> None:
        """Bring back store and cache."""
        for target in (self.store, self.cache):
            shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(place / "store", self.store, symlinks=True)
        shutil.copytree(place / "cache", self.cache, symlinks=True)


def cache_cleaned(machine: Machine) -> None:
    """``uv cache clean``."""
    shutil.rmtree(machine.cache)


def index_moved(machine: Machine) -> None:
    """The settings name another address; at the old one there is nothing any more."""
    machine.index.misbehave("/", 404)
    machine.index = machine.new


def files_moved(machine: Machine) -> None:
    """The index is where it was, its files are not, and the cache is empty."""
    machine.index.shelf = "/new"
    cache_cleaned(machine)


def index_down(machine: Machine) -> None:
    """It answers nothing but 503."""
    machine.index.misbehave("/", 503)


def credentials_expired(machine: Machine) -> None:
    """The index wants others, which nobody has told this machine."""
    machine.index.require("me", "new")


def credentials_renewed(machine: Machine) -> None:
    """The index wants others, this machine has them, and its cache is empty."""
    machine.index.require("me", "new")
    machine.user = "me:new"
    cache_cleaned(machine)


def offline(machine: Machine) -> None:
    """uv may use its cache alone."""
    machine.rules = {"offline": True}


NO_HARM: dict[str, Callable[[Machine], None]] = {
    "nothing": lambda _: None,
    "cache-cleaned": cache_cleaned,
    "index-moved": index_moved,
    "files-moved": files_moved,
    "index-down": index_down,
    "credentials-expired": credentials_expired,
    "credentials-renewed": credentials_renewed,
    "offline": offline,
}
"""What may happen in between without a notebook's noticing it."""


@pytest.fixture(scope="module")
def machine_of_this_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with two bases."""
    home = tmp_path_factory.mktemp("again")
    with serve_index() as index, serve_index() as new:
        shop = Workshop(home, index)
        bases = {}
        for torch, vision in ((TORCH, "0.21.0"), (NEWER, "0.22.0")):
            shop.stock("cpu", torch=torch, vision=vision)
            bases[torch] = shop.create("cpu", torch=f"=={torch}").base
        plain, part = shop.publish("plain", requires=["plain-part"]), shop.publish("plain-part")
        sourced = build_sdist(home / "sdists", "sourced", mark=home / "mark", static_metadata=True)
        index.publish(sourced, build_wheel(home / "old", "numpy", "1.25"))
        new.files = index.files
        yield Machine(shop, new, bases, {"plain": lock_of(plain, part), "sourced": lock_of(sourced)}, index)


@pytest.fixture
def machine(machine_of_this_module: Machine) -> Iterator[Machine]:
    """That machine for one test, with an empty store and an empty cache."""
    machine = dataclasses.replace(machine_of_this_module)
    indexes = machine.index, machine.new
    for index in indexes:
        index.require("me", "old")
    for target in (machine.store, machine.cache):
        shutil.rmtree(target, ignore_errors=True)
    yield machine
    for index in indexes:
        index.behave()
        index.credentials, index.shelf = None, ""


@pytest.fixture
def asked(kind: str, machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The machine once a notebook has asked for this kind of thing."""
    place = tmp_path_factory.getbasetemp() / f"asked-{kind}"
    if not place.exists():
        wanted = KINDS[kind]
        assert machine.ask(wanted, "first") == Outcome(wanted.waits, wanted.comes_to)
        machine.save(place)
    machine.restore(place)
    return machine


@pytest.mark.fault(33)
@pytest.mark.fault(34)
@pytest.mark.parametrize("event", NO_HARM)
@pytest.mark.parametrize("kind", KINDS)
def test_the_second_and_the_third_fare_as_the_first(kind: str, event: str, asked: Machine) -> None:
    """Whatever has become of the index and the cache in between."""
    wanted = KINDS[kind]
    NO_HARM[event](asked)
    outcomes = [asked.ask(wanted, notebook) for notebook in ("second", "third")]
    assert outcomes == [Outcome(wanted.waits, wanted.comes_to)] * 2


@pytest.mark.fault(34)
@pytest.mark.parametrize("change", ["policy", "base"])
@pytest.mark.parametrize("kind", KINDS)
def test_under_other_rules_and_on_another_base_all_fare_as_on_an_empty_store(
    kind: str, change: str, asked: Machine
) -> None:
    """Nothing that was known before counts then."""
    wanted = KINDS[kind]
    asked.rules = wanted.forbidden_by if change == "policy" else {}
    asked.torch = NEWER if change == "base" else TORCH
    outcomes = [asked.ask(wanted, notebook) for notebook in ("second", "third")]
    shutil.rmtree(asked.store)
    assert outcomes == [asked.ask(wanted, "alone")] * 2


@pytest.mark.fault(34)
@pytest.mark.parametrize("all_of_it", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_is_not_remembered(kind: str, all_of_it: bool, machine: Machine) -> None:
    """The index was down when the first notebook asked, or one file was not to be had."""
    wanted = KINDS[kind]
    machine.index.misbehave("/" if all_of_it else wanted.file, 503)
    failed = machine.ask(wanted, "first")
    assert "InstallFailed" in failed.error
    machine.index.behave()
    outcomes = [machine.ask(wanted, notebook) for notebook in ("second", "third")]
    assert outcomes == [Outcome(wanted.waits, wanted.comes_to)] * 2


def lock_of(*files: Path) -> Lock:
    """The lock of a notebook whose packages have one file each."""
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    packages = [
        LockedPackage(name.split("-")[0].replace("_", "-"), "1.0", ((name, digest),))
        for name, digest in digests.items()
    ]
    return Lock(packages=tuple(packages), torch=TORCH)
