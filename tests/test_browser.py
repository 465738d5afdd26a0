"""What a person sees in JupyterLab and Notebook 7. Pictures: ``test-artefacts/browser``."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.conftest import TorchBase
from tests.support.browser import Frontend, chromium, tab_name
from tests.support.environ import clean_environment, default_index
from tests.support.index import LocalIndex, serve_index
from tests.support.notebooks import write_notebook
from tests.support.server import JupyterServer, jupyter_server

EINOPS = {"accelerator": "cpu", "extras": ["einops"]}
NEWS = "lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
pytestmark = [
    pytest.mark.system,
    pytest.mark.browser,
    pytest.mark.torch,
    pytest.mark.network,
    pytest.mark.slow,
]

Open = Callable[..., Frontend]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for this module; first, so that nothing else is made where there is none."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def registry() -> Iterator[LocalIndex]:
    """This machine's registry, behind an address that can be told to wait."""
    with serve_index(upstream=default_index()) as served:
        yield served


@pytest.fixture(scope="module")
def environment(
    browser: Browser,
    registry: LocalIndex,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    """Where this module's servers run: the shared base, and caches that are empty at first."""
    # Not an argument: it would be made, which takes minutes, before the lack of Chromium is noticed.
    base: TorchBase = request.getfixturevalue("torch_base_home")
    home = tmp_path_factory.mktemp("browser")
    env = clean_environment(home, index=registry, JUPYTER_PATH=str(base.data_dir))
    news = Path(env["JUPYTER_CONFIG_DIR"], NEWS)
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false", "checkForUpdates": false}')  # or Lab asks, over the page
    return env


@pytest.fixture(scope="module")
def lab(environment: dict[str, str]) -> Iterator[JupyterServer]:
    """One JupyterLab for this module."""
    with jupyter_server(
        Path(environment["XDG_CACHE_HOME"], "work"), environment, app="jupyterlab"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def pictures(pytestconfig: pytest.Config) -> Iterator[Path]:
    """The directory of the screenshots, empty at first; its path is printed at the end."""
    directory = pytestconfig.rootpath / "test-artefacts" / "browser"
    shutil.rmtree(directory, ignore_errors=True)
    yield directory
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\nscreenshots: {directory}")  # noqa: T201 - for who runs the tests


@pytest.fixture
def tab(browser: Browser, pictures: Path, request: pytest.FixtureRequest) -> Iterator[Open]:
    """Open a tab on a server (``lab=False`` for Notebook 7); closed at the end, with a last picture."""
    opened: list[Frontend] = []

    def open_tab(server: JupyterServer, *, lab: bool = True) -> Frontend:
        opened.append(Frontend(browser, server, pictures, tab_name(request.node.name), lab=lab))
        return opened[-1]

    yield open_tab
    for frontend in opened:
        frontend.close()


def test_the_launcher_offers_the_shared_kernels(lab: JupyterServer, tab: Open) -> None:
    """Both kernels stand there with their logo; a new notebook on one has torch, and nothing is said."""
    page = tab(lab)
    page.open_launcher()
    for name in ("torch (shared)", "torch-cpu (shared)"):
        card = page.launcher_card(name)
        expect(card).to_be_visible()
        assert card.locator("img").evaluate("image => image.naturalWidth") > 0, f"{name} has a logo"
    page.picture("launcher")
    page.new_notebook("torch-cpu (shared)")
    assert page.run(0, "import torch\nprint(torch.tensor([6]) * 7)") == "tensor([42])"
    page.picture("new-notebook")


def test_the_first_cell_shows_what_is_added(lab: JupyterServer, tab: Open, registry: LocalIndex) -> None:
    """Pick the kernel in the dialog and run a cell: progress while it waits, then one line and the result."""
    code = "import einops, torch\nprint(einops.rearrange(torch.arange(4), '(a b) -> b a', a=2).tolist())"
    write_notebook(lab.root / "first.ipynb", code, torch_env=EINOPS, kernel="python3")
    page = tab(lab)
    page.open("first.ipynb")
    registry.misbehave("/simple/einops/", "wait")
    page.choose_kernel("torch-cpu (shared)")
    page.begin(0)
    expect(page.output(0)).to_contain_text("Adding this notebook's packages · Resolving einops")
    expect(page.output(0)).to_contain_text(" 2 s")  # it counts: something happens
    page.picture("progress")
    registry.behave()
    said, printed = page.ended(0).splitlines()
    page.picture("result")
    assert said.startswith("torch-cpu: einops ")
    assert "added to torch 2." in said
    assert printed == "[[0, 2], [1, 3]]"


def test_a_conflict_is_told_in_the_cell(lab: JupyterServer, tab: Open) -> None:
    """What, why and fix are all on the screen, in every cell that is run, and no cell runs."""
    conflict = {"accelerator": "cpu", "extras": ["einops>9000"]}
    write_notebook(lab.root / "clash.ipynb", "print('ran')", "print('ran')", torch_env=conflict)
    page = tab(lab)
    page.open("clash.ipynb")
    for number in (0, 1):
        told = page.run(number)
        assert "ResolutionFailed: the extras einops>9000 do not fit on" in told
        assert "why: No solution found" in told
        assert "einops>9000" in told.split("why:")[1]
        assert "fix: " in told
        assert "jupyter overlay base list" in told
        assert "ran\n" not in told
        assert "\x1b" not in told, "colours are drawn, not printed"
    page.picture("message")


def test_metadata_edited_in_lab_count_after_a_restart(lab: JupyterServer, tab: Open) -> None:
    """Add an extra in the property inspector, save, restart from the menu: it can be imported."""
    write_notebook(
        lab.root / "grow.ipynb", "import humanize\nprint(humanize.intcomma(1234))", torch_env=EINOPS
    )
    page = tab(lab)
    page.open("grow.ipynb")
    assert "ModuleNotFoundError" in page.run(0)
    metadata = page.notebook_metadata()
    told = json.loads(metadata.text())
    told["torch_env"]["extras"].append("humanize")
    metadata.commit(json.dumps(told, indent=4))
    page.picture("metadata")
    page.toggle_inspector()
    page.save()
    page.restart()
    said, printed = page.run(0).splitlines()
    page.picture("after-restart")
    assert "humanize" in said
    assert printed == "1,234"


def test_the_magic_shows_and_adds(lab: JupyterServer, tab: Open) -> None:
    """``%overlay`` says what the notebook runs on; ``%overlay add`` puts the declaration below."""
    cells = ("%overlay", "%overlay add humanize", "%overlay add tabulate", "import humanize, tabulate")
    write_notebook(lab.root / "magic.ipynb", *cells, torch_env=EINOPS)
    page = tab(lab)
    page.open("magic.ipynb")
    shown = page.run(0)
    for label in ("base", "why", "extras", "added", "by hand", "overlay", "disk"):
        assert f"\n{label} " in shown
    added = page.run(1)
    assert "Added humanize 4" in added
    assert "Keep it" in added
    assert page.source(2) == '# /// script\n# dependencies = ["humanize"]\n# ///'
    more = page.run(3)
    assert "a # /// script cell above can go" in more
    assert page.source(4) == '# /// script\n# dependencies = ["humanize", "tabulate"]\n# ///'
    assert page.run(5) == ""
    page.picture("added")


@pytest.mark.parametrize("app", ["jupyterlab", "notebook"])
def test_widgets_and_bars_are_drawn(
    environment: dict[str, str], lab: JupyterServer, tab: Open, app: str
) -> None:
    """What they need of JupyterLab and Notebook 7 has come along with this program; the rest is an extra."""
    code = "from tqdm.auto import tqdm\nsum(tqdm(range(20), desc='counting'))"
    slider = "import ipywidgets\nipywidgets.IntSlider(value=7, description='level')"
    wanted = {"accelerator": "cpu", "extras": ["ipywidgets", "tqdm"]}
    name = f"widgets-{app}.ipynb"
    write_notebook(lab.root / name, code, slider, torch_env=wanted)
    with contextlib.ExitStack() as own:
        server = lab if app == "jupyterlab" else own.enter_context(
            jupyter_server(lab.root, environment, app=app)
        )  # fmt: skip
        page = tab(server, lab=app == "jupyterlab")
        page.open(name)
        page.run(0)
        expect(page.output(0).locator(".jupyter-widgets").first).to_contain_text("counting: 100%")
        page.run(1)
        expect(page.output(1).locator(".widget-readout")).to_have_text("7")
        page.picture("widgets")


def test_an_interrupt_ends_the_wait_and_not_the_kernel(
    lab: JupyterServer, tab: Open, registry: LocalIndex
) -> None:
    """Press stop while packages are being added: the cell says so, and works when it is run again."""
    wanted = {"accelerator": "cpu", "extras": ["tabulate"]}
    write_notebook(lab.root / "stop.ipynb", "import tabulate\nprint('there')", torch_env=wanted)
    page = tab(lab)
    registry.misbehave("/simple/tabulate/", "wait")
    page.open("stop.ipynb")
    page.begin(0)
    expect(page.output(0)).to_contain_text("Resolving tabulate")
    page.interrupt()
    told = page.ended(0)
    page.picture("stopped")
    assert "are still being installed. Run the cell again" in told
    assert "KeyboardInterrupt" in told
    registry.behave()
    assert page.run(0).endswith("\nthere")
    page.picture("again")


def test_a_reloaded_page_goes_on(lab: JupyterServer, tab: Open, registry: LocalIndex) -> None:
    """Reload while packages are being added: the kernel goes on, nothing runs for ever, and results stay."""
    wanted = {"accelerator": "cpu", "extras": ["toolz"]}
    write_notebook(lab.root / "reload.ipynb", "import toolz\nprint('there')", torch_env=wanted)
    page = tab(lab)
    registry.misbehave("/simple/toolz/", "wait")
    page.open("reload.ipynb")
    page.begin(0)
    expect(page.output(0)).to_contain_text("Resolving toolz")
    page.save()
    page.reload()
    expect(page.output(0)).to_contain_text("Resolving toolz")
    expect(page.output(0).get_by_role("progressbar")).to_have_count(0)
    page.picture("reloaded")
    registry.behave()
    assert page.run(0) == "there"
    page.save()
    page.reload()
    expect(page.output(0)).to_contain_text("there")


def test_notebook_7_runs_the_same(
    environment: dict[str, str], lab: JupyterServer, tab: Open, registry: LocalIndex
) -> None:
    """The same file in Notebook 7, with its own page: progress, the line that stays, the result."""
    wanted = {"accelerator": "cpu", "extras": ["more-itertools"]}
    write_notebook(
        lab.root / "seven.ipynb",
        "import more_itertools, torch\nprint('both')",
        torch_env=wanted,
        kernel="torch-cpu",
    )
    registry.misbehave("/simple/more-itertools/", "wait")
    with jupyter_server(lab.root, environment, app="notebook") as server:
        page = tab(server, lab=False)
        page.open("seven.ipynb")
        page.begin(0)
        expect(page.output(0)).to_contain_text("Adding this notebook's packages")
        page.picture("progress")
        registry.behave()
        said, printed = page.ended(0).splitlines()
        page.picture("result")
    assert said.startswith("torch-cpu: more-itertools ")
    assert printed == "both"
