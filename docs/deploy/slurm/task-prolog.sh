#!/bin/sh
# Slurm's TaskProlog: what it prints goes into every job's environment. Overlays go to the node's disk.
# uv's cache stays where it is, in the home that all nodes share: what was fetched once is there.
echo "export TORCH_OVERLAY_ROOT=/local/$SLURM_JOB_USER/torch-overlays"
