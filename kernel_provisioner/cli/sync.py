"""``jupyter overlay sync``: repair the environment of a project."""

from __future__ import annotations

import os
from pathlib import Path

from ..project.mend import Mended, mend
from .common import OverlayApp


class SyncApp(OverlayApp):
    """Repair an environment on a base: one that was moved, or lost its Python, its base or its packages.

    uv and pip of other environments do not know the base: they may remove its packages from the list, or
    install a torch of their own. This puts the base's back, and what else was installed stays. An environment
    that was moved or copied then works at its new place. One whose base or Python is gone is put on another
    base with the same torch and Python; where none is, the command that creates it is named. In a uv project
    it then installs what the lock selects, with the extras and groups that were chosen.
    """

    usage = "jupyter overlay sync [DIR] [--json]"
    description = __doc__
    examples = """
    jupyter overlay sync
    jupyter overlay sync ranker/.venv
    """

    def run(self) -> int | None:
        """Repair it; see the class."""
        (name,) = self.words(0, 1) or ["."]
        directory = Path(os.path.abspath(name))  # noqa: PTH100 - no link in it is to be followed
        mended = mend(directory, self.settings())
        data = {
            "path": str(mended.path),
            "base": mended.base.manifest.id,
            "linked": mended.linked,
            "receipts": list(mended.receipts),
            "removed": list(mended.removed),
            "again": list(mended.again),
            "scripts": list(mended.scripts),
            "moved": mended.moved,
            "instead_of": mended.instead,
        }
        self.emit(data, _lines(mended))
        return None


def _lines(mended: Mended) -> list[str]:
    done = [
        *([f"works here now, and was created as {mended.moved}"] if mended.moved else []),
        *([f"on another base with the same torch: {mended.instead} is gone"] if mended.instead else []),
        *(["linked to its base again"] if mended.linked else []),
        *([f"listed again, from the base: {', '.join(mended.receipts)}"] if mended.receipts else []),
        *([f"installed again: {', '.join(mended.again)}"] if mended.again else []),
        *([f"written again: {', '.join(mended.scripts)}"] if mended.scripts and not mended.moved else []),
        *([f"removed, for the base has it: {', '.join(mended.removed)}"] if mended.removed else []),
    ]
    manifest = mended.base.manifest
    return [
        f"{'Restored' if done else 'Nothing to restore'}: {mended.path}",
        *done,
        f"torch {manifest.torch}, shared: {manifest.id}",
    ]
