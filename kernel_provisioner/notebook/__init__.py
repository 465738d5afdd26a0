"""The notebook that a kernel is started for: which one it is, what it says, and editing that."""
