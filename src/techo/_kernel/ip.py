"""IP: what raw sockets receive, and the checksum of its family (RFC 791, RFC 1071)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from techo._kernel.packets import Packet

Receive: TypeAlias = Callable[[memoryview], tuple[int, Any]]
"""Receives into a buffer: how many bytes, and from where."""

_HEADER: Final = 20
"""Bytes of an IPv4 header without options, which raw sockets receive too."""

_WORD: Final = 4
"""Bytes in which the header's length is counted."""

_ONES: Final = 0xFFFF


def header_length(packet: bytes | bytearray | memoryview) -> int:
    """Return the bytes of the IPv4 header that a packet begins with, options included."""
    return (packet[0] & 0xF) * _WORD


def payload_of(packet: bytes) -> bytes:
    """Return what follows the IPv4 header of a packet, as a raw socket receives it."""
    return packet[header_length(packet) :] if packet else b""


def checksum(data: bytes) -> int:
    """Return the checksum of data whose own field is zero; with it in place, it is 0xFFFF.

    The sum of 16-bit words with their carries is the remainder by 0xFFFF.
    """
    if len(data) % 2:
        data += b"\0"
    return _ONES - int.from_bytes(data) % _ONES


def is_sound(data: bytes) -> bool:
    """Return whether data with a checksum in it came unharmed."""
    return checksum(data) == _ONES


class RawFormat:
    """Messages in the packets of a raw socket of IPv4, which receives headers, too."""

    def framed(self, data: bytes) -> bytes:
        """Return the message; the system puts the header before it."""
        return data

    def payload_of(self, packet: Packet) -> bytes | None:
        """Return the message in a packet."""
        return payload_of(packet.data)


def receiver_of(sock: socket.socket) -> Receive:
    """Return what receives the payload of a packet over a raw socket, and its sender."""
    if sock.family == socket.AF_INET6:  # which receives no headers
        return sock.recvfrom_into
    header = bytearray(_HEADER)

    def receive(buffer: memoryview) -> tuple[int, Any]:
        size, _, _, peer = sock.recvmsg_into([header, buffer])
        size -= _HEADER
        options = header_length(header) - _HEADER
        if options > 0:  # which lie where the payload should
            size -= options
            buffer[:size] = bytes(buffer[options : options + size])
        return size, peer

    return receive
