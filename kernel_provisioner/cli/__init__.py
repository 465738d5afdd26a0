"""The command ``jupyter overlay``: one traitlets application for each subcommand."""
