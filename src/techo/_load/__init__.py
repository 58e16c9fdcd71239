"""The load room: many connections, whose trips are counted."""
