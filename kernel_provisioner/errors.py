"""One hierarchy of errors: each says what failed, why, and the exact fix.

Every error is also the fitting builtin, so that callers who know nothing of this
package can catch it, and converts to plain JSON, because most of them are told in
another process: the builder writes it, the kernel shows it in the cell.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping

__all__ = [
    "BaseInUse",
    "BaseNotFound",
    "BaseUnsafe",
    "BuildFailed",
    "CommandFailed",
    "CorruptState",
    "InstallFailed",
    "InvalidRequest",
    "LockTimeout",
    "NoBaseFits",
    "NotAllowed",
    "NotebookUnreadable",
    "OverlayError",
    "PackageDamaged",
    "ResolutionFailed",
    "UnsupportedPlatform",
    "UvUnusable",
    "clean",
    "refuse_windows",
    "without_credentials",
]


_MAYBE = ("field", "meant")  # attributes that not every error has


class OverlayError(Exception):
    """Something a person can act on.

    ``what`` is one sentence naming the thing that failed and its value, ``why`` the
    cause (may span lines, for example a resolver's own words), ``fix`` the command or
    edit that fixes it.
    """

    field = ""
    """Where in what was asked for it lies, for an error that has such a place."""
    meant = ""
    """The name that was probably meant in its place, where it is one that nobody knows."""

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        self.what = clean(what)
        self.why = clean(why)
        self.fix = clean(fix)
        super().__init__(self.what)

    def __str__(self) -> str:
        lines = [self.what]
        if self.why:
            lines.append("  why: " + self.why.replace("\n", "\n       "))
        if self.fix:
            lines.append("  fix: " + self.fix.replace("\n", "\n       "))
        return "\n".join(lines)

    def as_dict(self) -> dict[str, str]:
        """The error as JSON values: ``error`` (class name), ``what``, ``why``, ``fix``.

        And ``field`` and ``meant`` where it has them.
        """
        said = {
            "error": type(self).__name__,
            "what": self.what,
            "why": self.why,
            "fix": self.fix,
        }
        return {**said, **{key: value for key in _MAYBE if (value := getattr(self, key))}}

    @staticmethod
    def from_dict(data: Mapping[str, object]) -> OverlayError:
        """The error that ``as_dict`` wrote; an unknown class name becomes ``OverlayError``."""
        known = {cls.__name__: cls for cls in _subclasses(OverlayError)}
        cls = known.get(str(data.get("error")), OverlayError)
        error = cls.__new__(cls)
        OverlayError.__init__(
            error,
            str(data.get("what", "")),
            why=str(data.get("why", "")),
            fix=str(data.get("fix", "")),
        )
        for key in _MAYBE:
            if data.get(key):
                setattr(error, key, str(data[key]))
        return error


class InvalidRequest(OverlayError, ValueError):
    """The notebook asks for something malformed or not allowed; ``field`` names where."""

    def __init__(self, what: str, *, field: str = "", why: str = "", fix: str = "") -> None:
        super().__init__(what, why=why, fix=fix)
        self.field = field


class NotebookUnreadable(OverlayError, ValueError):
    """The notebook file is missing, not JSON, too large, or not a regular file."""


class NoBaseFits(OverlayError, LookupError):
    """No registered base satisfies the request on this machine."""


class BaseNotFound(OverlayError, LookupError):
    """A base named by id or tag is not registered."""


class BaseInUse(OverlayError, RuntimeError):
    """A base cannot be removed or replaced while kernels run on it."""


class BaseUnsafe(OverlayError, PermissionError):
    """Somebody else can change a base or its interpreter, and so run code as who uses it."""


class CorruptState(OverlayError, ValueError):
    """A manifest, lock or state file cannot be used: truncated, altered or from a newer version."""


class UvUnusable(OverlayError, RuntimeError):
    """uv is missing, too old, or does not answer."""


class NotAllowed(OverlayError, PermissionError):
    """A rule of this system's policy forbids it; ``why`` names the rule and its file."""


class ResolutionFailed(OverlayError, RuntimeError):
    """The extras cannot be satisfied together with the base."""


class InstallFailed(OverlayError, RuntimeError):
    """A resolved distribution could not be fetched, unpacked or verified."""


class PackageDamaged(InstallFailed):
    """A file of a package is not what the package's RECORD says."""


class BuildFailed(OverlayError, RuntimeError):
    """The builder ended without an overlay, for a reason outside the request."""


class CommandFailed(OverlayError, RuntimeError):
    """A command that we ran exited with an error."""


class LockTimeout(OverlayError, TimeoutError):
    """Another process holds a lock for longer than we are willing to wait."""


class UnsupportedPlatform(OverlayError, OSError):
    """This operating system cannot run overlays."""


def refuse_windows(platform: str = sys.platform) -> None:
    """Raise UnsupportedPlatform on Windows, at once and clearly."""
    if platform == "win32":
        raise UnsupportedPlatform(
            "kernel-provisioner does not run on Windows itself",
            why="overlays rest on symbolic links, flock and exec",
            fix="install it inside WSL, and open JupyterLab from there",
        )


# C0 and C1 controls but newline and tab, and the Unicode controls that reorder or hide text.
_UNPRINTABLE = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
_CREDENTIALS = r"(?<=://)[^/?#\s'\"]+@"  # to the last @: passwords hold some, too


def clean(text: str) -> str:
    """``text`` fit to print: control characters escaped, credentials in URLs removed."""
    text = re.sub(_UNPRINTABLE, lambda m: f"\\u{ord(m.group()):04x}", text)
    return re.sub(_CREDENTIALS, "****@", text)


def without_credentials(text: str) -> str:
    """``text`` with ``user:password@`` taken out of every URL in it: still addresses, and nobody's secret."""
    return re.sub(_CREDENTIALS, "", text)


def _subclasses(cls: type[OverlayError]) -> list[type[OverlayError]]:
    return [sub for direct in cls.__subclasses__() for sub in (direct, *_subclasses(direct))]
