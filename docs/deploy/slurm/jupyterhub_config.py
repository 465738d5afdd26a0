"""JupyterHub whose users' servers are Slurm jobs. See README.md beside it.

It goes on top of the settings for one host: load_subconfig("…/docs/deploy/jupyterhub/jupyterhub_config.py")
"""

import sys

import batchspawner  # noqa: F401 - teaches the hub to hear from a job where its server listens

c = get_config()  # noqa: F821 - JupyterHub puts it there

c.JupyterHub.spawner_class = "batchspawner.SlurmSpawner"
c.JupyterHub.hub_ip = "0.0.0.0"  # noqa: S104 - jobs talk to the hub from their nodes
c.SlurmSpawner.batchspawner_singleuser_cmd = f"{sys.prefix}/bin/batchspawner-singleuser"

# Submit as the user: a hub that is root needs no sudo.
c.SlurmSpawner.exec_prefix = "runuser -u {username} --"
c.SlurmSpawner.req_runtime = "8:00:00"
c.SlurmSpawner.req_memory = "8G"
c.SlurmSpawner.req_nprocs = "2"
