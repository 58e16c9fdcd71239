"""The operating room: what a service needs among strangers, behind its one hook."""
