"""``python -m kernel_provisioner.builder``: see ``command``."""

import gc
import sys


def _run() -> int:
    gc.disable()  # a build is over before it would have found anything; a cell waits for it
    from .command import main

    return main()


if __name__ == "__main__":
    sys.exit(_run())
