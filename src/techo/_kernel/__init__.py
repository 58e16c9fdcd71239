"""The kernel room: what Linux knows of a socket and its packets. Nothing here waits."""
