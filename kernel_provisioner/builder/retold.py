"""A failed resolution in the words of the notebook."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..errors import InstallFailed, OverlayError, ResolutionFailed
from ..uv.messages import fix_for
from .spec import BuildSpec

if TYPE_CHECKING:
    from ..index.pytorch import Router  # a web server, which a known lock never needs

_NAMED = 8  # extras that a message names; a notebook may declare hundreds


def retold(
    error: OverlayError,
    spec: BuildSpec,
    router: Router,
    extras: Sequence[str],
    look_up: Callable[[Sequence[str]], object],
) -> OverlayError:
    """The error with the notebook's extras, its base, and what would help.

    ``look_up`` asks the indexes for requirements, each by itself, and raises what uv says where that fails.
    """
    base = spec.manifest
    if router.failures and not isinstance(error, ResolutionFailed):
        return InstallFailed(
            "the extras need "
            + ", ".join(sorted(router.failures))
            + f", which is not available for {base.tag}",
            why=(why := "\n".join(router.failures.values())),
            fix=fix_for(
                why, "check the network, or set TorchOverlay.index_template to a mirror that can be reached"
            ),
        )
    if isinstance(error, ResolutionFailed) and not error.fix:  # uv's; the audit has its own words
        from .unknown import plain_reason, unknown

        if told := unknown(router.real(plain_reason(error.why, extras, look_up)), spec, extras):
            return told
        more = f" and {len(extras) - _NAMED} more" if len(extras) > _NAMED else ""
        named = ", ".join(extras[:_NAMED]) + more
        return ResolutionFailed(
            f"the extras {named} do not fit on {base.id} (torch {base.torch})",
            why="\n".join([router.real(error.why), *router.failures.values()]),
            fix="change the package that the reason names, in the notebook, and save it, or with\n"
            "  jupyter overlay add NOTEBOOK PKG\n"
            "then restart the kernel; or choose a kernel on another base, listed by\n"
            "  jupyter overlay base list",
        )
    return type(error)(error.what, why=router.real(error.why), fix=error.fix)
