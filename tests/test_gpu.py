"""Kernels that compute on a GPU: chosen by ``auto``, trained in an overlay, warm, and two at once.

The same tests run on the CPU with the real base in every run, and on this machine's GPU with
``make test-gpu``: there ``KERNEL_PROVISIONER_TEST_GPU_TORCH`` names an interpreter that imports a torch
for that GPU, which is adopted as it is. No network is needed: the extra comes from a local index.
What was seen goes to ``test-artefacts/gpu.json``; docs/cuda.md tells it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TorchBase
from tests.support.environ import clean_environment
from tests.support.index import serve_index
from tests.support.notebooks import printed_in, write_notebook
from tests.support.parts import need
from tests.support.runners import run_well
from tests.support.server import JupyterServer, jupyter_server
from tests.support.waiting import patient
from tests.support.warm import WARM, starts, warm_up
from tests.support.wheels import build_wheel

TORCH = "KERNEL_PROVISIONER_TEST_GPU_TORCH"
TRAIN = """
import json, tiny_extra, torch
device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)
x = torch.randn(1024, 8, device=device)
y = x.sum(1, keepdim=True)
model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1)).to(device)
optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
losses = []
for _ in range(200):
    loss = torch.nn.functional.mse_loss(model(x), y)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    losses.append(loss.item())
name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
print(json.dumps({"device": device, "name": name, "torch": torch.__version__, "losses": losses[::199]}))
"""

pytestmark = [pytest.mark.system, pytest.mark.slow]


@dataclasses.dataclass
class Machine:
    """Where a notebook is to compute: ``device`` as torch calls it, on the base of ``tag``."""

    device: str
    tag: str
    home: Path
    env: dict[str, str]
    seen: dict[str, Any] = dataclasses.field(default_factory=dict)

    def command(self, *words: str) -> dict[str, Any]:
        """What ``jupyter overlay WORDS --json`` says."""
        program = [sys.executable, "-m", "kernel_provisioner.cli.app", *words, "--json"]
        told: dict[str, Any] = json.loads(run_well(program, self.home, self.env).stdout)
        return told

    def notebook(self, name: str) -> Path:
        """A notebook that trains a small model, on whatever ``auto`` chooses."""
        return write_notebook(self.home / name, TRAIN, torch_env={"extras": ["tiny-extra"]})

    def train(self, name: str) -> dict[str, Any]:
        """Run such a notebook without a browser; what it printed."""
        output = self.home / f"ran-{name}"
        self.command("run", str(self.notebook(name)), "--output", str(output))
        return learnt(printed_in(output))


def learnt(printed: str) -> dict[str, Any]:
    """What a training printed, whose loss has to be a hundredth of what it was."""
    told: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
    first, last = told["losses"]
    assert last < first / 100
    return told


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("cpu", marks=[pytest.mark.torch, pytest.mark.network]),
        pytest.param("cuda", marks=pytest.mark.gpu),
    ],
)
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The base of this device, and an index on this machine with the one extra."""
    home = tmp_path_factory.mktemp(f"gpu-{request.param}")
    with serve_index() as index:
        index.publish(build_wheel(home / "wheels", "tiny-extra"))
        if request.param == "cpu":
            base: TorchBase = request.getfixturevalue("torch_base_home")
            env = base.environment(home, UV_DEFAULT_INDEX=index.default)
            yield Machine("cpu", "cpu", home, {**env, "CUDA_VISIBLE_DEVICES": ""})
            return
        env = clean_environment(home, index=index)
        machine = Machine("cuda", "", home, env)
        adopted = machine.command("base", "adopt", str(_environment(home)), "--user")
        machine.tag = adopted["tag"]
        yield machine
    artefacts = Path("test-artefacts")
    artefacts.mkdir(exist_ok=True)
    (artefacts / "gpu.json").write_text(json.dumps(machine.seen, indent=1) + "\n", encoding="utf-8")


def _environment(home: Path) -> Path:
    """An environment with this machine's torch and an ipykernel, which base adopt takes as it is."""
    torch = os.environ.get(TORCH, "")
    need(torch, f"{TORCH} names no interpreter that imports a torch for this machine's GPU")
    asked = subprocess.run([torch, "-c", "import torch, ipykernel"], check=False, capture_output=True)
    if asked.returncode == 0:
        return Path(torch)
    place = home / "with-ipykernel"
    for words in (
        [torch, "-m", "venv", "--system-site-packages", str(place)],
        [str(place / "bin/python"), "-m", "pip", "install", "--quiet", "ipykernel"],  # as pip is set up
    ):
        subprocess.run(words, check=True, timeout=patient(300.0))
    return place


@pytest.fixture(scope="module")
def server(machine: Machine) -> Iterator[JupyterServer]:
    """A Jupyter server that starts kernels warm."""
    with jupyter_server(machine.home / "work", machine.env, options=[WARM]) as running:
        warm_up(running, f"torch-{machine.tag}")
        yield running


def test_auto_chooses_what_the_machine_can_run_and_says_why(machine: Machine) -> None:
    """The reason names the GPU where there is one."""
    told = machine.command("show", str(machine.notebook("chosen.ipynb")))
    assert told["base"]["tag"] == machine.tag
    machine.seen["reason"] = told["reason"]
    assert ("compute capability" in told["reason"]) == (machine.device == "cuda")


def test_a_notebook_trains_in_an_overlay(machine: Machine) -> None:
    """On that device, with a package of its own and the base's torch."""
    told = machine.train("train.ipynb")
    machine.seen["trained"] = told
    assert told["device"] == machine.device


def test_two_notebooks_train_at_once(machine: Machine) -> None:
    """Two kernels share one device."""
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(machine.train, ["one.ipynb", "two.ipynb"]))
    assert [told["device"] for told in both] == [machine.device] * 2


def test_warm_kernels_initialise_the_device_each_for_itself(machine: Machine, server: JupyterServer) -> None:
    """Forks of one process, of which two compute at the same time."""
    with contextlib.ExitStack() as stack:
        sessions = []
        for name in ("warm-one.ipynb", "warm-two.ipynb"):
            write_notebook(server.root / name, TRAIN, kernel=f"torch-{machine.tag}")
            sessions.append(stack.enter_context(server.session(name, f"torch-{machine.tag}")))
        code = TRAIN.replace("tiny_extra, ", "")
        running = [session.begin(code) for session in sessions]
        told = [learnt(each.result(timeout=patient(120.0)).stdout) for each in running]
    assert [each["device"] for each in told] == [machine.device] * 2
    assert starts(server)[-2:] == ["warm", "warm"]
