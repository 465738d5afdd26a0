"""What is asked of a fork, what it cannot be asked, and the handle of a process that another has forked."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kernel_provisioner.inkernel.relocate import kept, relocate
from kernel_provisioner.provisioner import _to_its_end
from kernel_provisioner.warm import ForkedKernel, ForkRequest, WarmUnavailable
from kernel_provisioner.warm.fork_request import differing
from tests.support.waiting import WITHIN, wait_for

CMD = ["/overlays/nb/0001/bin/python", "main.py", "-f", "~/connection.json"]


def test_an_order_is_what_popen_would_be_told() -> None:
    """As jupyter_client starts a kernel: ``~`` is expanded, the parent named, the rest inherited."""
    request = ForkRequest.of(CMD, {"env": {"A": "1"}, "cwd": "/tmp", "pass_fds": (7,), "kernel_id": "k"})
    assert request.argv[-1] == str(Path("~/connection.json").expanduser())
    asked = request.as_request()
    assert asked["env"] == {"A": "1", "JPY_PARENT_PID": str(os.getpid())}
    assert (asked["cwd"], asked["fds"]) == ("/tmp", [0, 1, 2, 7])
    before = os.umask(0o027)
    try:
        assert request.as_request()["umask"] == 0o027
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    "told",
    [
        {"preexec_fn": print},
        {"user": "nobody"},
        {"independent": True},
        {"stdout": subprocess.PIPE},
        {"stderr": subprocess.STDOUT},
    ],
    ids=lambda told: next(iter(told)),
)
def test_what_a_fork_cannot_do_is_refused(told: dict[str, Any]) -> None:
    """Such kernels start normally, with the reason."""
    with pytest.raises(WarmUnavailable):
        ForkRequest.of(CMD, {"env": {}, **told})


def test_streams_may_be_files_and_descriptors(tmp_path: Path) -> None:
    """As Popen takes them."""
    with (tmp_path / "out").open("w") as file:
        request = ForkRequest.of(CMD, {"env": {}, "stdout": file, "stderr": subprocess.DEVNULL, "stdin": 5})
        assert (request.stdin, request.stdout, request.stderr) == (5, file.fileno(), subprocess.DEVNULL)


def test_an_environment_fits_whatever_its_overlay_is() -> None:
    """Paths in it are compared as if both were one; pip's, uv's and the GPUs' variables not at all."""
    one = ForkRequest.of(
        CMD, {"env": env_in("/overlays/nb/0001", CUDA_VISIBLE_DEVICES="0", TORCH_OVERLAY="{}")}
    )
    two = ForkRequest.of(["/o/b/0002/bin/python"], {"env": env_in("/o/b/0002", CUDA_VISIBLE_DEVICES="1")})
    here = Path("/warm/0001")
    assert differing(one.environ_in(here), two.environ_in(here)) == []
    assert one.environ_in(here)["VIRTUAL_ENV"] == "/warm/0001"
    assert "TORCH_OVERLAY" not in one.environ_in(here)


@pytest.mark.parametrize("name", ["KERNEL_TOKEN", "UV_INDEX_MINE_PASSWORD", "PIP_INDEX_URL"])
def test_what_is_one_kernels_alone_never_reaches_the_fork_server(name: str) -> None:
    """Its memory is that of every kernel that it forks; the kernel itself is told."""
    request = ForkRequest.of(CMD, {"env": env_in("/overlays/nb/0001", **{name: "secret"})})
    assert "secret" not in str(request.environ_in(Path("/warm/0001")))
    assert request.as_request()["env"][name] == "secret"


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "LD_LIBRARY_PATH", "LANG", "PYTHONHASHSEED", "ANYTHING"])
def test_any_other_variable_counts(name: str) -> None:
    """Set, changed or missing."""
    assert differing({"A": "1", name: "1"}, {"A": "1"}) == [name]
    assert differing({name: "1"}, {name: "2"}) == [name]


def env_in(overlay: str, **more: str) -> dict[str, str]:
    """An environment as a kernel in ``overlay`` has it."""
    return {
        "VIRTUAL_ENV": overlay,
        "PATH": f"{overlay}/bin:/usr/bin",
        "TORCH_EXTENSIONS_DIR": f"{overlay}/torch_extensions",
        "UV_CONSTRAINT": f"file://{overlay}/constraints.txt",
        **more,
    }


def test_a_handle_tells_how_its_process_ended() -> None:
    """The status of an exit, or the signal; asked again, the same."""
    quick, slow = forked("import sys; sys.exit(3)"), forked("import time; time.sleep(600)")
    assert quick.wait(WITHIN) == 3
    assert quick.poll() == quick.returncode == 3
    assert slow.poll() is None
    with pytest.raises(TimeoutError):
        slow.wait(0.1)
    slow.send_signal(signal.SIGINT)
    assert slow.wait(WITHIN) != 0
    for end, status in (("terminate", -signal.SIGTERM), ("kill", -signal.SIGKILL)):
        process = forked("import time; time.sleep(600)")
        getattr(process, end)()
        assert process.wait(WITHIN) == status
        process.send_signal(signal.SIGKILL)  # to nobody


def test_a_handle_that_is_dropped_leaves_no_zombie() -> None:
    """Whoever forgets a kernel is not made to wait for it, and the system keeps nothing of it."""
    process = forked("import sys; sys.stdin.read()")
    pid = process.pid
    del process
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the process to be waited for")


def test_a_start_that_is_cancelled_leaves_no_kernel() -> None:
    """The fork, which may be half-way then, is waited for and ended."""
    kernel = forked("import time; time.sleep(600)")

    async def cancelled() -> None:
        on_its_way = asyncio.get_running_loop().create_future()
        start = asyncio.ensure_future(_to_its_end(on_its_way))
        await asyncio.sleep(0)
        start.cancel()
        await asyncio.sleep(0)
        assert not start.done()
        on_its_way.set_result(kernel)
        with pytest.raises(asyncio.CancelledError):
            await start

    asyncio.run(cancelled())
    assert kernel.wait(WITHIN) == -signal.SIGKILL


def test_paths_that_modules_keep_are_found_and_mended() -> None:
    """In names, lists, dictionaries and tuples, as text and as bytes; nothing else is touched."""
    module: Any = type(sys)("keeps")
    module.PREFIX, module.EXECUTABLE, module.OTHER = "/old/prefix", b"/old/prefix/bin/python", "/else"
    module.PATHS = ["/usr", "/old/prefix/share"]
    module.CONFIG = {"dirs": [("a", "/old/prefix/etc")], "count": 1}
    no_modules: dict[str, Any] = {"keeps.nothing": None, "keeps.object": object()}  # as imports leave some
    sys.modules.update({"keeps": module, **no_modules})
    try:
        relocate(kept(("/old/prefix",)), {"/old/prefix": "/new"})
    finally:
        for name in ("keeps", *no_modules):
            del sys.modules[name]
    assert (module.PREFIX, module.EXECUTABLE, module.OTHER) == ("/new", b"/new/bin/python", "/else")
    assert module.PATHS == ["/usr", "/new/share"]
    assert module.CONFIG == {"dirs": [("a", "/new/etc")], "count": 1}


def forked(code: str) -> ForkedKernel:
    """The handle of a child of this process that nothing else knows how to wait for."""
    return ForkedKernel(os.posix_spawn(sys.executable, [sys.executable, "-c", code], os.environ))
