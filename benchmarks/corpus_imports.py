"""Whether each module of the corpus can be imported from the wheel store as from a private environment.

    python benchmarks/corpus_imports.py                  all of corpus.txt
    python benchmarks/corpus_imports.py scanpy einops    only these
    python benchmarks/corpus_imports.py --resume         go on after what an earlier run has left

The packages of corpus.txt are declared by notebooks, a few by each, and their overlays built as
``jupyter overlay exec`` builds them: links into a wheel store. Where a few do not go together, each gets a
notebook of its own. Then every top-level module that lies in the overlay, of the packages and of all that
came along, is imported in a process of its own. What fails is tried again in a private environment, which
uv makes of the same versions, as files. A module is tried once for each unpacked wheel that it comes from.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import program
from corpus import HERE, read_corpus
from kernels import write_notebook
from report import announce

from kernel_provisioner.base.kernels import kernel_name
from kernel_provisioner.base.registry import RegisteredBase
from kernel_provisioner.errors import clean
from kernel_provisioner.inkernel.shared.packages import canonical, packages
from kernel_provisioner.overlay import store
from kernel_provisioner.overlay.skeleton import remove_tree, site_packages
from kernel_provisioner.store.fill import remove
from kernel_provisioner.uv.discovery import uv_path

COMMAND = (sys.executable, "-m", "kernel_provisioner.cli.app")
_IMPORT_ALL = HERE / "import_all.py"
_WITHIN = 3600.0  # seconds for a batch


@dataclasses.dataclass
class Found:
    """What became of a corpus: modules that were imported, those that failed, and what was not built.

    ``failures`` has for each module how it failed in the overlay, and ``privately``, empty where it did not.
    """

    packages: list[str] = dataclasses.field(default_factory=list)
    distributions: dict[str, str] = dataclasses.field(default_factory=dict)
    known: list[str] = dataclasses.field(default_factory=list)
    failures: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    refused: dict[str, str] = dataclasses.field(default_factory=dict)


def main(argv: Sequence[str] | None = None) -> int:
    """Try all, print and keep what was found; 1 where a module fails in overlays alone, 2 without a base."""
    options = _options(argv)
    found = Found()
    if options.resume and options.json.exists():
        kept = json.loads(options.json.read_text(encoding="utf-8"))
        found = Found(**{field.name: kept[field.name] for field in dataclasses.fields(Found)})
    done = {*found.packages, *found.refused}
    wanted = [
        one.requirement
        for one in read_corpus(HERE / "corpus.txt")
        if one.requirement not in done and (not options.package or one.name in options.package)
    ]
    base = program.base_of(options.base)
    header = announce({"base": base.manifest.id})
    with program.workplace("imports") as place:
        trial = Trial(base, place, found)
        for start in range(0, len(wanted), options.batch):
            trial.take(wanted[start : start + options.batch])
            if options.json:  # what takes an hour is kept as it comes
                program.write_json(options.json, {"environment": header, **dataclasses.asdict(found)})
        remove(place / "overlays" / store.WHEELS)
    print(told(dataclasses.asdict(found)))
    return 1 if any(not one["privately"] for one in found.failures.values()) else 0


class Trial:
    """Notebooks on one base, and what their overlays hold."""

    def __init__(self, base: RegisteredBase, place: Path, found: Found) -> None:
        self._base, self._place, self._found = base, place, found
        self._made = 0

    def take(self, requirements: Sequence[str]) -> None:
        """Import what an overlay with all of these holds; where that cannot be built, with each of them."""
        self._made += 1
        name = f"batch-{self._made}"
        notebook = write_notebook(self._place / f"{name}.ipynb", {"extras": list(requirements)})
        words = (*COMMAND, "exec", str(notebook), "--kernel", kernel_name(self._base.manifest.tag), "--")
        built = self._run([*words, "true"])
        if built.returncode:
            if len(requirements) > 1:
                for requirement in requirements:
                    self.take([requirement])
                return
            self._found.refused[requirements[0]] = _reason(built.stderr)
            print(f"{requirements[0]}: refused", flush=True)
            return
        (overlay,) = (self._place / "overlays").glob(f"{name}-*/0001")
        tried = self._imported([*words, "python"], site_packages(overlay))
        failed = {module: one["failure"] for module, one in tried.items() if one["failure"]}
        privately = self._privately(overlay, sorted(failed)) if failed else {}
        for module, failure in failed.items():
            self._found.failures[module] = {
                "of": ", ".join(requirements), "failure": failure, "privately": privately.get(module, ""),
            }  # fmt: skip
        places = [f"{module} {one['place']}" for module, one in tried.items()]
        self._found.known = list(dict.fromkeys([*self._found.known, *places]))
        self._found.packages += requirements
        self._found.distributions.update({own.name: own.version for own in packages(overlay)})
        alone = [module for module in failed if not privately.get(module)]
        print(f"{', '.join(requirements)}: {len(tried)} modules, {len(failed)} fail", flush=True)
        for module in alone:
            print(f"  {module} fails in the overlay alone: {failed[module]}", flush=True)
        remove_tree(overlay.parent)

    def _imported(self, python: Sequence[str], site: Path, *modules: str) -> dict[str, dict[str, str]]:
        known = self._place / "known.txt"
        known.write_text("\n".join(self._found.known), encoding="utf-8")
        done = self._run([*python, str(_IMPORT_ALL), str(site), str(known), *modules])
        if done.returncode:
            raise RuntimeError(done.stderr)
        found: dict[str, dict[str, str]] = json.loads(done.stdout.splitlines()[-1])
        return found

    def _privately(self, overlay: Path, modules: Sequence[str]) -> Mapping[str, str]:
        """How these fail in an environment of one's own, with the same versions of everything."""
        base = self._base.manifest.distributions
        versions = {**base, **{own.name: own.version for own in packages(overlay)}}
        with self._private(versions) as venv:
            (site,) = venv.glob("lib/python*/site-packages")
            tried = self._imported([str(venv / "bin/python")], site, *modules)
            return {module: one["failure"] for module, one in tried.items()}

    @contextlib.contextmanager
    def _private(self, versions: Mapping[str, str]) -> Iterator[Path]:
        venv = self._place / "private"
        python = str(venv / "bin/python")
        wanted = self._place / "private.txt"
        wanted.write_text("".join(f"{name}=={version}\n" for name, version in versions.items()))
        links = os.environ.get("PIP_FIND_LINKS", "").split()
        options = [word for link in links for word in ("--find-links", link)]
        fill = ["pip", "install", "--quiet", "--no-deps", "--python", python, *options, "-r", str(wanted)]
        try:
            for words in (["venv", "--quiet", "--python", self._base.manifest.interpreter, str(venv)], fill):
                subprocess.run([uv_path(), *words], check=True, capture_output=True, text=True)
            yield venv
        finally:
            remove_tree(venv)

    def _run(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, cwd=self._place, capture_output=True, text=True, check=False, timeout=_WITHIN
        )


