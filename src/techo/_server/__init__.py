"""The server room: accepting, conversing, limiting, draining."""
