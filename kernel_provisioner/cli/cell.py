"""What a command says to the kernel whose cell has started it: a JSON value on a line of stderr."""

from __future__ import annotations

import json
import sys


class Cell:
    """Whether a kernel listens; ``inside.main`` says so."""

    listens = False


def tell(**said: object) -> None:
    """Say a step (``step``, ``done``, ``total``) or an error (``error`` and what belongs to it)."""
    print(json.dumps(said), file=sys.stderr, flush=True)
