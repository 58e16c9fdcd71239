"""The raw room: sockets of kinds that trio does not open, such as those without ports."""
