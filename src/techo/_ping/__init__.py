"""The ping room: one connection at a rate, whose trips are reported one by one."""
