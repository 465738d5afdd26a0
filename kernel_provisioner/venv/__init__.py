"""Overlays for ordinary projects: an environment at a place of the user's own, that any tool can use."""

from __future__ import annotations

from .make import Made, make_venv
from .notes import Venv, known, standing_on
from .wanted import wanted

__all__ = ["Made", "Venv", "known", "make_venv", "standing_on", "wanted"]
