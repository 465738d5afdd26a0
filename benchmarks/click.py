"""From the click in JupyterLab's launcher to the first result, beside a private environment with torch.

    python benchmarks/click.py                    what `make bench` runs
    python benchmarks/click.py --rounds 20

A real JupyterLab in a headless Chromium. In turn, a click on one of the launcher's cards makes a new
notebook: with the shared kernel, on a server whose warm starts are switched off; with the same kernel on a
server without any setting, from the second notebook on; and with the kernel of a private environment, which
uv makes of the same torch. Once the kernel is idle, the page runs ``import torch`` and a small sum. Times are
taken in the page, by ``performance.now()``, from the click until the result is drawn. Beside it is told what
the page takes before anybody is asked for a kernel: no kernel can save that.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import program
from report import announce, median, p95, seconds, table
from ways import Work, set_environment, uv_venv

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from playwright.sync_api import Browser, Page  # noqa: E402

from kernel_provisioner.base.kernels import kernel_spec  # noqa: E402
from kernel_provisioner.base.registry import RegisteredBase  # noqa: E402
from tests.support.browser import chromium  # noqa: E402
from tests.support.environ import clean_environment  # noqa: E402
from tests.support.labpage import want_no_news  # noqa: E402
from tests.support.server import JupyterServer, jupyter_server  # noqa: E402
from tests.support.warm import NEVER, starts  # noqa: E402

PRIVATE, READY, WARM = "private environment", "shared, no warm starts", "shared, warm without a setting"
AIMS = {READY: 1.0, WARM: 0.42}
"""What each should take at most, as a part of a private environment's time."""
_WARM_WITHIN = 20  # notebooks, until a kernel starts warm
_CELL = "import torch; print(int(torch.ones(3).sum()))"

# All of it in the page: nothing waits for messages between the page and this program.
_ROUND = """async ([card, code]) => {
    const app = window.jupyterapp;
    const pause = () => new Promise(done => setTimeout(done, 2));
    const until = async found => { let it; while (!(it = found())) { await pause(); } return it; };
    const before = app.shell.currentWidget;
    const find = () => [...document.querySelectorAll('.jp-LauncherCard[data-category="Notebook"]')]
        .find(one => one.title === card || one.textContent.trim().startsWith(card));
    const launch = await until(find);
    performance.clearResourceTimings();
    const began = performance.now();
    launch.click();
    const session = await until(() => {
        const widget = app.shell.currentWidget;
        return widget && widget !== before && widget.sessionContext?.session?.kernel && widget;
    });
    const kernel = session.sessionContext.session.kernel;
    await until(() => kernel.status === 'idle');
    const idle = performance.now();
    session.content.activeCell.model.sharedModel.setSource(code);
    app.commands.execute('notebook:run-cell');
    const output = '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.stdout"]';
    await until(() => [...session.node.querySelectorAll(output)].some(one => one.textContent.trim() === '3'));
    await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
    const ended = performance.now();
    const asked = performance.getEntriesByType('resource').filter(one => one.name.includes('/api/sessions'));
    const request = asked.find(one => one.startTime >= began);
    return {total: ended - began, idle: idle - began, page: (request ? request.startTime - began : 0)};
}"""
_CLEAN_UP = """async () => {
    const app = window.jupyterapp;
    const widget = app.shell.currentWidget;
    if (widget && widget.sessionContext) {
        await widget.sessionContext.shutdown();
        widget.context.model.dirty = false;
        widget.dispose();
    }
    await app.commands.execute('launcher:create');
}"""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 0, or 2 where there is nothing to measure on."""
    return program.run(_options(argv), measured, told)


def measured(options: Any, base: RegisteredBase, place: Path) -> Mapping[str, Any]:
    """The raw numbers of a run."""
    header = announce({"base": base.manifest.id, "cell": _CELL})
    data_dir = base.directory.parents[1]
    overlays = os.environ["TORCH_OVERLAY_ROOT"]
    env = clean_environment(place / "home", TORCH_OVERLAY_ROOT=overlays)
    env["JUPYTER_PATH"] = os.pathsep.join([str(data_dir), str(place / "kernels")])
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    want_no_news(env)
    card = kernel_spec(base.manifest.tag)["display_name"]
    _private(base, place)
    taken: dict[str, list[dict[str, float]]] = {PRIVATE: [], READY: [], WARM: []}
    with chromium() as browser, _lab(browser, place, env, NEVER) as cold, _lab(browser, place, env) as warm:
        pages = {PRIVATE: (cold[0], PRIVATE), READY: (cold[0], card), WARM: (warm[0], card)}
        for _ in range(_WARM_WITHIN):
            _round(*pages[WARM])
            if starts(warm[1])[-1:] == ["warm"]:
                break
        else:
            raise RuntimeError("no kernel starts warm here")
        for number in range(options.rounds + 1):
            for name, (page, label) in pages.items():
                times = _round(page, label)
                if number:  # the first is to warm up
                    taken[name].append(times)
        assert starts(warm[1])[-options.rounds :] == ["warm"] * options.rounds
    return {"environment": header, "milliseconds": taken}


def _private(base: RegisteredBase, place: Path) -> None:
    """A private environment with the base's torch, and its kernel."""
    work = Work(base, (), place / "uv-cache", None)
    cache = os.environ.get("UV_CACHE_DIR")
    set_environment(work)
    if cache:
        os.environ["UV_CACHE_DIR"] = cache
    else:
        del os.environ["UV_CACHE_DIR"]
    trial = uv_venv("--link-mode", "hardlink")(work, place / "private")
    trial.make()
    folder = place / "kernels/kernels/private"
    folder.mkdir(parents=True)
    spec = {"argv": trial.spec.argv, "display_name": PRIVATE, "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")


