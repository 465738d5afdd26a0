"""The benchmarks run and print what they promise; how long things take is for them to say, not for tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TorchBase
from tests.support.browser import find_chromium
from tests.support.parts import need

pytestmark = [pytest.mark.system, pytest.mark.network, pytest.mark.slow]

REPOSITORY = Path(__file__).parents[1]


def test_the_launch_benchmark_prints_its_table_and_keeps_every_time(
    torch_base_home: TorchBase, tmp_path: Path
) -> None:
    """Two rounds with a small extra: a header, five rows, the aims, the raw numbers; nothing left behind."""
    raw = tmp_path / "raw.json"
    done = _run(torch_base_home, tmp_path, "--rounds", "2", "--extra", "einops", "--json", str(raw))
    assert done.returncode == 0, done.stderr
    for label in ("machine", "base", "packages", "bare ipykernel in the base", "ready overlay"):
        assert f"\n{label}" in f"\n{done.stdout}"
    assert "1 in an overlay: einops" in done.stdout
    assert "ready overlay, kernel_info: " in done.stdout
    assert "new overlay, nothing known, first_cell: " in done.stdout
    kept = json.loads(raw.read_text(encoding="utf-8"))
    assert kept["environment"]["extras"] == "einops"
    assert len(kept["seconds"]) == 2
    for times in kept["seconds"]:
        assert set(times) == {
            "bare ipykernel in the base",
            "ready overlay",
            "new overlay, packages known",
            "new overlay, nothing known",
            "new overlay, empty wheel store",
        }
        for one in times.values():
            assert 0 < one["pre_launch"] < one["kernel_info"] < one["first_cell"]
    assert not list((tmp_path / "cache").glob("torch-overlays-bench-*"))


def test_the_benchmark_of_warm_starts_prints_times_and_memory(
    torch_base_home: TorchBase, tmp_path: Path
) -> None:
    """Both ways, the ratio beside its aim, and what kernels take together; nothing left behind."""
    done = _run(torch_base_home, tmp_path, "--rounds", "1", "--kernels", "2", script="warm.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\nnormal start") == 2
    assert "warm start, until torch is imported: 0." in done.stdout
    assert "warm start, memory with its fork server: " in done.stdout
    assert not list((tmp_path / "cache").glob("torch-overlays-bench-*"))


@pytest.mark.parametrize(
    ("script", "words", "says"),
    [
        ("store.py", ("--notebooks", "3", "--overlays", "20", "--rounds", "1"), "prune --dry-run"),
        ("first_import.py", ("--rounds", "1", "--extra", "einops"), "names in it after the import: "),
        (
            "launch.py",
            ("--rounds", "1", "--extra", "einops", "--ready-store", "--deleted", "200"),
            "new overlay, packages known, first_cell: ",
        ),
        ("disk.py", ("--notebooks", "2", "--extra", "einops"), "2 notebooks: "),
        ("corpus_imports.py", ("einops",), "0 only from a private environment"),
        (
            "crowd.py",
            ("--kernels", "2", "--rounds", "1", "--with-torch", "1", "--private", "0"),
            "PSS of each",
        ),
        (
            "alternatives.py",
            ("--only", "known", "--rounds", "1", "--extra", "einops"),
            "overlay, nothing known",
        ),
    ],
)
def test_each_benchmark_prints_tables_that_its_raw_numbers_give_again(
    torch_base_home: TorchBase, tmp_path: Path, script: str, words: tuple[str, ...], says: str
) -> None:
    """The smallest run there is; the page is made from the raw numbers alone."""
    raw = tmp_path / "raw.json"
    done = _run(torch_base_home, tmp_path, *words, "--json", str(raw), script=script)
    assert done.returncode == 0, done.stderr
    assert says in done.stdout
    code = f"import json, sys, {script[:-3]} as b; print(b.told(json.load(open(sys.argv[1]))))"
    again = subprocess.run([sys.executable, "-c", code, raw], cwd=REPOSITORY / "benchmarks",
                           capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.endswith(again.stdout)
    assert not list((tmp_path / "cache").glob("torch-overlays-bench-*"))


@pytest.mark.browser
def test_the_benchmark_of_the_panel_takes_its_times_in_the_page(tmp_path: Path) -> None:
    """A row for each notebook, and the aims; the page is made from the raw numbers alone."""
    need(find_chromium(), "no Chromium on PATH; on Debian: apt install chromium")
    raw = tmp_path / "raw.json"
    command = [sys.executable, str(REPOSITORY / "benchmarks/panel.py"), "--rounds", "1", "--packages", "30"]
    done = subprocess.run(
        [*command, "--json", str(raw)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "the panel, after its data: " in done.stdout
    times = json.loads(raw.read_text(encoding="utf-8"))["milliseconds"]
    assert list(times) == ["10", "30"]
    assert all(time > 0 for row in times.values() for taken in row.values() for time in taken)


@pytest.mark.browser
def test_the_benchmark_of_clicks_takes_its_times_in_the_page(
    torch_base_home: TorchBase, tmp_path: Path
) -> None:
    """One round of each way, and the aims."""
    need(find_chromium(), "no Chromium on PATH; on Debian: apt install chromium")
    raw = tmp_path / "raw.json"
    done = _run(torch_base_home, tmp_path, "--rounds", "1", "--json", str(raw), script="click.py")
    assert done.returncode == 0, done.stderr
    assert "shared, warm without a setting: 0." in done.stdout
    for times in json.loads(raw.read_text(encoding="utf-8"))["milliseconds"].values():
        assert all(0 < one["page"] < one["idle"] < one["total"] for one in times)


def test_a_base_that_does_not_exist_is_named(torch_base_home: TorchBase, tmp_path: Path) -> None:
    """A wrong --base ends at once, with status 2 and what there is."""
    done = _run(torch_base_home, tmp_path, "--base", "cu999")
    assert done.returncode == 2
    assert "cu999" in done.stderr
    assert "jupyter overlay base list" in done.stderr


def _run(
    base: TorchBase, home: Path, *words: str, script: str = "launch.py"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, REPOSITORY / "benchmarks" / script, *words],
        env=base.environment(home),
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
