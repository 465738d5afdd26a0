"""The collector: which overlays there are, which nobody will miss, and their removal.

Locks are the marks. A kernel holds its overlay's lock for as long as it lives, a builder holds
its own, so what is alive is kept whatever its age and whatever the clock says.
"""

from __future__ import annotations

from .account import Account, Environment, Shared, account
from .decide import Policy, doomed
from .survey import Found, Overlay, survey
from .sweep import Kept, Removed, Swept, forget, sweep

__all__ = [
    "Account",
    "Environment",
    "Found",
    "Kept",
    "Overlay",
    "Policy",
    "Removed",
    "Shared",
    "Swept",
    "account",
    "doomed",
    "forget",
    "survey",
    "sweep",
]
