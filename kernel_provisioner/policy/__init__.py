"""What an administrator allows: rules in layers, of which none can loosen another."""

from .rules import OPEN, Layer, Policy

__all__ = ["OPEN", "Layer", "Policy"]
