"""The Jupyter server extension: what JupyterLab's panel, or any other client, asks and tells over REST."""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """Where jupyter_server finds the extension."""
    return [{"module": "kernel_provisioner.server"}]


def _load_jupyter_server_extension(serverapp: Any) -> None:
    """Add the routes to a starting server; called by jupyter_server."""
    from .routes import add_routes

    add_routes(serverapp)
