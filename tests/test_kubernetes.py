"""Zero to JupyterHub: the values fit its chart, the job makes bases, and a pod runs notebooks on them.

There is no cluster here. The chart's schema checks the values, and what the containers would run is
run, with each volume and file at its place: in a mount namespace of its own, which needs root.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.support.environ import clean_environment, default_index
from tests.support.index import LocalIndex, serve_index
from tests.support.notebooks import write_notebook
from tests.support.parts import need
from tests.support.server import JupyterServer, jupyter_server
from tests.support.tiny import offer_tiny_torch
from tests.support.waiting import patient
from tests.support.wheels import build_wheel

REPOSITORY = Path(__file__).parents[1]
DEPLOY = REPOSITORY / "docs/deploy/kubernetes"
MIRROR = "https://packages.example.org"
SCHEMAS = [
    path
    for path in (
        REPOSITORY / "tests/data/z2jh-singleuser.schema.yaml",
        REPOSITORY.parent / "shared/data/z2jh-values.schema.yaml",  # the whole, where it is at hand
    )
    if path.exists()
]
CHART = {"singleuser": {"storage": {"type": "dynamic", "homeMountPath": "/home/jovyan"}}}
"""The chart's own values that its schema requires; helm adds them before it checks."""

each_schema = pytest.mark.parametrize("schema", SCHEMAS, ids=lambda path: path.name)


@each_schema
def test_the_values_fit_the_chart(schema: Path) -> None:
    """No setting that the chart does not have, none of the wrong kind."""
    assert _complaints(schema, _values()) == []


@each_schema
def test_the_check_finds_what_is_wrong(schema: Path) -> None:
    """A misspelt setting and a file without a place are refused, so the test above means something."""
    wrong = _values()
    wrong["singleuser"]["extraEnvs"] = {}
    del wrong["singleuser"]["extraFiles"]["torch-overlay"]["mountPath"]
    assert len(_complaints(schema, wrong)) == 2


def test_pods_and_job_agree() -> None:
    """The same image, claim and place for the bases; pods read, the job writes."""
    singleuser, pod = _values()["singleuser"], _job()["spec"]["template"]["spec"]
    image = ":".join((singleuser["image"]["name"], singleuser["image"]["tag"]))
    assert {one["image"] for one in _containers()} == {image}
    (volume,) = singleuser["storage"]["extraVolumes"].values()
    (mount,) = singleuser["storage"]["extraVolumeMounts"].values()
    claim = yaml.safe_load((DEPLOY / "volume.yaml").read_text())["metadata"]["name"]
    assert volume["persistentVolumeClaim"] == {"claimName": claim, "readOnly": True}
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": claim}
    assert mount["readOnly"]
    for container in _containers():
        assert container["volumeMounts"] == [{"name": "torch-bases", "mountPath": mount["mountPath"]}]
    assert singleuser["extraEnv"]["JUPYTER_PATH"] == f"{mount['mountPath']}/share/jupyter"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Volumes and a package mirror, and the job done."""
    apart = ["unshare", "--mount", "--propagation", "private", "true"]
    able = os.getuid() == 0 and subprocess.run(apart, check=False).returncode == 0
    need(able, "needs root, and the right to a mount namespace of its own")
    home = tmp_path_factory.mktemp("cluster")
    with serve_index(upstream=default_index()) as index:
        offer_tiny_torch(index, home / "wheels", "cpu", "cu126")
        for name in ("good-package", "tensorflow"):
            index.publish(build_wheel(home / "wheels", name))
        running = Cluster(home, index)
        running.run_job()
        yield running


@pytest.mark.system
@pytest.mark.root
@pytest.mark.slow
@pytest.mark.network
class TestContainers:
    """What the containers run, each path as it is in the cluster."""

    def test_the_job_makes_the_bases(self, cluster: Cluster) -> None:
        """Both are listed by its last container."""
        assert "cpu-torch2.6.0" in cluster.said["list"]
        assert "cu126-torch2.6.0" in cluster.said["list"]

    def test_a_second_job_changes_nothing(self, cluster: Cluster) -> None:
        """Kubernetes may start a container again."""
        before = sorted(cluster.volume.rglob("*"))
        cluster.run_job()
        assert sorted(cluster.volume.rglob("*")) == before

    def test_a_users_notebook_runs_on_the_read_only_base(self, cluster: Cluster, pod: JupyterServer) -> None:
        """torch comes from the volume, the package from the mirror, into the node's own disk."""
        write_notebook(pod.root / "one.ipynb", torch_env={"accelerator": "cpu", "extras": ["good-package"]})
        with pod.session("one.ipynb", "torch-cpu") as session:
            done = session.execute("import torch, good_package; print(torch.__file__, good_package.__file__)")
            assert done.status == "ok", done.text
            torch, extra = done.stdout.split()[-2:]
            assert torch.startswith("/srv/torch/share/jupyter/torch-bases/cpu-")
            assert extra.startswith("/var/tmp/torch-overlays/one-")
            denied = session.execute("open('/srv/torch/share/jupyter/new', 'w')").error
            assert "Read-only file system" in denied

    def test_the_policy_of_the_values_is_in_force(self, cluster: Cluster, pod: JupyterServer) -> None:
        """A package that the values deny is refused, and the cell says whom to ask."""
        write_notebook(pod.root / "two.ipynb", torch_env={"extras": ["tensorflow"]})
        with pod.session("two.ipynb", "torch-cpu") as session:
            told = session.execute("1").text
            assert "tensorflow" in told
            assert "the JupyterHub team (hub@example.org)" in told


