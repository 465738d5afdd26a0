"""Bases of fake torch and overlays on them, made by the product's own functions from a local index."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kernel_provisioner.base.adopt import adopt_base
from kernel_provisioner.base.create import create_base
from kernel_provisioner.base.installers import BaseSpec
from kernel_provisioner.base.progress import Progress
from kernel_provisioner.base.publish import Created
from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.inkernel.shared.environment import INDEX_VARIABLE
from kernel_provisioner.model.lock import Lock
from kernel_provisioner.model.request import Request
from kernel_provisioner.overlay import store
from kernel_provisioner.overlay.guards import Terms
from kernel_provisioner.overlay.skeleton import write_skeleton
from kernel_provisioner.policy import Layer, Policy
from kernel_provisioner.policy.traits import TorchPolicy
from kernel_provisioner.settings import Settings
from kernel_provisioner.store.fill import remove
from kernel_provisioner.uv.client import Uv, find_uv
from kernel_provisioner.uv.discovery import uv_path

from .environ import clean_environment
from .index import LocalIndex
from .torch_wheels import build_torch, build_torchvision
from .waiting import patient
from .wheels import build_wheel

REPOSITORY = Path(__file__).parents[2]
BUILDS_WITHIN = patient(120.0)
"""Seconds for a build of tiny wheels, which takes one."""

ORDINARY = {"comm": "0.2", "ipykernel": "6.30", "numpy": "2.1", "pip": "1.0"}
"""What a base holds besides torch. Fakes: no kernel runs on these, but their names count."""


class Workshop:
    """A home directory and an index laid out like PyTorch's; ``env`` is what commands run with."""

    def __init__(self, home: Path, index: LocalIndex, **more: str) -> None:
        self.home, self.index = home, index
        self.wheels = home / "wheels"
        self.env = clean_environment(home, index=index, inherited=None, UV_HTTP_RETRIES="0", **more)
        self.data_dir = Path(self.env["JUPYTER_DATA_DIR"])
        self.overlays = store.Store(home / "overlays")
        self.notebook = "book.ipynb"

    @property
    def uv(self) -> Uv:
        """uv as the product finds it, in this workshop's environment."""
        return find_uv(self.env)

    def stock(self, *tags: str, torch: str = "2.6.0", vision: str = "0.21.0") -> None:
        """Offer torch and torchvision of each tag, and on the default index what else a base holds."""
        for tag in tags:
            folder = self.wheels / tag
            self.index.publish_torch(tag, build_torch(folder, tag, torch))
            self.index.publish(build_torchvision(folder, tag, vision, torch=torch), tag=tag)
        for name, version in ORDINARY.items():
            requires = ["comm>=0.1"] if name == "ipykernel" else []
            self.index.publish(build_wheel(self.wheels, name, version, requires=requires))

    def tempt(self, *tags: str) -> None:
        """Offer newer but wrong builds of torch and torchvision on the default index, and a stale
        copy of numpy, with a higher number, on the index of each tag.
        """  # fmt: skip
        wrong = build_torch(self.wheels / "wrong", "cu130", "9.9.0", local_label=False)
        self.index.publish(wrong.torch, *wrong.ecosystem, *wrong.ordinary)
        self.publish("torchvision", "9.9.0", requires=["torch==9.9.0"])
        for tag in tags:
            self.publish("numpy", "99.0", tag=tag)

    def publish(self, name: str, version: str = "1.0", *, tag: str = "", **wheel: Any) -> Path:
        """Build a wheel and offer it, on the default index or on that of ``tag``."""
        path = build_wheel(self.wheels / (tag or "default"), name, version, **wheel)
        self.index.publish(path, tag=tag)
        return path

    def create(self, tag: str, *, torch: str = "", installer: str = "uv", python: str = "",
               packages: Sequence[str] = (), find_links: Sequence[str] = (),
               told: list[str] | None = None) -> Created:  # fmt: skip
        """``jupyter overlay base create``, without the command's own process."""
        return create_base(
            BaseSpec(tag, torch, tuple(packages), tuple(find_links)),
            data_dir=self.data_dir, python=python, installer=installer, template=self.index.template,
            uv=self.uv, progress=_into(told), environ=self.env,
        )  # fmt: skip

    def environment(self, name: str, *packages: str, python: str = sys.executable) -> Path:
        """An environment as somebody made it by hand, with these packages from the index of cpu."""
        prefix = self.home / name
        tool = self.uv
        tool.run("venv", "--python", python, prefix).check("no environment")
        if packages:
            self.install(prefix, *packages)
        return prefix

    def install(self, prefix: Path, *packages: str, tag: str = "cpu") -> None:
        """``uv pip install`` as its owner would, torch from the index of ``tag``."""
        index = self.index.template.format(tag=tag)
        self.uv.run("pip", "install", "--python", prefix / "bin/python", "--index", index, *packages).check(
            "no"
        )

    def fetched(self, project: str, *, default: bool = False) -> list[str]:
        """The wheels of a project that the index was asked for; on the default index alone, or on all."""
        asked = [one.path for one in self.index.asked_for(project) if one.path.endswith(".whl")]
        return [path for path in asked if path.startswith("/simple/") or not default]

    def forget_wheels(self) -> None:
        """Empty uv's cache and the wheel store: all has to be fetched again."""
        self.uv.run("cache", "clean").check("no")
        remove(self.overlays.root / store.WHEELS)

    def adopt(self, path: Path, tag: str | None = None) -> Created:
        """``jupyter overlay base adopt``, without the command's own process."""
        return adopt_base(path, data_dir=self.data_dir, tag=tag, progress=_into(None))

    def begin(self, base: RegisteredBase, *extras: str, notebook: str = "", exclude_newer: str = "",
              lock: Lock | None = None, **settings: Any) -> store.Generation:  # fmt: skip
        """An overlay as a launch leaves it to the builder: its skeleton, and the order to build.

        ``settings`` may be rules of a policy, too.
        """
        request = Request(extras=extras, exclude_newer=exclude_newer, lock=lock)
        values = {"overlay_root": str(self.overlays.root), "index_template": self.index.template,
                  "preference": "", **settings}  # fmt: skip
        rules = {name: values.pop(name) for name in settings if name in TorchPolicy.class_trait_names()}
        chosen = Settings(**values, policy=Policy((Layer("a test's file", rules),) if rules else ()))
        self.overlays.prepare()
        generation = self.overlays.begin(self.overlays.notebook_dir(self.home / (notebook or self.notebook)))
        write_skeleton(generation.path, base, Terms(chosen.policy, chosen.index_template), uv=uv_path())
        spec = store.spec_of(request, base.manifest, chosen)
        generation.write(layout.SPEC, {
            "order": spec, "lock": lock.as_dict() if lock else None, "notebook": notebook,
            "base_directory": str(base.directory), "settings": chosen.as_dict(), "alternatives": [],
        })  # fmt: skip
        return generation

    def build(self, generation: store.Generation, *words: str, **env: str) -> Built:
        """Run the builder on it, in a process of its own as ever; ``env`` is added to its environment."""
        command = [sys.executable, "-m", "kernel_provisioner.builder", str(generation.path), *words]
        done = subprocess.run(command, env={**self.env, **env}, cwd=REPOSITORY, capture_output=True,
                              text=True, timeout=BUILDS_WITHIN, check=False)  # fmt: skip
        return Built(generation, done)

    def overlay(self, base: RegisteredBase, *extras: str, **spec: Any) -> Built:
        """An overlay with ``extras``, built as far as it comes without a cell."""
        index = {INDEX_VARIABLE: spec["index_template"]} if "index_template" in spec else {}
        return self.build(self.begin(base, *extras, **spec), **index)

    def known(self, built: Built) -> Path:
        """Where the packages are kept that an overlay was built from."""
        key = store.spec_key(built.generation.read(layout.SPEC)["order"])
        (path,) = (self.overlays.root / "locks").glob(f"pylock.{key}.*.toml")
        return path

    def enter(self, built: Built) -> None:
        """Do what the gate does once the user has run a cell: move the packages in."""
        code = (
            "import json, pathlib, sys; from kernel_provisioner.inkernel.gate import move_in; "
            "overlay = pathlib.Path(sys.argv[1]); "
            "move_in(overlay, json.loads((overlay / 'overlay.json').read_text()))"
        )
        command = [sys.executable, "-c", code, str(built.path)]
        subprocess.run(command, env=self.env, cwd=REPOSITORY, check=True)

    def pip(self, built: Built, *words: str) -> str:
        """``uv pip`` as its user calls it in a cell: what it says on both streams."""
        env = {**self.env, "VIRTUAL_ENV": str(built.path)}
        command = [str(built.path / "bin/uv"), "pip", *words, "--color", "never"]
        done = subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def command(self, *words: str, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
        """``jupyter overlay`` with these words, in its own process."""
        command = [sys.executable, "-m", "kernel_provisioner.cli.app", *words]
        return subprocess.run(command, env={**self.env, **more}, cwd=REPOSITORY, capture_output=True,
                              text=True, timeout=BUILDS_WITHIN, check=check)  # fmt: skip


def _into(told: list[str] | None) -> Progress:
    def hear(message: str, done: float = 0, total: int = 0, /) -> None:
        if told is not None:
            told.append(message)

    return hear


class Bench(Workshop):
    """A workshop for a whole module: every tag in stock, wrong builds as a temptation, bases on demand."""

    tags = ("cpu", "cu118", "cu121", "cu124", "cu126", "rocm6.2", "xpu")

    def __init__(self, home: Path, index: LocalIndex) -> None:
        super().__init__(home, index)
        self.stock(*self.tags)
        self.tempt(*self.tags)
        self._bases: dict[str, RegisteredBase] = {}

    def base(self, tag: str = "cpu") -> RegisteredBase:
        """The base of ``tag``, made when it is first asked for."""
        if tag not in self._bases:
            self._bases[tag] = self.create(tag).base
        return self._bases[tag]

    @contextlib.contextmanager
    def visit(self, notebook: str) -> Iterator[Bench]:
        """This bench for one test: what the test changes of environment and index is put back."""
        env, overlays, self.notebook = dict(self.env), self.overlays, notebook
        self.index.asked.clear()
        try:
            yield self
        finally:
            self.env, self.overlays = env, overlays
            self.index.behave()
            self.index.credentials = None


def assert_no_base(shop: Workshop) -> None:
    """No base, no alias, no kernel; only lock files, which are never removed while somebody may wait."""
    left = [path.name for path in (shop.data_dir / "torch-bases").glob("*") if path.suffix != ".lock"]
    assert left == [], left
    assert not (shop.data_dir / "kernels").exists()


class Built:
    """What a builder left behind."""

    def __init__(self, generation: store.Generation, done: subprocess.CompletedProcess[str]) -> None:
        self.generation, self.done = generation, done
        self.path = generation.path

    @property
    def ready(self) -> bool:
        """Whether the overlay was published."""
        return self.generation.state() is store.State.READY

    @property
    def content(self) -> dict[str, Any]:
        """What ``overlay.json`` says; fails with the builder's reason where there is none."""
        assert self.ready, f"{self.failure}\n{self.done.stdout}{self.done.stderr}"
        return self.generation.read(layout.OVERLAY)

    @property
    def installed(self) -> dict[str, str]:
        """Name → version of what was added."""
        return {entry["name"]: entry["version"] for entry in self.content["installed"]}

    @property
    def failure(self) -> dict[str, str]:
        """``what``, ``why`` and ``fix`` of a failed build; empty where none was told."""
        if not (self.path / layout.FAILED).exists():
            return {}
        return dict(self.generation.read(layout.FAILED)["failure"])

    @property
    def told(self) -> str:
        """All that a waiting cell would be shown of a failure."""
        return "\n".join(self.failure.get(key, "") for key in ("what", "why", "fix"))

    @property
    def phases(self) -> list[str]:
        """The phases that the progress went through, repetitions left out."""
        lines = (self.path / layout.PROGRESS).read_text().splitlines()
        phases = [json.loads(line)["phase"] for line in lines]
        return [phase for at, phase in enumerate(phases) if at == 0 or phases[at - 1] != phase]

    @property
    def staged(self) -> list[str]:
        """The top-level entries that wait to be moved in."""
        return sorted(path.name for path in self.path.glob("staging/lib*/python*/site-packages/*"))

    def python(self, code: str, *options: str) -> str:
        """What ``code`` prints in the overlay."""
        done = subprocess.run([self.generation.python, *options, "-c", code], env={"PATH": "/usr/bin:/bin"},
                              cwd="/", capture_output=True, text=True, check=False)  # fmt: skip
        return done.stdout.strip() + done.stderr
