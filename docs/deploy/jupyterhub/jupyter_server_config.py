"""For every user's server: put it in /opt/jupyterhub/etc/jupyter."""

c = get_config()  # noqa: F821 - Jupyter puts it there

# Kernels listen on ports of this host, and any of its users can connect to those. Without a key
# they cannot make a kernel run anything, but they could read along what it prints. Encrypted, they
# cannot. "auto": for kernels that can do it, and those on shared torch can.
c.MappingKernelManager.transport_encryption = "auto"

# A kernel that nobody looks at for a day is ended: it holds memory, and the base that it runs on.
c.MappingKernelManager.cull_idle_timeout = 24 * 3600  # seconds
