"""Notebooks on one shared torch: a Jupyter kernel provisioner."""

__version__ = "0.1.0"