def told(data: Mapping[str, Any]) -> str:
    """What was found, from the raw data."""
    failures: Mapping[str, Mapping[str, str]] = data["failures"]
    alone = {module: one for module, one in failures.items() if not one["privately"]}
    lines = [
        f"{len(data['packages'])} packages of the corpus; {len(data['distributions'])} distributions with",
        f"what came along, and {len(data['known'])} modules, of which",
        f"{len(data['known']) - len(failures)} can be imported from the wheel store,",
        f"{len(failures) - len(alone)} neither there nor from a private environment,",
        f"{len(alone)} only from a private environment.",
    ]
    lines += [f"  {module} ({one['of']}): {one['failure']}" for module, one in alone.items()]
    lines += ["", f"{len(data['refused'])} were not built:"] if data["refused"] else []
    lines += [f"  {requirement}: {why}" for requirement, why in data["refused"].items()]
    return "\n".join(lines)


def _reason(text: str) -> str:
    """The first line of an error message."""
    lines = [line for line in clean(text).splitlines() if line.startswith("jupyter overlay")]
    return (lines or [text.strip()])[-1].removeprefix("jupyter overlay: ")


def _options(argv: Sequence[str] | None) -> Any:
    parser = program.parser(__doc__)
    parser.add_argument("package", nargs="*", type=canonical, help="only these")
    parser.add_argument("--base", default="cpu", help="the tag whose base is taken (cpu)")
    parser.add_argument("--batch", type=int, default=6, help="packages of one notebook (6)")
    parser.add_argument("--resume", action="store_true", help="leave out what --json has already")
    program.add_json(parser, "module")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
