"""Connections inside one process: streams and what accepts them. It imports trio only."""
