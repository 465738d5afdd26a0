"""Package indexes: PyTorch's beside the normal one, behind a server on the loopback address."""
