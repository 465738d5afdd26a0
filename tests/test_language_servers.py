"""Language servers read an overlay as any environment: torch from the base, extras from the overlay."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import jedi  # type: ignore[import-untyped] # it says nothing of types
import pytest

from tests.support.bases import REPOSITORY, Bench
from tests.support.environ import clean_environment
from tests.support.language_server import in_jupyterlab, language_server
from tests.support.server import jupyter_server

PYLSP = (sys.executable, "-m", "pylsp")


@pytest.mark.system
def test_pylsp_completes_what_the_base_and_the_overlay_have(bench: Bench) -> None:
    """With the one setting that the documentation names: the overlay, or the base alone."""
    bench.publish("shapes", files={"shapes/__init__.py": "def area(): ...\n"})
    base = bench.base()
    built = bench.overlay(base, "shapes")
    bench.enter(built)
    for place, extra in ((str(built.path), {"area"}), (base.manifest.prefix, set())):
        settings = {"pylsp": {"plugins": {"jedi": {"environment": place}}}}
        with language_server(PYLSP, settings) as server:
            assert "__version__" in server.completions("import torch\ntorch.__vers"), place
            assert server.completions("import shapes\nshapes.ar") == extra, place


@pytest.mark.system
def test_in_jupyterlab_the_setting_of_the_documentation_does_it(bench: Bench, tmp_path: Path) -> None:
    """What an administrator copies into overrides.json, with the path of an overlay, through jupyter-lsp."""
    page = (REPOSITORY / "docs/how-to/use-language-servers.md").read_text()
    (block,) = re.findall(r"```jsonc\n(.*?)```", page, re.DOTALL)
    (plugin,) = json.loads(block).values()
    ((name, said),) = plugin["languageServers"].items()
    ((key, place),) = said["configuration"].items()
    assert place.endswith("/venv"), "a base's, as base list names it"
    bench.publish("shapes-in-lab", files={"shapes_in_lab/__init__.py": "def area(): ...\n"})
    built = bench.overlay(bench.base(), "shapes-in-lab")
    bench.enter(built)
    with (
        jupyter_server(tmp_path / "work", clean_environment(tmp_path), app="jupyterlab") as lab,
        in_jupyterlab(lab, name, {key: str(built.path)}) as server,
    ):
        assert "__version__" in server.completions("import torch\ntorch.__vers")
        assert server.completions("import shapes_in_lab\nshapes_in_lab.ar") == {"area"}


def test_jedi_takes_an_overlay_for_an_environment(bench: Bench) -> None:
    """As Spyder, and editors with jedi in them, are told of one."""
    bench.publish("shapes-too", files={"shapes_too/__init__.py": "def area(): ...\n"})
    built = bench.overlay(bench.base(), "shapes-too")
    bench.enter(built)
    environment = jedi.create_environment(str(built.path), safe=False)
    script = jedi.Script("import torch, shapes_too\nshapes_too.ar", environment=environment)
    assert [found.name for found in script.complete()] == ["area"]
    (torch,) = jedi.Script("import torch\ntorch", environment=environment).infer(2, 1)
    assert str(torch.module_path).startswith(bench.base().manifest.site_dirs[0])
