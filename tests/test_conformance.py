"""Jupyter's own conformance suite for kernels, against "torch-cpu (shared)" with its overlay ready."""

from __future__ import annotations

from collections.abc import Iterator

import jupyter_kernel_test
import pytest
from jupyter_kernel_test import msgspec_v5

from tests.conftest import TorchBase
from tests.support.client import direct_client
from tests.support.notebooks import write_notebook
from tests.support.server import jupyter_server

pytestmark = [pytest.mark.torch, pytest.mark.network, pytest.mark.slow]


@pytest.fixture(scope="class")
def client(
    request: pytest.FixtureRequest, torch_base_home: TorchBase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """A client of a kernel whose notebook has run a cell already, so that its overlay is entered."""
    home = tmp_path_factory.mktemp("conformance")
    with jupyter_server(home / "work", torch_base_home.environment(home)) as server:
        write_notebook(server.root / "nb.ipynb", torch_env={"accelerator": "cpu", "extras": ["einops"]})
        with server.session("nb.ipynb", "torch-cpu") as session:
            assert session.execute("import einops").status == "ok"
            session.restart()
            with direct_client(server, session) as connected:
                request.cls.kc = connected
                yield


@pytest.mark.usefixtures("client")
class TestConformance(jupyter_kernel_test.KernelTests):
    """The suite's tests on IPython's answers; it connects to a kernel that Jupyter Server started."""

    kernel_name = "torch-cpu"
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    completion_samples = [{"text": "zi", "matches": {"zip"}}]
    complete_code_samples = ["1", "print('hello, world')", "def f(x):\n  return x*2\n\n\n"]
    incomplete_code_samples = ["print('''hello", "def f(x):\n  x*2"]
    invalid_code_samples = ["import = 7q"]
    code_page_something = "zip?"
    code_generate_error = "raise ValueError"
    code_execute_result = [{"code": "1+2+3", "result": "6"}, {"code": "[n*n for n in range(1, 4)]", "result": "[1, 4, 9]"}]
    code_display_data = [
        {"code": "from IPython.display import HTML, display; display(HTML('<b>test</b>'))", "mime": "text/html"},
        {"code": "from IPython.display import Math, display; display(Math('\\\\frac{1}{2}'))", "mime": "text/latex"},
    ]
    code_history_pattern = "1?2*"
    supported_history_operations = ("tail", "range", "search")
    code_inspect_sample = "zip"
    code_clear_output = "from IPython.display import clear_output; clear_output()"

    @classmethod
    def setUpClass(cls) -> None:
        """The fixture ``client`` has started the kernel."""

    @classmethod
    def tearDownClass(cls) -> None:
        """The fixture ``client`` ends it."""