@pytest.fixture(scope="module")
def pod(cluster: Cluster) -> Iterator[JupyterServer]:
    """A user's pod, as the values make it: its server in a mount namespace of its own."""
    singleuser = cluster.mapped(_values())["singleuser"]
    files = singleuser["extraFiles"].values()
    python = cluster.container("pod", "ro", {one["mountPath"]: json.dumps(one["data"]) for one in files})
    env = clean_environment(cluster.home / "user", JUPYTER_PREFER_ENV_PATH="0", **singleuser["extraEnv"])
    with jupyter_server(cluster.home / "user/work", env, python=str(python)) as running:
        yield running


class Cluster:
    """A directory for each volume, and the mirror."""

    def __init__(self, home: Path, index: LocalIndex) -> None:
        self.home, self.index = home, index
        self.volume = home / "volume"
        self.volume.mkdir()
        self.said: dict[str, str] = {}
        self.job = self.container("job", "rw", {})

    def mapped(self, shown: Any) -> Any:
        """What a file says, with this test's mirror for the one that it names."""
        return json.loads(json.dumps(shown).replace(MIRROR, self.index.address))

    def run_job(self) -> None:
        """Run the job's containers in their order; each has to end well."""
        for one in self.mapped(_containers()):
            told = {entry["name"]: entry["value"] for entry in one.get("env", ())}
            env = clean_environment(self.home / "job-home", **told)
            program, *words = one["command"]
            assert program == "jupyter", "as the image has it on PATH"
            command = [self.job, "-m", "jupyter", *words]
            done = subprocess.run(
                command, env=env, capture_output=True, text=True, timeout=patient(300), check=False
            )
            assert done.returncode == 0, done.stderr
            self.said[one["name"]] = done.stdout

    def container(self, name: str, how: str, files: Mapping[str, str]) -> Path:
        """A program that runs Python where the volume and each of ``files`` are at their places."""
        disk, etc = self.home / "node", self.home / f"{name}-etc"
        disk.mkdir(exist_ok=True)
        disk.chmod(0o1777)
        shutil.copytree("/etc", etc, symlinks=True)
        for place, content in files.items():
            file = etc / Path(place).relative_to("/etc")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        lines = ["mount -t tmpfs tmpfs /srv", "mkdir /srv/torch", f"mount --bind {self.volume} /srv/torch",
                 f"mount -o remount,bind,{how} /srv/torch", f"mount --bind {disk} /var/tmp",
                 f"mount --bind {etc} /etc"]  # fmt: skip
        program = self.home / f"{name}.sh"
        python = Path(sys.executable)
        lines += [f"export PATH={python.parent}:$PATH", f'exec {python} "$@"']
        inside = "; ".join(lines)
        program.write_text(
            f"#!/bin/sh\nexec unshare --mount --propagation private sh -euc '{inside}' sh \"$@\"\n"
        )
        program.chmod(0o755)
        return program


def _values() -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "values.yaml").read_text()))


def _job() -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "base-job.yaml").read_text()))


def _containers() -> list[dict[str, Any]]:
    pod = _job()["spec"]["template"]["spec"]
    return [*pod["initContainers"], *pod["containers"]]


def _complaints(schema: Path, values: Mapping[str, Any]) -> list[str]:
    """What the chart would say of the values; what every chart sets at its top level is taken as set."""
    rules = yaml.safe_load(schema.read_text())
    rules.pop("required", None)
    merged = copy.deepcopy(dict(values))
    merged["singleuser"]["storage"] |= CHART["singleuser"]["storage"]
    return [error.message for error in jsonschema.Draft7Validator(rules).iter_errors(merged)]
