"""uv: where it is, how it is called, what it says. Nothing else knows its command line."""
