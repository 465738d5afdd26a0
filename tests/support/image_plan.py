"""What repo2docker would run for a repository, as its own build packs say; printed as JSON.

Run by the Python of an environment that has jupyter-repo2docker: ``python image_plan.py REPOSITORY``.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    """Let the build packs look, in the order in which repo2docker asks them."""
    os.chdir(sys.argv[1])
    from repo2docker.app import Repo2Docker

    app = Repo2Docker()
    packs = (cls(base_image=app.base_image) for cls in app.buildpacks)
    pack = next(pack for pack in packs if pack.detect())
    told = {
        "pack": type(pack).__name__,
        "python": pack.python_version,
        "assemble": [script for _, script in pack.get_assemble_scripts()],
        "post_build": pack.get_post_build_scripts(),
        "start": pack.get_start_script(),
    }
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
