"""A module that is not there is answered with the package that has it, where one is missing."""

from __future__ import annotations

import json
import linecache
from pathlib import Path

import pytest

from kernel_provisioner.inkernel.missing import MIME_TYPE, NAMES, Missing, missing
from kernel_provisioner.inkernel.missing_outside import is_sure, missing_in
from kernel_provisioner.inkernel.shared.info import Info
from kernel_provisioner.inkernel.shared.packages import canonical


def said_of(cell: str, info: Info | None = None, file: str = "/tmp/ipykernel_7/1.py") -> Missing | None:
    """What is said of the error that a cell raises, which lies in ``file``."""
    linecache.cache[file] = (len(cell), None, cell.splitlines(keepends=True), file)
    try:
        exec(compile(cell, file, "exec"), {"__name__": "__main__"})  # as IPython runs a cell
    except Exception as error:  # whatever a cell may raise
        return missing(error, info or Info())
    raise AssertionError(f"nothing was wrong with {cell}")


@pytest.mark.parametrize(
    ("cell", "module", "distribution"),
    [
        ("import no_such_thing", "no_such_thing", "no-such-thing"),
        ("import skmultilearn.adapt", "skmultilearn", "scikit-multilearn"),
        ("from sksurv.linear_model import CoxPHSurvivalAnalysis", "sksurv", "scikit-survival"),
        ("def late():\n    import pywt\nlate()", "pywt", "pywavelets"),
        ("import importlib\nimportlib.import_module('umap')", "umap", "umap-learn"),
        ("from google.cloud import spanner", "google.cloud.spanner", "google-cloud-spanner"),
        ("import azure.storage.blob", "azure.storage.blob", "azure-storage-blob"),
    ],
)
def test_a_missing_module_is_answered_with_its_package(cell: str, module: str, distribution: str) -> None:
    """Whatever the form of the import, and wherever in the user's code it stands."""
    found = said_of(cell)
    assert found is not None
    assert (found.module, found.distribution) == (module, distribution)
    assert found.text.endswith(f" is not in this notebook's environment: %overlay add {distribution}")


def test_the_package_is_named_where_it_is_called_otherwise() -> None:
    """And not where it is the same name."""
    other, same = said_of("import sksurv"), said_of("import no_such_thing")
    assert other is not None
    assert other.text.startswith("sksurv (package scikit-survival) is not")
    assert same is not None
    assert same.text.startswith("no_such_thing is not")


@pytest.mark.parametrize(
    "cell",
    [
        "import json.nothing",  # a submodule of what is there
        "from json import nothing",
        "import packaging.nothing",
        "import utils",  # a file of the user's own, which is in another folder
        "from google.nowhere import x",  # a namespace is no package
        "raise ModuleNotFoundError('without a name')",
        "raise ModuleNotFoundError('x', name='../x')",
    ],
)
def test_nothing_is_said_where_no_package_is_missing(cell: str) -> None:
    """What is there, what nobody publishes, and what is no import at all."""
    assert said_of(cell) is None


def test_nothing_is_said_of_what_a_package_fails_to_import(tmp_path: Path) -> None:
    """Adding that would hide the fault of the package, which does not declare what it needs."""
    place = str(tmp_path / "lib/site-packages/broken/__init__.py")
    assert said_of("import no_such_thing", file=place) is None


TRACEBACK = """Traceback (most recent call last):
  File "/home/me/train.py", line 1, in <module>
    import no_such_thing
ModuleNotFoundError: No module named 'no_such_thing'
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TRACEBACK, True),
        (f"before\r\n{TRACEBACK}".replace("\n", "\r\n"), True),
        (f"{TRACEBACK}and more\n", False),  # the program went on
        (TRACEBACK.partition("\n")[2], False),
        (TRACEBACK.replace("/home/me/train.py", "/x/site-packages/broken/a.py"), False),
        (TRACEBACK.replace("no_such_thing'", "json'"), False),
    ],
)
def test_a_program_that_a_cell_starts_is_answered_by_its_last_words(text: str, said: bool) -> None:
    """Only by a traceback that ends what it printed, from a file of the user's."""
    found = missing_in(text, Info())
    assert (found is not None) == said
    assert found is None or found.distribution == "no-such-thing"


@pytest.mark.parametrize(
    ("cell", "sure"),
    [
        ("!python train.py", True),
        ("x = 1\n  !python3 -m train --fast", True),
        ("!{sys.executable} train.py", True),
        ("!python a.py\n!python b.py", False),
        ("!python a.py | tee log", False),
        ("!make && python a.py", False),
        ("!pip list", False),
        ("print('!')", False),
    ],
)
def test_one_python_alone_is_sure(cell: str, sure: bool) -> None:
    """Of several commands nobody can say which has failed."""
    assert is_sure(cell) == sure


def test_a_declared_package_needs_a_restart(tmp_path: Path) -> None:
    """It is in the notebook, and not installed yet."""
    (tmp_path / "build.json").write_text(json.dumps({"order": {"extras": ["scikit-survival>=0.2"]}}))
    found = said_of("import sksurv", Info(overlay=str(tmp_path)))
    assert found is not None
    assert found.text.endswith("is declared, but not installed: restart the kernel to install it")


def test_the_table_has_what_people_import() -> None:
    """At least three hundred names, of which none stands for a package of its own name."""
    names = json.loads(NAMES.read_bytes())
    assert len(names) >= 300
    for module, package in {
        "cv2": "opencv-python-headless", "sklearn": "scikit-learn", "PIL": "pillow", "yaml": "pyyaml",
        "bs4": "beautifulsoup4", "skimage": "scikit-image", "faiss": "faiss-cpu", "Crypto": "pycryptodome",
        "dateutil": "python-dateutil",
    }.items():  # fmt: skip
        assert names[module] == package
    assert all(canonical(package) == package for package in names.values())
    assert not [name for name, package in names.items() if "." not in name and canonical(name) == package]


def test_the_bundle_is_what_the_extension_reads() -> None:
    """Module, distribution and the version of the form."""
    found = said_of("import sksurv")
    assert found is not None
    assert found.bundle()[MIME_TYPE] == {"module": "sksurv", "distribution": "scikit-survival", "version": 1}
