"""JupyterHub for the users of one Linux host, whose notebooks share one torch. See README.md beside it."""

import sys

c = get_config()  # noqa: F821 - JupyterHub puts it there

# Reached from outside through a web server that speaks TLS (nginx, Caddy).
c.JupyterHub.bind_url = "http://127.0.0.1:8000"
c.JupyterHub.db_url = "sqlite:////var/lib/jupyterhub/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = "/var/lib/jupyterhub/cookie_secret"  # noqa: S105 - a path
c.ConfigurableHTTPProxy.pid_file = "/var/lib/jupyterhub/proxy.pid"

# A restart of the hub leaves users' servers running, and their kernels.
c.JupyterHub.cleanup_servers = False

# Users of the host, with their own passwords: those of one group, and admins of another.
c.JupyterHub.authenticator_class = "pam"
c.PAMAuthenticator.allowed_groups = {"jupyterhub"}
c.PAMAuthenticator.admin_groups = {"jupyterhub-admin"}

# Each user's server is a process of that user, in their home directory, from the hub's environment.
c.JupyterHub.spawner_class = "jupyterhub.spawner.LocalProcessSpawner"
c.Spawner.cmd = [f"{sys.prefix}/bin/jupyterhub-singleuser"]
c.Spawner.notebook_dir = "~"
c.Spawner.default_url = "/lab"

# The hub hands its own environment on to nobody. What users need of it is named here: proxies,
# certificates, the address of a package mirror.
c.Spawner.environment = {
    # "HTTPS_PROXY": "http://proxy.example.org:3128",
    # "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
    # "UV_DEFAULT_INDEX": "https://mirror.example.org/pypi/simple",
}
