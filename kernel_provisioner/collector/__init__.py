"""The collector: which overlays there are, which are unused, and their removal.

Locks are the marks. A kernel holds its overlay's lock for as long as it lives, a builder holds
its own, so what is alive is kept whatever its age and whatever the clock says.
"""

from __future__ import annotations

from .collect import Collected, Kept, Removed, collect, forget
from .decide import Policy, removable
from .scan import Found, Overlay, scan
from .usage import Account, Environment, Shared, account

__all__ = [
    "Account",
    "Collected",
    "Environment",
    "Found",
    "Kept",
    "Overlay",
    "Policy",
    "Removed",
    "Shared",
    "account",
    "collect",
    "forget",
    "removable",
    "scan",
]
