"""Each fault of the table in docs/reliability.md, injected into the real program."""
