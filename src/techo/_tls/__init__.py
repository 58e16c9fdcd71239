"""TLS as records in memory, for transports and the pump: nothing here waits."""
