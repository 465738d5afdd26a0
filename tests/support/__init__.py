"""Real, tiny parts for the tests: wheels, a local package index, environments, a Jupyter server."""
