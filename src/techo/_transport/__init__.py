"""The transport room: every kind of connection behind one small interface, and one connect."""
