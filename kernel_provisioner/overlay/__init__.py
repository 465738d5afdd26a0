"""Overlays: a notebook's own small environment on top of one base."""
