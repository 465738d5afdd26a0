#!/bin/sh
# Slurm's Prolog, as root on a job's node: a directory of the user's own on the node's disk.
install -d -m 0700 -o "$SLURM_JOB_UID" -g "$SLURM_JOB_GID" "/local/$SLURM_JOB_USER"
