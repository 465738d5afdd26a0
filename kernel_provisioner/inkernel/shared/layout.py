"""The names of the files in an overlay's directory, which launch, builder, kernel and collector share.

``ADDED``, ``NOTEBOOK`` and ``LAUNCH_LOCK`` lie one level up, in the directory of a notebook's overlays.
"""

from __future__ import annotations

OVERLAY = "overlay.json"
SPEC = "build.json"
FAILED = "failed.json"
ENTERED = "entered"
PROGRESS = "progress.jsonl"
BUILDER_LOCK = "builder.lock"
BUILDER_LOG = "builder.log"
ENTER_LOCK = "enter.lock"
STAGING = "staging"
ADDED = "added.json"  # what ``%overlay add`` has added and the notebook does not declare
ADDING = "adding.json"  # what is staged beside an entered overlay is whole, and to be moved in
READ_BY_TORCH = "read-by-torch.txt"  # variables that cells set before ``import torch``: no warm starts here
SCRATCH = "scratch"  # where a build keeps its own files
NOTEBOOK = "notebook.txt"
USE_LOCK = "use.lock"
BUILD_INDEX = "build-index"  # where builds of a project's packages find torch: an index of receipts
PROJECT = "project.json"  # what of a project is installed, and what its base has
LAUNCH_LOCK = "launch.lock"
ENTRIES = "entries"  # in OVERLAY: the directories of the wheel store that its links lead to
PROVISIONAL = "provisional"  # packages are files that are to be links, see ``builder.behind``
BEHIND = "behind"  # in SPEC: the generation beside whose kernel this one is built
BASE_PATHS = "zzz_torch_base"  # sorts last, so that packages of the overlay come first
