"""The probing room: one engine that sends messages, matches replies and times them."""
