"""Warm starts by themselves: once torch was imported, where memory is there, and faithful to cells."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_provisioner.settings import load_settings
from kernel_provisioner.system.memory import available_memory
from kernel_provisioner.warm import ForkRequest, WarmContext, WarmUnavailable
from kernel_provisioner.warm.pool import Pool
from tests.conftest import TorchBase
from tests.support.bases import Bench
from tests.support.notebooks import write_notebook
from tests.support.server import JupyterServer, jupyter_server
from tests.support.session import Session
from tests.support.waiting import wait_for
from tests.support.warm import AUTO, WARM_WITHIN, everywhere, fork_server, starts

GIB = 1024**3
THREADS = "import os\nos.environ['OMP_NUM_THREADS'] = '1'\nimport torch\nprint(torch.get_num_threads())"


@pytest.fixture(scope="module")
def server(torch_base_home: TorchBase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    """A server as it is without any setting."""
    home = tmp_path_factory.mktemp("warm-auto")
    options = [AUTO] if everywhere() else []
    with jupyter_server(home / "work", torch_base_home.environment(home), options=options) as running:
        yield running


def restarted_warm(server: JupyterServer, session: Session) -> None:
    """Restart until the kernel starts warm: the fork server takes two seconds to import torch."""

    def warm() -> bool:
        session.restart()
        return starts(server)[-1:] == ["warm"]

    wait_for(warm, "a warm start", within=WARM_WITHIN, poll=0.5)


@pytest.mark.system
@pytest.mark.torch
@pytest.mark.slow
def test_kernels_start_warm_once_one_has_imported_torch(server: JupyterServer) -> None:
    """Without any setting: before that there is no fork server; after it the next notebook starts warm."""
    for name in ("first.ipynb", "second.ipynb"):
        write_notebook(server.root / name, torch_env={"accelerator": "cpu"})
    with server.session("first.ipynb", "torch-cpu") as session:
        assert session.execute("1").status == "ok"
        session.restart()
        assert starts(server)[-1] == "normally: no kernel of this server has imported torch yet"
        assert session.execute("import torch").status == "ok"
        assert fork_server(server).is_running()
    with server.session("second.ipynb", "torch-cpu") as session:
        restarted_warm(server, session)
        ran = session.execute("import torch; print(int(torch.ones(42).sum()))")
        assert ran.text == "42\n", "it says nothing, for nothing is other than usual"


@pytest.mark.system
@pytest.mark.torch
@pytest.mark.slow
def test_what_a_cell_sets_before_it_imports_torch_counts_from_the_next_start_on(
    server: JupyterServer,
) -> None:
    """A warm kernel cannot heed it: it says so once, and its notebook's next kernels start normally."""
    write_notebook(server.root / "threads.ipynb", torch_env={"accelerator": "cpu"})
    with server.session("threads.ipynb", "torch-cpu") as session:
        session.execute("import torch")
        restarted_warm(server, session)
        assert session.execute("import os\nos.environ['MINE'] = '1'").text == ""
        told = session.execute(THREADS).text
        assert "OMP_NUM_THREADS is read when torch is imported" in told
        assert "Restart the kernel" in told
        assert "read when" not in session.execute(THREADS).text, "once"
        session.restart()
        assert starts(server)[-1].endswith("sets what torch reads when it is imported: OMP_NUM_THREADS")
        assert session.execute(THREADS).text == "1\n"


@pytest.fixture
def torch_in_this_process(tmp_path: Path) -> Iterator[None]:
    """As in a kernel that has imported torch: its library is among what this process has loaded."""
    library = tmp_path / "libtorch_cpu.so"
    library.write_bytes(bytes(mmap.PAGESIZE))
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ):
        yield


@pytest.mark.usefixtures("torch_in_this_process")
def test_no_fork_server_is_started_unasked_where_memory_is_short(bench: Bench) -> None:
    """Under 2 GiB; the next start says so. As soon as there is more, there is one."""
    settings = load_settings({**bench.env, "TORCH_OVERLAY_ROOT": str(bench.home / "fork servers")})
    context = WarmContext(bench.base(), settings)
    request = ForkRequest((str(bench.home / "overlay/bin/python"),), dict(os.environ), os.fspath(bench.home))
    left = [GIB]
    pool = Pool(lambda: left[0])
    pool.start_with(os.getpid(), context, request, idle=600.0)

    def says(what: str) -> bool:
        with pytest.raises(WarmUnavailable) as told:
            pool.fork(context, request, idle=600.0, auto=True)
        return what in str(told.value)

    wait_for(lambda: says("memory is short: 1.0 GiB of it is available"), "the reason")
    left[0] = 3 * GIB
    wait_for(lambda: says("there can be no fork server"), "one, which finds that this torch is a fake")


@pytest.mark.parametrize(
    ("files", "bytes_left"),
    [
        ({}, None),
        ({"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    4096 kB\n"}, 4096 * 1024),
        (
            {
                "proc/meminfo": "MemAvailable:    4096 kB\n",
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/memory.max": "1000\n",
                "sys/fs/cgroup/a/memory.current": "900\n",
                "sys/fs/cgroup/a/memory.stat": "anon 1\ninactive_file 50\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
                "sys/fs/cgroup/a/b/memory.current": "900\n",
            },
            150,
        ),
        (
            {
                "proc/meminfo": "MemAvailable:    4096 kB\n",
                "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1500\n",
                "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 20\n",
            },
            520,
        ),
    ],
    ids=["unknown", "machine", "group above", "first version of control groups"],
)
def test_available_memory_is_the_least_of_what_machine_and_groups_leave(
    files: dict[str, str], bytes_left: int | None, tmp_path: Path
) -> None:
    """A container's limit counts, one above it too; page cache that can be dropped is available."""
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert available_memory(tmp_path) == bytes_left
