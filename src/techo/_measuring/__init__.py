"""The measuring room: ping and load, and what they have found out in figures."""
