"""What a raw socket receives, as a server is given it."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from techo._kernel.ip import receiver_of


class Raw:
    """A raw socket of IPv4 with one packet, which it scatters as the system does."""

    family = socket.AF_INET

    def __init__(self, packet: bytes) -> None:
        self.packet = packet

    def recvmsg_into(self, buffers: list[Any]) -> tuple[int, list[Any], int, Any]:
        """Fill the buffers in turn."""
        rest = self.packet
        for buffer in buffers:
            piece, rest = rest[: len(buffer)], rest[len(buffer) :]
            buffer[: len(piece)] = piece
        return len(self.packet) - len(rest), [], 0, ("127.0.0.2", 0)


@pytest.mark.parametrize("options", [b"", b"\1" * 4, b"\1" * 40])
@pytest.mark.parametrize("payload", [b"", b"hello", bytes(range(256))])
def test_a_payload_begins_behind_all_options(payload: bytes, options: bytes) -> None:
    """The buffer has the payload, and nothing of a header that is longer than most."""
    packet = bytes([0x45 + len(options) // 4]) + bytes(19) + options + payload
    buffer = memoryview(bytearray(1000))
    receive = receiver_of(Raw(packet))  # type: ignore[arg-type]  # as much as is used of one
    size, peer = receive(buffer)
    assert (bytes(buffer[:size]), peer) == (payload, ("127.0.0.2", 0))
