"""Datagrams from ports that answer everything, in a network of this process's own.

Prints what became of each, as an object. To be run by unshare(1), which makes it root there.
"""

from __future__ import annotations

import fcntl
import json
import logging
import socket
import struct

import trio

import techo
from helpers import PATIENCE, until
from techo._server.datagrams import ANSWERING_PORTS

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


def start_loopback() -> None:
    """Switch on the interface, which a new network has switched off."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh", b"lo", _IFF_UP))


def forge(source: int, to: int) -> None:
    """Send a datagram that claims to come from a port, which may be 0."""
    data = b"hello"
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
        header = struct.pack("!HHHH", source, to, 8 + len(data), 0)
        raw.sendto(header + data, ("127.0.0.1", to))


async def main() -> None:
    """Ask from each of these ports, and from one that is like any other."""
    found: dict[int, list[str]] = {}
    for port in (*sorted(ANSWERING_PORTS), 8):
        async with techo.open_server("udp://127.0.0.1:0") as server:
            forge(port, server.endpoints[0].port)
            with trio.fail_after(PATIENCE):
                await until(lambda: server.statistics().datagrams.received)
            dropped = server.statistics().datagrams.dropped
            found[port] = [str(reason) for reason, count in dropped.items() if count]
    print(json.dumps(found))


logging.getLogger("techo").addHandler(logging.NullHandler())  # its warnings are known here
start_loopback()
trio.run(main)
