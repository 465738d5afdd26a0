"""The environment variables of a kernel that runs in an overlay.

They make ``%pip``, ``!pip``, ``!uv pip``, ``!python``, ``!torchrun`` and subprocesses land in
the overlay, and hold what is installed there to the base's versions.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ..accelerators import TAGS
from ..manifest import BaseManifest
from ..policy import OPEN, Policy
from ..uv import index_variables
from .pipconfig import find_links
from .skeleton import CONSTRAINTS

# Left in place they would pull another environment's packages or interpreter into the overlay.
REMOVED = frozenset({
    "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__", "CONDA_PREFIX",
    "UV_PYTHON", "UV_PROJECT", "UV_PROJECT_ENVIRONMENT", "UV_SYSTEM_PYTHON", "UV_TARGET", "UV_PREFIX",
    "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_ROOT", "PIP_PYTHON", "PIP_REQUIRE_VIRTUALENV",
})  # fmt: skip


def kernel_environment(
    environ: Mapping[str, str],
    overlay: Path,
    base: BaseManifest,
    receipts: Path,
    policy: Policy = OPEN,
) -> dict[str, str]:
    """``environ`` as a kernel in ``overlay`` should see it; ``receipts`` is the base's directory of them.

    What it says of ``policy`` are defaults for pip and uv, which the user of the kernel can change.
    """
    env = {name: value for name, value in environ.items() if name not in REMOVED}
    env = _defaults(index_variables(env, policy), policy)
    env["VIRTUAL_ENV"] = str(overlay)
    env["PATH"] = os.pathsep.join([str(overlay / "bin"), env.get("PATH", os.defpath)])
    env["PYTHONNOUSERSITE"] = "1"
    # Both constrain what is installed and what source builds see: a build that needs torch gets
    # the base's version or fails, never the newest with its accelerator libraries.
    # pip and uv split these on blanks, so a path with one is given as a URL.
    for name in ("UV_CONSTRAINT", "UV_BUILD_CONSTRAINT", "PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"):
        env[name] = _spelt(overlay / CONSTRAINTS)
    # What insists on installing a base package anew finds its receipt, not its gigabytes.
    env["UV_FIND_LINKS"] = ",".join(filter(None, [_spelt(receipts), env.get("UV_FIND_LINKS")]))
    env["PIP_FIND_LINKS"] = " ".join([_spelt(receipts), *find_links(env)])
    # uv then asks PyTorch's own host for torch even where the installed one will do, and fails where
    # it cannot be reached: not on a base whose torch had to come from elsewhere.
    if base.tag in TAGS and base.installer != "pip" and not policy.indexes:
        env["UV_TORCH_BACKEND"] = base.tag
    env["TORCH_EXTENSIONS_DIR"] = str(overlay / "torch_extensions")
    if base.adopted and any(os.access(place, os.W_OK) for place in base.site_dirs):
        # Python would write bytecode into an environment that is to be left as it stands. It goes
        # where the base is registered, so that what is compiled once serves every overlay.
        env["PYTHONPYCACHEPREFIX"] = str(receipts.parent / "bytecode")
    return env


def _defaults(env: dict[str, str], policy: Policy) -> dict[str, str]:
    """What pip and uv do of themselves under a policy."""
    if policy.offline:
        env.update(UV_OFFLINE="1", PIP_NO_INDEX="1")
    if policy.indexes:
        first, *others = policy.indexes
        env.update(PIP_INDEX_URL=first, PIP_EXTRA_INDEX_URL=" ".join(others))
        env["PIP_FIND_LINKS"] = ""
    if policy.cooldown:
        env["UV_EXCLUDE_NEWER"] = f"{policy.cooldown / 3600:.0f} hours"
    if policy.buildable is not None:
        env["PIP_ONLY_BINARY"] = ":all:"  # uv pip has no such variable
    return env


def _spelt(path: Path) -> str:
    """A path as pip and uv take it from a variable that they split on blanks (uv also on commas)."""
    text = str(path)
    return path.as_uri() if any(char in text for char in " ,") else text
