"""The soak: minutes of load and ping, to see that nobody's memory grows."""
