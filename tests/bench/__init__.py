"""The benchmark: what a message costs techo, and what it costs others. See `__main__.py`."""
