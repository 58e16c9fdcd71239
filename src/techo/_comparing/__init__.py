"""The comparing room: what has changed between some runs of a load and some others."""
