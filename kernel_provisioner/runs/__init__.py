"""What the commands and the server extension both do: they print it or send it, and decide nothing."""
