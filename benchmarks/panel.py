"""How soon JupyterLab's panel shows a notebook's packages, and how it works with many of them.

A real JupyterLab in a headless Chromium, on a base with a fake torch, from an index on this machine. Each
notebook declares one tiny package, which needs all the others. Times are taken in the page, by
``performance.now()``, to the frame after the change: the panel's packages from the moment at which the
answer of the server was there; the list of what came along, unfolded, from the click; a letter typed into
the field above that list, from the key.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import program
from report import announce, median, milliseconds, p95, table

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from playwright.sync_api import Browser, expect  # noqa: E402

from tests.support.bases import Workshop  # noqa: E402
from tests.support.browser import RUNS_WITHIN, chromium  # noqa: E402
from tests.support.environ import default_index  # noqa: E402
from tests.support.index import serve_index  # noqa: E402
from tests.support.labpage import LabPage, want_no_news  # noqa: E402
from tests.support.notebooks import write_notebook  # noqa: E402
from tests.support.server import JupyterServer, jupyter_server  # noqa: E402
from tests.support.tiny import offer_tiny_torch  # noqa: E402
from tests.support.wheels import build_wheel  # noqa: E402

OPENS = "the panel, after its data"
UNFOLDS = "what came along, unfolded"
TYPES = "a letter in the field"
AIM = 0.1
"""Seconds: what people take as at once."""

# Each waits for what it looks at frame by frame, and gives the milliseconds that it took.
_LIB = """
    const drawn = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)));
    const until = async found => { while (!found()) { await drawn(); } return performance.now(); };
    const find = selector => document.querySelector('.jp-TorchOverlay-panel ' + selector);
"""
_OPEN = f"""async () => {{ {_LIB}
    performance.clearResourceTimings();
    document.querySelector('.jp-TorchOverlay-chip').click();
    const shown = await until(() => find('.jp-TorchOverlay-branch'));
    const asked = performance.getEntriesByType('resource');
    return shown - asked.filter(one => one.name.includes('torch-overlay/environment')).pop().responseEnd;
}}"""
_UNFOLD = f"""async count => {{ {_LIB}
    const began = performance.now();
    find('.jp-TorchOverlay-branch > summary').click();
    await until(() => find('.jp-mod-dense summary'));
    find('.jp-mod-dense summary').click();
    return await until(() => find('.jp-mod-nested')?.children.length === count) - began;
}}"""
_TYPE = f"""async () => {{ {_LIB}
    const field = find('input');
    const began = performance.now();
    Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(field, field.value + 'x');
    field.dispatchEvent(new Event('input', {{ bubbles: true }}));
    await drawn();
    return performance.now() - began;
}}"""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; exit status 0."""
    options = _options(argv)
    counts = (10, options.packages)
    header = announce({"packages of each notebook": " and ".join(f"{count:,}" for count in counts)})
    taken: dict[str, dict[str, list[float]]] = {}
    with _lab(counts) as (browser, server, home):
        for count in counts:
            taken[str(count)] = _times(browser, server, home, count, options.rounds)
    data = {"environment": header, "milliseconds": taken}
    print(told(data))
    if options.json:
        program.write_json(options.json, data)
    return 0


@contextlib.contextmanager
def _lab(counts: Sequence[int]) -> Iterator[tuple[Browser, JupyterServer, Path]]:
    """A JupyterLab with a notebook for each count."""
    with (
        tempfile.TemporaryDirectory(prefix="panel-") as folder,
        chromium() as browser,
        serve_index(upstream=default_index()) as index,
    ):
        home = Path(folder)
        share = REPOSITORY / "share"
        shop = Workshop(
            home, index, JUPYTER_PATH=str(share / "jupyter"), JUPYTER_CONFIG_PATH=str(share / "etc")
        )
        want_no_news(shop.env)
        shop.env["UV_HTTP_RETRIES"] = "5"  # an index of one's own drops some of a thousand requests at once
        offer_tiny_torch(index, home / "torch", "cpu")
        shop.create("cpu")
        names = [f"tiny-{number:04}" for number in range(max(counts))]
        index.publish(*(build_wheel(home / "wheels", name) for name in names))
        for count in counts:
            index.publish(build_wheel(home / "wheels", f"needs-{count}", requires=names[:count]))
            extras = {"accelerator": "cpu", "extras": [f"needs-{count}"]}
            write_notebook(home / f"work/{count}.ipynb", "1", torch_env=extras, kernel="torch-cpu")
        with jupyter_server(home / "work", shop.env, app="jupyterlab") as server:
            yield browser, server, home


def _times(
    browser: Browser, server: JupyterServer, home: Path, count: int, rounds: int
) -> dict[str, list[float]]:
    """Milliseconds of each round, in a page that was loaded for it."""
    taken: dict[str, list[float]] = {OPENS: [], UNFOLDS: [], TYPES: []}
    for number in range(rounds + 1):
        page = LabPage(browser, server, home / "pictures", f"{count}-{number}")
        page.open(f"{count}.ipynb")
        expect(page.chip).to_have_text("torch 2.6 · cpu", timeout=4 * RUNS_WITHIN * 1000)
        page.run(0)
        times = {OPENS: page.page.evaluate(_OPEN), UNFOLDS: page.page.evaluate(_UNFOLD, count)}
        times[TYPES] = page.page.evaluate(_TYPE)
        if number:  # the first is to warm up
            for name, time in times.items():
                taken[name].append(time)
        page.page.close()
    return taken


def told(data: Mapping[str, Any]) -> str:
    """The table of a run, from its raw numbers."""
    rows = [["packages", *(part for name in (OPENS, UNFOLDS, TYPES) for part in (name, "p95"))]]
    for count, times in data["milliseconds"].items():
        cells = [
            milliseconds(value(times[name]) / 1000)
            for name in (OPENS, UNFOLDS, TYPES)
            for value in (median, p95)
        ]
        rows.append([f"{int(count):,}", *cells])
    most = list(data["milliseconds"].values())[-1]
    lines = [
        f"{name}: {milliseconds(median(most[name]) / 1000)} (aim: at most {milliseconds(AIM)})"
        for name in (OPENS, UNFOLDS, TYPES)
    ]
    return "\n".join([table(rows), "", *lines])


def _options(argv: Sequence[str] | None) -> Any:
    parser = program.parser(__doc__)
    parser.add_argument("--packages", type=int, default=1000, help="of the larger notebook (1000)")
    parser.add_argument("--rounds", type=int, default=10, help="how often a page is loaded (10)")
    program.add_json(parser, "time")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
