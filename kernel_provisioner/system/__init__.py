"""The machine: files, processes, locks, permissions, and what the operating system says when it fails."""
