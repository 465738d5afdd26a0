"""Bases: the shared torch environments. Registered, created, adopted, verified, removed."""