@contextlib.contextmanager
def _lab(
    browser: Browser, place: Path, env: Mapping[str, str], *options: str
) -> Iterator[tuple[Page, JupyterServer]]:
    """A JupyterLab of its own, and a page that shows its launcher."""
    name = f"lab-{len(options)}"
    own = {**env, "JUPYTER_RUNTIME_DIR": str(place / name / "runtime")}
    words = ["--LabApp.expose_app_in_browser=True", *options]
    with jupyter_server(place / name / "work", own, app="jupyterlab", options=words) as server:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(f"{server.url}lab/workspaces/{name}?token={server.token}&reset")
        page.wait_for_selector(".jp-LauncherCard")
        yield page, server
        page.close()


def _round(page: Page, card: str) -> dict[str, float]:
    """The milliseconds of one click on the card."""
    times: dict[str, float] = page.evaluate(_ROUND, [card, _CELL])
    page.evaluate(_CLEAN_UP)
    return times


def told(data: Mapping[str, Any]) -> str:
    """The table of a run, from its raw numbers, then each aim beside what was measured."""
    taken: dict[str, list[dict[str, float]]] = data["milliseconds"]
    heads = {"total": "first result", "idle": "kernel idle", "page": "page, until it asks"}
    rows = [["", *(word for head in heads.values() for word in (head, "p95")), "x private"]]
    for name, times in taken.items():
        values = [[one[key] / 1000 for one in times] for key in heads]
        cells = [seconds(how(one)) for one in values for how in (median, p95)]
        rows.append([name, *cells, f"{_ratio(taken, name):.2f}"])
    lines = [f"{len(taken[PRIVATE])} rounds, in turn; medians, from the click on", "", table(rows), ""]
    for name, aim in AIMS.items():
        lines.append(f"{name}: {_ratio(taken, name):.3f} x a private environment (aim: at most {aim:.2f})")
    return "\n".join(lines)


def _ratio(taken: Mapping[str, Sequence[Mapping[str, float]]], name: str) -> float:
    mine, other = (median([one["total"] for one in taken[each]]) for each in (name, PRIVATE))
    return mine / other


def _options(argv: Sequence[str] | None) -> Any:
    parser = program.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="how often each card is clicked (10)")
    program.add_base(parser)
    program.add_json(parser, "time")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
