"""Whether the packages that people put on top of torch work in overlays, and what they take.

    python benchmarks/corpus.py                     what `make corpus` runs
    python benchmarks/corpus.py timm einops         only these; prints, and writes nothing

Each package of corpus.txt is resolved, by the builder's own resolver, and beside that as for a private
environment with the same torch: the overlay's version has to be the private one. Those of which
corpus.txt says what to import also get a notebook that declares them as their only extra. The notebook's
kernel is started as a Jupyter server starts it, so that the real builder resolves, fetches and
installs, and its first cell imports torch and the package. Then the overlay is looked at: the
base's torch is the only one, no accelerator library came along, and ``uv pip check`` has no
complaint. The table goes to docs/corpus.md, with everything measured beside it as JSON. The
overlays lie in a directory of their own, which is gone afterwards.

Exit status 0: each package works in the version of a private environment, or in that of the base, which
holds it, or was refused by the builder with a reason, which the table tells. 1: one was installed and then
failed, or came in another version. 2: there was nothing to run on.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import program
from corpus_table import Row, as_json, document, line
from corpus_versions import Resolution
from jupyter_client.manager import AsyncKernelManager
from kernels import write_notebook

from kernel_provisioner.base.kernels import kernel_name
from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.errors import BuildFailed, CorruptState, OverlayError
from kernel_provisioner.inkernel.shared import layout
from kernel_provisioner.inkernel.shared.disk import Usage, usage
from kernel_provisioner.inkernel.shared.packages import canonical, named_in, packages
from kernel_provisioner.overlay import store
from kernel_provisioner.overlay.skeleton import remove_tree, site_packages
from kernel_provisioner.uv.client import find_uv

HERE = Path(__file__).parent
_WITHIN = 1500.0  # seconds for one package: the largest is some hundred MB, and one compiles
# What serves without a GPU may come along: nccl, which xgboost loads everywhere, and NVIDIA's monitor.
_FOREIGN = re.compile(r"torch|nvidia-(?!nccl|ml-py).*|cuda-.*|(pytorch-)?triton.*")
_ANSWER = "corpus-answer:"
_CELL = """\
import importlib, torch
importlib.import_module({module!r})
print({mark!r} + torch.__file__)
"""


@dataclasses.dataclass(frozen=True)
class Package:
    """One line of the corpus; without a ``module`` it is resolved only."""

    requirement: str
    module: str

    @property
    def name(self) -> str:
        """The distribution's canonical name."""
        return named_in(self.requirement)


def main(argv: Sequence[str] | None = None) -> int:
    """Try every package and write the table."""
    options = _options(argv)
    corpus = read_corpus(HERE / "corpus.txt")
    chosen = [package for package in corpus if not options.package or package.name in options.package]
    try:
        base = program.base_of(options.base)
    except OverlayError as error:
        print(error, file=sys.stderr)
        return 2
    with program.workplace("corpus") as place:
        trial = Trial(base, place)
        bare = asyncio.run(trial.bare())
        rows = asyncio.run(trial.run(chosen, options.jobs))
    if not options.package:
        options.output.mkdir(exist_ok=True)
        data = as_json(base.manifest, bare, rows)
        program.write_json(options.output / "corpus.json", data)
        (options.output / "corpus.md").write_text(document(data), encoding="utf-8")
        print(f"written: {options.output / 'corpus.md'}")
    return 1 if any(row.result == "fails" for row in rows) else 0


def read_corpus(path: Path) -> list[Package]:
    """The packages in a file like corpus.txt."""
    found = []
    for text in path.read_text(encoding="utf-8").splitlines():
        requirement, *rest = text.partition("#")[0].split() or [""]
        if requirement:
            module = rest[0] if rest else named_in(requirement).replace("-", "_")
            found.append(Package(requirement, "" if module == "-" else module))
    return found


