"""The capacity room: many loads, each at a rate of its own, to find the highest that holds."""
