"""Services in a thread with a trio run of its own, for tests that are not trio's."""
