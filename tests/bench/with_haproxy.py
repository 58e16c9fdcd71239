"""HAProxy as a proxy to measure, in tcp mode: `with_haproxy.py PORT` prints its address."""

from __future__ import annotations

import os
import socket
import sys

CONFIG = """
global
  nbthread 1
  maxconn 2000
defaults
  mode tcp
  timeout connect 10s
  timeout client 60s
  timeout server 60s
listen bench
  bind fd@{descriptor}
  server echo 127.0.0.1:{port}
"""

if __name__ == "__main__":
    # HAProxy does not say which port it was given, so it is given a socket that has one.
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.set_inheritable(True)
    config = os.memfd_create("haproxy.cfg", 0)  # a file that is gone with its reader
    os.write(config, CONFIG.format(descriptor=listener.fileno(), port=sys.argv[1]).encode())
    print(f"tcp:{listener.getsockname()[1]}", flush=True)
    os.execvp("haproxy", ["haproxy", "-db", "-f", f"/dev/fd/{config}"])  # noqa: S606  -- as a user
