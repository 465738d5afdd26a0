"""For the gateway, the machine where the kernels run."""

import os

c = get_config()  # noqa: F821 - Jupyter puts it there

# The server in front asks which kernels there are; it shows its users only those that it started.
c.JupyterWebsocketPersonality.list_kernels = True

# A kernel gets PATH, KERNEL_* and what is named here; without HOME, "~" in a cell is a guess, and
# without uv's and pip's settings %pip asks another index than the builder.
c.KernelGatewayApp.env_process_whitelist = [
    "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE", "HTTPS_PROXY", "NO_PROXY",
    *(name for name in os.environ if name.startswith(("UV_", "PIP_", "XDG_", "LC_"))),
]  # fmt: skip
