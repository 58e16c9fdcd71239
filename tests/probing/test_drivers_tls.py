"""The drivers over TLS: whatever a server does, all of them count the same."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio
import trio.testing
import trustme

import techo
from helpers import PATIENCE
from loads import causes, check
from refusals import VERSIONS, only
from techo._transport.streams import StreamTransport
from techo._transport.tls import TlsTransport
from wires import Connect


@attrs.define
class Server:
    """The server's end of one connection, whose handshake is done."""

    tls: TlsTransport
    sock: trio.socket.SocketType

    async def receive(self) -> bytes:
        """Receive something, or nothing at the end."""
        return bytes(await self.tls.receive() or b"")

    async def discard(self) -> None:
        """Receive until the end, which may be one without close_notify."""
        while await self.tls.receive() is not None:
            pass

    def record(self, data: bytes) -> bytes:
        """Return the record of `data`, which is not sent."""
        self.tls.records.encrypt(data)
        return self.tls.records.take()

    async def send_raw(self, data: bytes) -> None:
        """Send what may be no record."""
        await trio.SocketStream(self.sock).send_all(data)


pytestmark = pytest.mark.usefixtures("short_pauses")

Peer = Callable[[Server], Awaitable[None]]
"""What a server does with one connection."""


async def close_at_once(peer: Server) -> None:
    """Send close_notify and close."""
    await peer.tls.aclose()


async def close_without_notify(peer: Server) -> None:  # noqa: ASYNC124  -- as all peers
    """Just close."""
    peer.sock.close()


async def end_at_once(peer: Server) -> None:
    """Send close_notify, half-close, and swallow everything."""
    await peer.tls.send_eof()
    await peer.discard()


async def end_without_notify(peer: Server) -> None:
    """Half-close, and swallow everything."""
    peer.sock.shutdown(socket.SHUT_WR)
    await peer.discard()


async def reset_unread(peer: Server) -> None:
    """Close while a message is unread, which is a reset."""
    await trio.lowlevel.wait_readable(peer.sock)
    peer.sock.close()


async def send_no_records(peer: Server) -> None:
    """Send what is no record."""
    await peer.send_raw(b"HTTP/1.0 400 Bad Request\r\n\r\n")
    await peer.discard()


async def send_no_records_and_close(peer: Server) -> None:
    """Send what is no record, and close."""
    await peer.send_raw(b"HTTP/1.0 400 Bad Request\r\n\r\n")
    peer.sock.close()


async def forge_a_record(peer: Server) -> None:
    """Send a record that nobody has encrypted."""
    await peer.send_raw(b"\x17\x03\x03\x00\x20" + bytes(32))
    await peer.discard()


async def forge_in_mid_reply(peer: Server) -> None:
    """Send half of a reply, and then such a record."""
    half = (await peer.receive())[:30]
    await peer.send_raw(peer.record(half) + b"\x17\x03\x03\x00\x20" + bytes(32))
    await peer.discard()


async def greet(peer: Server) -> None:
    """Send what nobody asked for, before anything has come."""
    await peer.tls.send(b"220 welcome\r\n")
    await peer.discard()


async def greet_and_close(peer: Server) -> None:
    """Send what nobody asked for, and close."""
    await peer.tls.send(b"busy")
    await peer.tls.aclose()


async def echo_twice(peer: Server) -> None:
    """Answer two messages, then send close_notify and close."""
    for _ in range(2):
        await peer.tls.send(await peer.receive())
    await peer.tls.aclose()


async def echo_twice_and_vanish(peer: Server) -> None:
    """Answer two messages, then just close."""
    for _ in range(2):
        await peer.tls.send(await peer.receive())
    peer.sock.close()


async def echo_half(peer: Server) -> None:
    """Answer half of a message, then send close_notify and close."""
    await peer.tls.send((await peer.receive())[:30])
    await peer.tls.aclose()


async def echo_half_and_vanish(peer: Server) -> None:
    """Answer half of a message, then just close."""
    await peer.tls.send((await peer.receive())[:30])
    peer.sock.close()


async def die_in_mid_record(peer: Server) -> None:
    """Send half of the record of a reply, then close."""
    await peer.send_raw(peer.record(await peer.receive())[:-40])
    peer.sock.close()


async def die_in_the_second_record(peer: Server) -> None:
    """Send half of a reply and half of another record, then close."""
    message = await peer.receive()
    await peer.send_raw(peer.record(message[:30]) + peer.record(message[30:])[:-20])
    peer.sock.close()


async def swallow_and_close(peer: Server) -> None:
    """Read one message, and close without an answer."""
    await peer.receive()
    await peer.tls.aclose()


async def answer_wrongly(peer: Server) -> None:
    """Answer with other bytes."""
    while chunk := await peer.receive():
        await peer.tls.send(bytes(byte ^ 1 for byte in chunk))


async def answer_twice(peer: Server) -> None:
    """Answer each message twice."""
    while chunk := await peer.receive():
        await peer.tls.send(chunk + chunk)


async def echo_in_bytes(peer: Server) -> None:
    """Answer in records of a byte; the bytes of the first of them come one by one."""
    while chunk := await peer.receive():
        records = b"".join(peer.record(bytes([each])) for each in chunk)
        for byte in records[:200]:
            await peer.send_raw(bytes([byte]))
        await peer.send_raw(records[200:])


async def stamp(peer: Server) -> None:
    """Answer with a stamp."""
    while chunk := await peer.receive():
        await peer.tls.send(techo.stamped(chunk))


