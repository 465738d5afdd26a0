"""For the Jupyter server that people open: tell the gateway which notebook each kernel is for."""

from __future__ import annotations

from pathlib import Path

from jupyter_server.gateway.managers import GatewaySessionManager


class NotebookSessions(GatewaySessionManager):
    """Sessions whose kernels learn the notebook's path, in a variable that gateways let through.

    Consoles have a name but no file, and are told nothing.
    """

    def get_kernel_env(self, path: str | None, name: str | None = None) -> dict[str, str]:
        """The environment that a session asks the gateway to start its kernel with."""
        env = super().get_kernel_env(path, name)
        notebook = env["JPY_SESSION_NAME"]
        return {**env, "KERNEL_NOTEBOOK_PATH": notebook} if Path(notebook).is_file() else env


c = get_config()  # noqa: F821 - Jupyter puts it there
c.ServerApp.session_manager_class = NotebookSessions
