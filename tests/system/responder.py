"""Answers ICMP echo requests in ways that the kernel never does; run in a namespace of its own.

The n-th request gets the n-th of the ways that are named: see `answers`.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading
from collections.abc import Iterator


def checksum(data: bytes) -> int:
    """Return the checksum of RFC 1071, word by word."""
    padded, total = data + b"\0" * (len(data) % 2), 0
    for (word,) in struct.iter_unpack("!H", padded):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def reply(identifier: int, sequence: int, payload: bytes, *, wrong: int = 0) -> bytes:
    """Return an echo reply, with a `wrong` checksum if asked for."""
    bare = struct.pack("!BBHHH", 0, 0, 0, identifier, sequence) + payload
    return bare[:2] + struct.pack("!H", checksum(bare) ^ wrong) + bare[4:]


def answers(way: str, identifier: int, sequence: int, payload: bytes) -> Iterator[bytes]:
    """Yield what is sent back."""
    if way == "harmed":
        payload = payload[:-1] + bytes([payload[-1] ^ 1])
    elif way == "truncated":
        payload = payload[:-8]
    if way == "foreign":  # somebody else's, and one with our identifier that we never sent
        yield reply(identifier ^ 1, sequence, payload)
        yield reply(identifier, sequence, bytes(len(payload)))
    yield reply(identifier, sequence, payload, wrong=1 if way == "wrong-checksum" else 0)
    if way == "duplicate":
        yield reply(identifier, sequence, payload)


def main(ways: list[str], late: float) -> None:
    """Answer one request after the other."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for way in ways:
        while True:
            packet, peer = sock.recvfrom(2**16)
            if packet[20] == 8:  # an echo request
                break
        _, _, _, identifier, sequence = struct.unpack_from("!BBHHH", packet, 20)
        for each in answers(way, identifier, sequence, packet[28:]):
            if way == "late":
                threading.Timer(late, sock.sendto, (each, peer)).start()
            else:
                sock.sendto(each, peer)


if __name__ == "__main__":
    main(sys.argv[2:], float(sys.argv[1]))
