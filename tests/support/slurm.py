"""A Slurm cluster of one controller and one node on this machine: started, used, and taken away whole.

Needs root and Debian's slurmctld, slurmd, slurm-client and munge. The cluster has a configuration,
ports and directories of its own: one that this machine may belong to is not touched.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from .parts import need
from .ports import free_port
from .users import User
from .waiting import WITHIN, patient, wait_for

DEPLOY = Path(__file__).parents[2] / "docs/deploy/slurm"
"""The deployment that its page describes, and that is run here."""

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo", "runuser")
STARTS_WITHIN = patient(60.0)
"""Seconds for the daemons, and for a job to leave the queue."""

# What a container or an old kernel can do: no cgroups, no accounting.
_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
MailProg=/bin/true
KillWait=2
Prolog={root}/prolog.sh
TaskProlog={root}/task-prolog.sh
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=65536 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
SlurmdParameters=config_overrides
"""


@dataclasses.dataclass(frozen=True)
class Job:
    """A job in the queue."""

    id: str
    user: str
    state: str


@dataclasses.dataclass(frozen=True)
class Slurm:
    """A running cluster. ``local`` is the node's own disk, ``/local`` in the deployment's files."""

    root: Path
    local: Path

    @property
    def environment(self) -> dict[str, str]:
        """What Slurm's commands have to be told to mean this cluster."""
        return {"SLURM_CONF": str(self.root / "slurm.conf")}

    def jobs(self) -> list[Job]:
        """What is in the queue, whoever's it is."""
        lines = self._command("squeue", "--noheader", "--format=%i %u %T").splitlines()
        return [Job(*line.split()) for line in lines]

    def submit(self, user: User, script: Path, env: Mapping[str, str]) -> str:
        """``sbatch SCRIPT`` by a user, from the script's directory, in ``env``; the job's id."""
        words = ("sbatch", "--parsable", f"--chdir={script.parent}", script)
        return user.run(*words, env={**env, **self.environment}).stdout.strip()

    def wait(self, job: str, *, within: float) -> None:
        """Wait until a job has left the queue."""
        wait_for(lambda: job not in {one.id for one in self.jobs()}, f"job {job} to end", within=within)

    def cancel_all(self) -> None:
        """End every job, and wait until all are gone."""
        self._command("scancel", "--full", "--state=RUNNING", "--partition=main")
        self._command("scancel", "--partition=main")
        wait_for(lambda: not self.jobs(), "the queue to empty", within=STARTS_WITHIN)

    def idle(self) -> bool:
        """Whether the controller answers and has a node for jobs."""
        with contextlib.suppress(AssertionError):
            return "idle" in self._command("sinfo", "--noheader", "--format=%T")
        return False

    def _command(self, *words: str) -> str:
        env = {"PATH": os.environ["PATH"], **self.environment}
        done = subprocess.run(
            words, cwd="/", env=env, capture_output=True, text=True, timeout=WITHIN, check=False
        )
        assert done.returncode == 0, f"{words} ended with {done.returncode}:\n{done.stderr}"
        return done.stdout


@contextlib.contextmanager
def running_slurm(place: Path) -> Iterator[Slurm]:
    """A cluster in ``place``, which every user can enter, ready for jobs; ended with all its jobs."""
    need(os.getuid() == 0, "needs root, as Slurm's daemons do, to start jobs as their users")
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    need(not missing, f"no {', '.join(missing)}; on Debian: apt install slurmctld slurmd slurm-client munge")
    slurm = Slurm(place / "slurm", place / "local")
    for folder in (slurm.root, slurm.local, *(slurm.root / name for name in ("munge", "state", "spool"))):
        folder.mkdir()
    (slurm.root / "munge/key").write_bytes(secrets.token_bytes(1024))
    (slurm.root / "munge/key").chmod(0o400)
    for name in ("prolog.sh", "task-prolog.sh"):
        (slurm.root / name).write_text((DEPLOY / name).read_text().replace("/local/", f"{slurm.local}/"))
        (slurm.root / name).chmod(0o755)
    host = socket.gethostname().partition(".")[0]
    conf = _CONF.format(root=slurm.root, host=host, controller_port=free_port(), node_port=free_port())
    (slurm.root / "slurm.conf").write_text(conf)
    munge = slurm.root / "munge"
    with contextlib.ExitStack() as stack:
        kept = {
            "key-file": "key",
            "socket": "socket",
            "pid-file": "pid",
            "log-file": "log",
            "seed-file": "seed",
        }
        options = [f"--{option}={munge / name}" for option, name in kept.items()]
        stack.enter_context(_daemon(slurm, "munged", "--foreground", *options))
        wait_for((munge / "socket").exists, "munged to listen", within=STARTS_WITHIN)
        stack.enter_context(_daemon(slurm, "slurmctld", "-D"))
        stack.enter_context(_daemon(slurm, "slurmd", "-D"))
        _wait_until_idle(slurm)
        stack.callback(slurm.cancel_all)
        yield slurm


@contextlib.contextmanager
def _daemon(slurm: Slurm, *command: str) -> Iterator[None]:
    """One of the cluster's programs, in the foreground, what it says in a log of its own."""
    env = {"PATH": os.environ["PATH"], **slurm.environment}
    with (slurm.root / f"{command[0]}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=slurm.root, env=env, stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=log, start_new_session=True)  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_idle(slurm: Slurm) -> None:
    try:
        wait_for(slurm.idle, "Slurm to have an idle node", within=STARTS_WITHIN)
    except AssertionError as error:
        logs: Sequence[Path] = sorted(slurm.root.glob("*.log"))
        said = "\n".join(f"{log.name}:\n{log.read_text()}" for log in logs)
        raise AssertionError(f"{error}\n{said}") from None
