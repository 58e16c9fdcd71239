"""The commands that measure, ping, load and merge: what they print, and their verdict."""
