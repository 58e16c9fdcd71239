"""The proxy room: what passes bytes between two ends, unchanged, or gone wrong as planned."""
