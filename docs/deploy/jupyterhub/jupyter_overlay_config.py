"""What notebooks on shared torch may install: put it in /opt/jupyterhub/etc/jupyter.

Users can add rules of their own, and cannot take one of these away.
"""

GIB = 1 << 30

c = get_config()  # noqa: F821 - Jupyter puts it there

# Whom a cell names where a rule refuses something.
c.TorchPolicy.contact = "the machine's admins, hub-help@example.org"

# Each brings a framework of several gigabytes of its own; notebooks here share one.
c.TorchPolicy.denied = ["tensorflow*", "jaxlib"]

# Wheels only: nothing is compiled on this host.
c.TorchPolicy.source_builds = "never"

# The most that one notebook may add to its base.
c.TorchPolicy.max_packages = 300
c.TorchPolicy.max_bytes = 8 * GIB
c.TorchPolicy.max_seconds = 3600

# Overlays on a disk with quotas, where homes are small. The directory above must exist, one for each user.
# import getpass
# c.TorchOverlay.overlay_root = f"/scratch/{getpass.getuser()}/torch-overlays"
