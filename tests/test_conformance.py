"""Jupyter's own conformance suite for kernels, against "torch-cpu (shared)" with its overlay ready.

Once with a kernel that started normally, and once with one that started warm.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupyter_kernel_test
import pytest

from tests.conftest import TorchBase
from tests.support.client import ENDS_WITHIN, connected, connection_file, launched, unconnected
from tests.support.notebooks import write_notebook
from tests.support.server import jupyter_server
from tests.support.warm import WARM, starts, warm_up

pytestmark = [pytest.mark.system, pytest.mark.torch, pytest.mark.network, pytest.mark.slow]


@pytest.fixture(scope="module")
def warm_kernel(torch_base_home: TorchBase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """As ``normal_kernel``, for a kernel that a server has forked."""
    home = tmp_path_factory.mktemp("conformance-warm")
    with jupyter_server(home / "work", torch_base_home.environment(home), options=[WARM]) as server:
        warm_up(server)
        write_notebook(server.root / "nb.ipynb", torch_env={"accelerator": "cpu"})
        with server.session("nb.ipynb", "torch-cpu") as session:
            assert starts(server)[-1] == "warm"
            session.close()
            yield connection_file(server, session)


@pytest.fixture(scope="module")
def normal_kernel(torch_base_home: TorchBase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The connection file of a kernel that started in a ready overlay; nobody listens to it yet."""
    home = tmp_path_factory.mktemp("conformance")
    spec, env = torch_base_home.data_dir / "kernels/torch-cpu", torch_base_home.environment(home)
    notebook = write_notebook(home / "nb.ipynb", torch_env={"accelerator": "cpu", "extras": ["einops"]})
    with launched(spec, notebook, env) as (process, file), connected(file) as client:
        assert client.execute("import einops", reply=True)["content"]["status"] == "ok"
        client.shutdown()
        process.wait(ENDS_WITHIN)
    with launched(spec, notebook, env) as (_, file):
        with connected(file) as client:
            client.kernel_info(reply=True)
        yield file


@pytest.fixture(scope="class")
def kernel(request: pytest.FixtureRequest) -> Path:
    """The kernel that a class is for."""
    file: Path = request.getfixturevalue(request.cls.kernel_fixture)
    return file


@pytest.fixture(scope="class")
def silent_client(request: pytest.FixtureRequest, kernel: Path) -> Iterator[None]:
    """Give the suite a client that it connects itself."""
    request.cls.kc = client = unconnected(kernel)
    yield
    client.stop_channels()


@pytest.fixture(scope="class")
def client(request: pytest.FixtureRequest, kernel: Path) -> Iterator[None]:
    """Give the suite a client that is connected."""
    with connected(kernel) as client:
        request.cls.kc = client
        yield


class _Started:
    """In place of what the suite does to start and end a kernel of its own: the fixtures did."""

    kernel_fixture = "normal_kernel"

    @classmethod
    def setUpClass(cls) -> None:
        """Nothing."""

    @classmethod
    def tearDownClass(cls) -> None:
        """Nothing."""


@pytest.mark.usefixtures("silent_client")
class TestWelcome(_Started, jupyter_kernel_test.IopubWelcomeTests):  # type: ignore[misc] # it ships no types
    """A new subscriber hears the kernel's welcome first."""

    support_iopub_welcome = True


@pytest.mark.usefixtures("client")
class TestConformance(_Started, jupyter_kernel_test.KernelTests):  # type: ignore[misc] # likewise
    """The suite's tests, with what IPython answers."""

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
    code_execute_result = [
        {"code": "1+2+3", "result": "6"},
        {"code": "[n*n for n in range(1, 4)]", "result": "[1, 4, 9]"},
    ]
    code_display_data = [
        {
            "code": "from IPython.display import HTML, display; display(HTML('<b>test</b>'))",
            "mime": "text/html",
        },
        {
            "code": "from IPython.display import Math, display; display(Math('\\\\frac{1}{2}'))",
            "mime": "text/latex",
        },
    ]
    code_history_pattern = "1?2*"
    supported_history_operations = ("tail", "range", "search")
    code_inspect_sample = "zip"
    code_clear_output = "from IPython.display import clear_output; clear_output()"

    def history_helper(self, execute_first: Any, timeout: float | None = 15, **asked: Any) -> dict[str, Any]:
        """What the suite asks, with the session's number where IPython says 0 for the one in hand."""
        reply: dict[str, Any] = super().history_helper(execute_first, timeout, **asked)
        if asked["hist_access_type"] == "range":
            rows = reply["content"]["history"]
            reply["content"]["history"] = [
                (asked["session"] if row[0] == 0 else row[0], *row[1:]) for row in rows
            ]
        return reply


class TestWarmConformance(TestConformance):
    """The same of a kernel that started warm. Its welcome has been heard by the server that started it."""

    kernel_fixture = "warm_kernel"
