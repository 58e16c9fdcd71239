"""The server room: accepting, conversing, datagrams, limiting, draining."""
