"""The builder: turns an order into a published overlay, in a process of its own."""
