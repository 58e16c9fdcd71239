"""The checking room: what an echo service must do, tried out on one."""
