"""Watching: many targets probed for as long as one likes, when each was away and why."""
