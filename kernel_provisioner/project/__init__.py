"""Overlays for ordinary projects: an environment at a place of the user's own, that any tool can use."""
