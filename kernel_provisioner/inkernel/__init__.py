"""What runs inside the kernel: the gate, its display, and the ``%overlay`` magic.

It runs in the base's Python, 3.10 or newer, where the rest of this package is not installed:
standard library, ipykernel and what ipykernel needs, nothing else.
"""
