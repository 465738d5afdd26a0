"""From "start a kernel for this notebook" to a command and an environment.

``main`` is the command in the ``kernel.json`` files that exist, which import it from here.
"""

from __future__ import annotations


def main() -> None:
    """Become the kernel that the command line names; see ``argv``."""
    from .argv import main as become_kernel

    become_kernel()
