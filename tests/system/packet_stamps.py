"""Ping over loopback while all packets are read with their stamps: `packet_stamps.py udp|tcp`.

Print, of each probe, by how many nanoseconds the kernel's clock of ping differs from the time
between its packet and that of its reply, as a packet socket has stamped them.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator

import trio

import techo
from techo._kernel import stamps
from techo._kernel.packets import Packet, receive_packet

PROBES = 100
EVERYTHING = 3
"""ETH_P_ALL of linux/if_ether.h."""
OUTGOING = 4
"""PACKET_OUTGOING of linux/if_packet.h."""
LINK = 14
"""Bytes of the header before that of IPv4."""


def packets_of(sock: socket.socket) -> Iterator[Packet]:
    """Yield what has arrived."""
    while True:
        try:
            yield receive_packet(sock, 2**16)
        except BlockingIOError:
            return


def times_of(sock: socket.socket, port: int, payloads: int) -> dict[int, int]:
    """Return how long each probe took, by its number, from the stamps of two packets."""
    sent: dict[int, int] = {}
    came: dict[int, int] = {}
    for packet in packets_of(sock):
        payload = packet.data[-payloads:]
        number = int.from_bytes(payload[:8], "little")
        header = LINK + 4 * (packet.data[LINK] & 15)
        ports = [int.from_bytes(packet.data[at : at + 2]) for at in (header, header + 2)]
        if not 0 < number <= PROBES or packet.received_ns is None or port not in ports:
            continue
        leaving = packet.address[2] == OUTGOING
        if ports[1] == port and leaving:
            sent.setdefault(number, packet.received_ns)
        elif ports[0] == port and not leaving:
            came.setdefault(number, packet.received_ns)
    return {number: came[number] - sent[number] for number in sent.keys() & came.keys()}


async def main(kind: str) -> None:
    """Ping, and compare."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERYTHING)) as sock:
        sock.bind(("lo", EVERYTHING))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**22)
        assert stamps._ask(sock, stamps._RX_SOFTWARE | stamps._SOFTWARE)
        async with techo.open_server(f"{kind}://127.0.0.1:0", reply=techo.raw) as server:
            ping = techo.ping(server.endpoints[0], count=PROBES, interval=0.005, timeout=60)
            async with ping:
                replies = [each async for each in ping if isinstance(each, techo.PingReply)]
            times = times_of(sock, server.endpoints[0].port, 64)
    # The first packets may have no stamps of the packet socket's: see `stamps.are_received`.
    by_kernel = [each for each in replies if each.clock is techo.Clock.KERNEL]
    by_kernel = [each for each in by_kernel if each.seq in times]
    found = [round(each.seconds * 1e9) - times[each.seq] for each in by_kernel]
    sys.stdout.write(json.dumps({"probes": len(replies), "differences_ns": found}))


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
