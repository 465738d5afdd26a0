"""A cluster: a hub whose users' servers are Slurm jobs, and notebooks as batch jobs, on one shared base.

The environment, with the base in it, is on a path that every node sees; overlays are on the node's
own disk. Controller and node are this machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_provisioner.system import locks
from tests.support import hub as hubs
from tests.support.environ import clean_environment, default_index
from tests.support.index import LocalIndex, serve_index
from tests.support.notebooks import write_notebook
from tests.support.parts import need
from tests.support.server import RequestFailed
from tests.support.slurm import DEPLOY, Slurm, running_slurm
from tests.support.tiny import offer_tiny_torch
from tests.support.users import User, install, public_place, system_python
from tests.support.waiting import patient, wait_for
from tests.support.wheels import build_wheel

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.slow, pytest.mark.network]

EXTRA = {"accelerator": "cpu", "extras": ["good-package"]}
WHERE = "import good_package, torch; print(torch.__file__, good_package.__file__)"
ENDS_WITHIN = patient(120.0)  # seconds for a batch job


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A cluster with a hub, two users, and what all nodes share."""

    slurm: Slurm
    hub: hubs.Hub
    reach: dict[str, str]

    @property
    def shared(self) -> Path:
        """The environment that every node sees."""
        return self.hub.installation.prefix

    def environment(self, user: User) -> dict[str, str]:
        """What a user's login shell has."""
        return {"PATH": f"{self.shared}/bin:/usr/bin:/bin", "HOME": str(user.home), "USER": user.name,
                "LANG": "C.UTF-8", **self.reach}  # fmt: skip

    def notebook(self, user: User, name: str, *cells: str) -> None:
        """A notebook of the user's own."""
        write_notebook(user.home / name, *cells, torch_env=EXTRA, kernel="torch-cpu")
        user.give(user.home)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """All of it, as the page says how to set it up; the base's torch is a tiny one."""
    need(os.getuid() == 0, "needs root, to start Slurm's daemons, and jobs as their users")
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(public_place())
        slurm = stack.enter_context(running_slurm(root))
        group, people = stack.enter_context(hubs.real_users(root, "ada", "max"))
        index = stack.enter_context(serve_index(upstream=default_index()))
        offer_tiny_torch(index, root / "wheels", "cpu")
        index.publish(build_wheel(root / "wheels", "good-package"))
        installation = set_up(root, system_python(people[0]), index)
        reach = {"UV_DEFAULT_INDEX": index.default, "TORCH_OVERLAY_INDEX": index.template}
        reach |= {"UV_NO_CONFIG": "1"}
        config = root / "slurm_hub_config.py"
        config.write_text(
            f"import os\nos.environ.update({slurm.environment!r})\n"
            f"load_subconfig({str(hubs.DEPLOYMENT / 'jupyterhub_config.py')!r})\n"
            f"load_subconfig({str(DEPLOY / 'jupyterhub_config.py')!r})\n"
        )
        told = reach | slurm.environment
        api = stack.enter_context(hubs.running_hub(installation, group, people, told, config))
        yield Cluster(slurm, hubs.Hub(installation, api, people, index), reach)


def set_up(root: Path, python: Path, index: LocalIndex) -> hubs.Installation:
    """The environment on the shared path, and the base in it."""
    installation = hubs.Installation(root, root / "shared/jupyter", hubs.install_proxy(root))
    installation.prefix.parent.mkdir()
    install(installation.prefix, python, "jupyterhub", "jupyter_server", "batchspawner")
    command = [str(installation.overlay), "base", "create", "cpu", "--sys-prefix"]
    env = clean_environment(root / "admin", index=index)
    done = subprocess.run(
        command, env=env, cwd="/", capture_output=True, text=True, timeout=patient(300), check=False
    )
    assert done.returncode == 0, done.stderr
    return installation


def test_a_users_server_is_a_job_and_runs_notebooks(cluster: Cluster) -> None:
    """Through the hub's proxy: torch from the shared path, the package from the node's own disk."""
    ada = cluster.hub.users[0]
    server = cluster.hub.server(ada)
    (job,) = cluster.slurm.jobs()
    assert (job.user, job.state) == (ada.name, "RUNNING")
    cluster.notebook(ada, "deep/first.ipynb")
    with server.session("deep/first.ipynb", "torch-cpu") as session:
        done = session.execute(WHERE)
        assert done.status == "ok", done.text
        torch, extra = done.stdout.split()[-2:]
        assert torch.startswith(f"{cluster.shared}/share/jupyter/torch-bases/cpu-")
        assert extra.startswith(f"{cluster.slurm.local}/{ada.name}/torch-overlays/first-")
        assert session.execute("import os; print(os.environ['SLURM_JOB_ID'])").stdout.strip() == job.id
        base = Path(torch.partition("/venv/")[0])
        assert locks.is_held(base.with_name(f"{base.name}.lock")), "base remove sees the kernel of a job"
    mine = cluster.slurm.local / ada.name
    assert (mine.stat().st_mode & 0o777, mine.owner()) == (0o700, ada.name)
    cluster.hub.stop(ada)
    wait_for(lambda: not cluster.slurm.jobs(), "the job to end with its server")


def test_a_cancelled_job_leaves_no_kernel_and_no_lock(cluster: Cluster) -> None:
    """scancel, or the end of the job's time: kernels end with it, and what they held is free."""
    ada = cluster.hub.users[0]
    cluster.notebook(ada, "cut.ipynb")
    server = cluster.hub.server(ada)
    with contextlib.suppress(RequestFailed), server.session("cut.ipynb", "torch-cpu") as session:
        assert session.execute("import good_package").status == "ok"
        cluster.slurm.cancel_all()
        session.close()
    (use,) = cluster.slurm.local.glob(f"{ada.name}/torch-overlays/cut-*/0001/use.lock")
    wait_for(lambda: not locks.is_held(use), "the kernel to let go of its overlay")


def test_a_batch_job_needs_no_network(cluster: Cluster) -> None:
    """Locked and prebuilt on the login node; on the compute node nothing is asked of any index."""
    max_ = cluster.hub.users[1]
    cluster.notebook(max_, "train.ipynb", WHERE)
    for words in (("lock", max_.home / "train.ipynb"), ("prebuild", max_.home / "train.ipynb")):
        max_.run("jupyter", "overlay", *words, env=cluster.environment(max_))
    script = max_.home / "train.sbatch"
    script.write_text((DEPLOY / "train.sbatch").read_text())
    asked = len(cluster.hub.index.asked)
    job = cluster.slurm.submit(max_, script, cluster.environment(max_))
    cluster.slurm.wait(job, within=ENDS_WITHIN)
    said = (max_.home / f"slurm-{job}.out").read_text()
    ran = max_.home / f"train-{job}.ipynb"
    assert ran.exists(), said
    (cell,) = json.loads(ran.read_text())["cells"]
    printed = "".join("".join(output.get("text", "")) for output in cell["outputs"])
    assert f"{cluster.slurm.local}/{max_.name}/torch-overlays/train-" in printed, said
    assert f"{cluster.shared}/share/jupyter/torch-bases/cpu-" in printed
    assert len(cluster.hub.index.asked) == asked
