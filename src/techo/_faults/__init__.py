"""The faults room: what a peer can do wrong on purpose, in a way that can be repeated."""
