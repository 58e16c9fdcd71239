"""The client room: round trips whose every byte is compared."""
