"""The pump room: small messages without waking a task, for the server and for load."""
