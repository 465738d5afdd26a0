"""The part of the kernel's side that the rest of the package uses too: standard library only."""