class Trial:
    """Notebooks, one for each package, on one base."""

    def __init__(self, base: RegisteredBase, place: Path) -> None:
        self._base, self._place = base, place
        self._uv = find_uv()
        self._resolution = Resolution(base, place)

    async def bare(self) -> Usage:
        """What an overlay without extras takes, after a cell has run in it."""
        package = Package("nothing", "json")
        await self._first_cell(self._notebook(package, []), package)
        return usage([self._generation(package).path])

    async def run(self, corpus: Sequence[Package], jobs: int) -> list[Row]:
        """A row for each package, in the corpus' order, ``jobs`` at a time; told as they come."""
        free = asyncio.Semaphore(jobs)

        async def attempt(package: Package) -> Row:
            async with free:
                row = await self._attempt(package)
            print(line(row), flush=True)
            return row

        return list(await asyncio.gather(*map(attempt, corpus)))

    async def _attempt(self, package: Package) -> Row:
        versions = await asyncio.to_thread(self._resolution.of, package.requirement)
        if package.module and not versions.refused:
            row = await self._tried(package)
        else:
            row = Row(
                package.requirement,
                "refused" if versions.refused else "resolves",
                versions.refused,
                version=versions.version,
                added=versions.added,
                from_source=versions.from_source,
            )
        found = {name: getattr(versions, name) for name in ("private", "held", "replaced", "others")}
        row = dataclasses.replace(row, **found)
        if versions.differs and row.result != "fails":
            why = f"it came as {versions.version}, and a private environment gets {versions.private}"
            return dataclasses.replace(row, result="fails", why=why)
        return row

    async def _tried(self, package: Package) -> Row:
        answer, error = await self._first_cell(self._notebook(package, [package.requirement]), package)
        try:
            generation = self._generation(package)
            state = generation.read(layout.OVERLAY)
        except (IndexError, CorruptState):
            refusal = self._refusal(package)
            return Row(package.requirement, "refused" if refusal else "fails", refusal or error)
        try:
            faults = await asyncio.to_thread(self._faults, generation, answer)
            row = Row(
                package.requirement,
                "fails" if error or faults else "works",
                "\n".join(filter(None, [error, *faults])),
                version=next(
                    (own["version"] for own in state["installed"] if own["name"] == package.name), ""
                ),
                added=len(state["installed"]),
                seconds=state["seconds"],
                from_source=_waited_for_consent(generation),
                disk=usage([generation.path]),
            )
        finally:
            remove_tree(generation.path)
        return row

    async def _first_cell(self, notebook: Path, package: Package) -> tuple[str, str]:
        """Start the notebook's kernel and run its first cell: what it answered, and how it failed."""
        said: list[str] = []

        def hear(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream":
                said.append(message["content"]["text"])

        manager = AsyncKernelManager(kernel_name=kernel_name(self._base.manifest.tag))
        with (self._place / f"{package.name}.log").open("wb") as log:
            await manager.start_kernel(
                env={**os.environ, "KERNEL_NOTEBOOK_PATH": str(notebook)},
                cwd=str(notebook.parent),
                stdout=log,
                stderr=log,
            )
        client = manager.client()
        try:
            client.start_channels()
            await client.wait_for_ready(timeout=_WITHIN)
            cell = _CELL.format(module=package.module, mark=_ANSWER)
            reply = await client.execute_interactive(
                cell, allow_stdin=False, timeout=_WITHIN, output_hook=hear
            )
        except (RuntimeError, TimeoutError) as error:  # a kernel that died, or never ended
            return "", f"{type(error).__name__}: {error}"
        finally:
            client.stop_channels()
            await manager.shutdown_kernel(now=True)
        content = reply["content"]
        if content["status"] != "ok":
            return "", f"{content.get('ename')}: {content.get('evalue')}"
        answers = [text for text in "".join(said).splitlines() if text.startswith(_ANSWER)]
        return answers[-1].removeprefix(_ANSWER), ""

    def _faults(self, generation: store.Generation, answer: str) -> list[str]:
        """What is wrong with an overlay that was built: above all, anything of torch's in it."""
        base = self._base.manifest
        faults = []
        if answer and not Path(answer).is_relative_to(base.prefix):
            faults.append(f"torch was imported from {answer}")
        foreign = [own for own in packages(generation.path) if _FOREIGN.fullmatch(canonical(own.name))]
        faults += [f"{own.name} {own.version} is in the overlay" for own in foreign]
        site = site_packages(generation.path)
        others = [path for path in (site / "nvidia").glob("*") if path.name != "nccl"]
        faults += [f"{path} is there" for path in (site / "torch", site / "triton", *others) if path.exists()]
        done = self._uv.run("pip", "check", "--python", generation.python)
        if done.returncode != 0:
            faults.append(f"uv pip check: {done.stderr.strip()}")
        return faults

    def _refusal(self, package: Package) -> str:
        """The builder's own words on why it installed nothing; empty where it has none, or broke."""
        with contextlib.suppress(IndexError, CorruptState):
            told = OverlayError.from_dict(self._generation(package).read(layout.FAILED)["failure"])
            return "" if isinstance(told, BuildFailed) else str(told)
        return ""

    def _generation(self, package: Package) -> store.Generation:
        root = store.Store(self._place / "overlays")
        return root.generations(root.notebook_dir(self._path(package)))[0]

    def _notebook(self, package: Package, extras: Sequence[str]) -> Path:
        return write_notebook(self._path(package), {"extras": extras})

    def _path(self, package: Package) -> Path:
        return self._place / f"{package.name}.ipynb"


def _waited_for_consent(generation: store.Generation) -> bool:
    """Whether the builder had to build a package from source, once the cell had run."""
    with contextlib.suppress(OSError):
        return '"needs-cell"' in (generation.path / layout.PROGRESS).read_text(encoding="utf-8")
    return False


def _options(argv: Sequence[str] | None) -> Any:
    parser = program.parser(__doc__)
    parser.add_argument("package", nargs="*", type=canonical, help="only these; prints, and writes nothing")
    parser.add_argument("--base", default="cpu", help="the tag whose base is taken (cpu)")
    parser.add_argument("--jobs", type=int, default=2, choices=(1, 2), help="packages at a time (2)")
    parser.add_argument(
        "--output", type=Path, default=HERE.parent / "docs", help="where the table goes (docs)"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
