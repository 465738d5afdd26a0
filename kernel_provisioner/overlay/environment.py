"""The environment variables of a kernel that runs in an overlay.

They make ``%pip``, ``!pip``, ``!uv pip``, ``!python``, ``!torchrun`` and subprocesses land in
the overlay. What holds installs there to the base's versions is no variable, see ``guards.py``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ..policy import OPEN, Policy
from ..uv.client import index_variables

# Left in place they would pull another environment's packages or interpreter into the overlay, or take
# the place of what its pip.conf says.
REMOVED = frozenset({
    "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__", "CONDA_PREFIX",
    "UV_PYTHON", "UV_PROJECT", "UV_PROJECT_ENVIRONMENT", "UV_SYSTEM_PYTHON", "UV_TARGET", "UV_PREFIX",
    "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_ROOT", "PIP_PYTHON", "PIP_REQUIRE_VIRTUALENV",
    "PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT",
})  # fmt: skip


def kernel_environment(
    environ: Mapping[str, str],
    overlay: Path,
    policy: Policy = OPEN,
) -> dict[str, str]:
    """``environ`` as a kernel in ``overlay`` should see it.

    What it says of ``policy`` are defaults for pip and uv, which the user of the kernel can change.
    """
    env = {name: value for name, value in environ.items() if name not in REMOVED}
    env = _defaults(index_variables(env, policy), policy)
    env["VIRTUAL_ENV"] = str(overlay)
    env["PATH"] = os.pathsep.join([str(overlay / "bin"), env.get("PATH", os.defpath)])
    env["PYTHONNOUSERSITE"] = "1"
    if env.get("PIP_CONFIG_FILE") == os.devnull:  # pip would not read the overlay's either
        del env["PIP_CONFIG_FILE"]
    env["TORCH_EXTENSIONS_DIR"] = str(overlay / "torch_extensions")
    return env


def _defaults(env: dict[str, str], policy: Policy) -> dict[str, str]:
    """What pip and uv do of themselves under a policy."""
    if policy.offline:
        env.update(UV_OFFLINE="1", PIP_NO_INDEX="1")
    if policy.indexes:
        first, *others = policy.indexes
        env.update(PIP_INDEX_URL=first, PIP_EXTRA_INDEX_URL=" ".join(others))
        env.pop("PIP_FIND_LINKS", None)
    if policy.cooldown:
        env["UV_EXCLUDE_NEWER"] = f"{policy.cooldown / 3600:.0f} hours"
    if policy.buildable is not None:
        env["PIP_ONLY_BINARY"] = ":all:"  # uv pip has no such variable
    return env