PEERS: list[tuple[Peer, dict[str, int], int]] = [
    (close_at_once, {"eof": 4}, 4),
    (close_without_notify, {"eof": 4}, 4),
    (end_at_once, {"eof": 4}, 4),
    (end_without_notify, {"eof": 4}, 4),
    (reset_unread, {"reset": 4}, 4),
    (send_no_records, {"tls": 4}, 4),
    (send_no_records_and_close, {"tls": 4}, 4),
    (forge_a_record, {"tls": 4}, 4),
    (forge_in_mid_reply, {"tls": 4}, 4),
    (greet, {"corrupt": 4}, 4),
    (greet_and_close, {"corrupt": 4}, 4),
    (echo_twice, {"eof": 1}, 1),
    (echo_twice_and_vanish, {"eof": 1}, 1),
    (echo_half, {"short": 4}, 4),
    (echo_half_and_vanish, {"short": 4}, 4),
    (die_in_mid_record, {"eof": 4}, 4),
    (die_in_the_second_record, {"short": 4}, 4),
    (swallow_and_close, {"eof": 4}, 4),
    (answer_wrongly, {"corrupt": 4}, 4),
    (answer_twice, {"corrupt": 4}, 4),
    (echo_in_bytes, {}, 0),
    (stamp, {}, 0),
]
"""Each with the causes that four trips come to, one after the other, and how many are lost."""


@attrs.define
class Wires:
    """Connects a client to a peer, to which a connection is complete when it had a turn."""

    nursery: trio.Nursery
    client: ssl.SSLContext
    server: ssl.SSLContext
    peer: Peer
    connected: Connect
    refused: int = 0
    """How many handshakes have failed for the server."""

    async def connect(self) -> Any:  # a transport of ours, which passes for a stream
        """Shake hands, and let the peer do what it does before it waits."""
        ours, theirs = self.connected()
        transport = TlsTransport(
            StreamTransport(trio.SocketStream(ours)), self.client, server_hostname="localhost"
        )
        self.nursery.start_soon(self._serve, theirs)
        try:
            await transport.handshake()
            await trio.testing.wait_all_tasks_blocked()
        except BaseException:
            ours.close()
            raise
        return transport

    async def _serve(self, sock: trio.socket.SocketType) -> None:
        tls = TlsTransport(
            StreamTransport(trio.SocketStream(sock)), self.server, server_side=True
        )
        with sock:
            try:
                await tls.handshake()
                await self.peer(Server(tls, sock))
            except ssl.SSLError:
                self.refused += 1
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # the client has closed, or we have


async def measured(
    client: ssl.SSLContext, server: ssl.SSLContext, peer: Peer, connected: Connect
) -> tuple[techo.LoadReport, int]:
    """Make four trips to a peer; return the report, and how many clients it has refused."""
    async with trio.open_nursery() as nursery:
        wires = Wires(nursery, client, server, peer, connected)
        with trio.fail_after(PATIENCE):
            report = check(
                await techo.load(wires.connect, connections=1, trips=4, timeout=PATIENCE)
            )
        nursery.cancel_scope.cancel()
    return report, wires.refused


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("peer", "errors", "lost"), PEERS, ids=[peer.__name__ for peer, *_ in PEERS]
)
async def test_all_drivers_count_alike(  # noqa: PLR0917  -- parameters and fixtures
    connected: Connect,
    peer: Peer,
    errors: dict[str, int],
    lost: int,
    version: str,
    client_tls: ssl.SSLContext,
    server_tls: ssl.SSLContext,
) -> None:
    """An end, a reset or a wrong answer costs the same trips, for the same causes."""
    only(client_tls, version)
    report, _ = await measured(client_tls, server_tls, peer, connected)
    found = causes(report)
    # To a peer that has closed, sending fails as well, and either side may notice first.
    if "reset" in found and "eof" in errors:
        found["eof"] = found.pop("reset") + found.get("eof", 0)
    # The pump sends nothing into a connection whose end it sees behind a reply.
    if peer is echo_twice_and_vanish and not found:
        errors, lost = {}, 0
    assert (found, report.lost, report.received) == (errors, lost, 4 - lost)
    assert report.unsent == 0


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("known", ["known", "foreign", "none"])
async def test_all_drivers_show_a_certificate(  # noqa: PLR0917  -- parameters and fixtures
    connected: Connect,
    known: str,
    version: str,
    authority: trustme.CA,
    client_tls: ssl.SSLContext,
    server_tls: ssl.SSLContext,
) -> None:
    """Over TLS 1.3 the alert that refuses it lies behind sending that fails."""
    only(client_tls, version)
    authority.configure_trust(server_tls)
    server_tls.verify_mode = ssl.CERT_REQUIRED
    if known != "none":
        by = authority if known == "known" else trustme.CA()
        by.issue_cert("me.example").configure_cert(client_tls)
    report, refused = await measured(client_tls, server_tls, stamp, connected)
    if known == "known":
        assert (report.received, report.failures, refused) == (4, {}, 0)
        return
    missing = "handshake failure" if version == "TLSv1_2" else "certificate required"
    alert = "unknown ca" if known == "foreign" else missing
    assert report.reasons == {techo.FailureCause.TLS: f"TLS failed (received alert {alert})"}
    assert (set(causes(report)), report.received) == ({"tls"}, 0)
    assert report.lost == (0 if version == "TLSv1_2" else 4)
    assert refused == report.failed
