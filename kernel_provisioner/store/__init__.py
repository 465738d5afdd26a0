"""The wheel store: every package unpacked, checked and compiled once, and linked from overlays."""
