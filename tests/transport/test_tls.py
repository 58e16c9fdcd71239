"""TLS of our own: alerts, close_notify, records in any pieces, and what cancellation leaves."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing
import trustme

from helpers import PATIENCE, set_linger_zero, trust
from techo._embedded import transport_of
from techo._memory.stream import MemoryStream
from techo._transport.streams import StreamTransport
from techo._transport.tls import TlsTransport
from techo._transport.transport import Transport
from wires import Secure, Wire

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


async def socket_pair() -> tuple[StreamTransport, StreamTransport]:
    """Return two ends of a TCP connection."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = await trio.testing.open_stream_to_socket_listener(listener)
        return StreamTransport(client), StreamTransport(await listener.accept())


@pytest.fixture(params=["memory", "sockets", "lockstep", "bytewise"])
async def ends(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Transport, Transport]]:
    """Return two ends in memory, of sockets, without buffers, or byte by byte."""
    pair: tuple[Transport, Transport]
    if request.param == "sockets":
        pair = await socket_pair()
    elif request.param == "bytewise":
        pair = wires = Wire.pair()
        for wire in wires:
            wire.cut = lambda data: [bytes([byte]) for byte in data]
    elif request.param == "lockstep":
        ours, theirs = trio.testing.lockstep_stream_pair()
        pair = transport_of(ours), transport_of(theirs)
    else:
        pair = tuple(map(transport_of, MemoryStream.pair(1000)))  # type: ignore[assignment]  # it has two
    with trio.fail_after(PATIENCE):
        yield pair
    for each in pair:
        await trio.aclose_forcefully(each)


async def shake_hands(*both: TlsTransport) -> None:
    """Do the handshake at both ends."""
    async with trio.open_nursery() as nursery:
        for each in both:
            nursery.start_soon(each.handshake)


async def everything(transport: Transport) -> bytes:
    """Return what comes until close_notify."""
    received = b""
    while (chunk := await transport.receive()) is not None:
        received += chunk
    return received


async def caught(transport: TlsTransport) -> ssl.SSLError:
    """Return what a handshake fails with."""
    with pytest.raises(ssl.SSLError) as error:
        await transport.handshake()
    return error.value


async def failures(*both: TlsTransport) -> list[str]:
    """Return the reasons that both ends have for a handshake that fails."""
    reasons: dict[TlsTransport, str] = dict.fromkeys(both, "")

    async def fail(each: TlsTransport) -> None:
        reasons[each] = str((await caught(each)).reason)

    with trio.move_on_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for one in both:
                nursery.start_soon(fail, one)
    return [reasons[each] for each in both]


async def test_bytes_go_both_ways_at_once_and_end_with_close_notify(
    ends: tuple[Transport, Transport], secure: Secure, version: str
) -> None:
    """The pieces in which records arrive make no difference."""
    client, server = secure(*ends)
    await shake_hands(client, server)
    assert client.records.tls.version() == server.records.tls.version() == version
    size = 1000 if isinstance(ends[0], Wire) else 10_000  # each piece takes its time
    there, back = os.urandom(2 * size), os.urandom(2 * size - 100)
    received: dict[TlsTransport, bytes] = {}

    async def send(transport: TlsTransport, data: bytes) -> None:
        await transport.send(data)
        await transport.send_eof()

    async def receive(transport: TlsTransport) -> None:
        received[transport] = await everything(transport)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, client, there)
        nursery.start_soon(send, server, back)
        nursery.start_soon(receive, client)
        nursery.start_soon(receive, server)
    assert received == {client: back, server: there}
    assert await client.receive() is None
    await client.send_eof()
    with pytest.raises(trio.ClosedResourceError):
        await client.send(b"more")


async def test_what_comes_after_our_own_close_notify_is_still_received(
    ends: tuple[Transport, Transport], secure: Secure
) -> None:
    """What had arrived before it is received first."""
    client, server = secure(*ends)
    await shake_hands(client, server)

    async def finish() -> None:
        await server.send(b"after")
        await server.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.send, b"before ")
        assert await client.receive(1) == b"b"
        nursery.start_soon(server.send, b"meanwhile ")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(client.send_eof)
        assert await server.receive() is None
        nursery.start_soon(finish)
        assert await everything(client) == b"efore meanwhile after"


async def test_a_client_that_does_not_trust_the_server_sends_it_an_alert(
    contexts: Contexts,
) -> None:
    """The server's log can then name the reason (RFC 8446, 6.2)."""
    stranger = trust(trustme.CA())
    stranger.maximum_version = contexts[0].maximum_version
    ours, theirs = Wire.pair()
    client = TlsTransport(ours, stranger, server_hostname="localhost")
    server = TlsTransport(theirs, contexts[1], server_side=True)
    reasons = await failures(client, server)
    assert reasons[0] == "CERTIFICATE_VERIFY_FAILED"
    assert reasons[1] == "TLSV1_ALERT_UNKNOWN_CA"


async def test_a_server_that_misses_a_certificate_sends_an_alert(
    contexts: Contexts, authority: trustme.CA, version: str
) -> None:
    """The client learns of it in the handshake or, over TLS 1.3, with the first bytes."""
    contexts[1].verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(contexts[1])
    ours, theirs = Wire.pair()
    client = TlsTransport(ours, contexts[0], server_hostname="localhost")
    server = TlsTransport(theirs, contexts[1], server_side=True)
    if version == "TLSv1.2":
        reasons = await failures(client, server)
        assert reasons == [
            "SSLV3_ALERT_HANDSHAKE_FAILURE",
            "PEER_DID_NOT_RETURN_A_CERTIFICATE",
        ]
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(caught, server)
        await client.handshake()
        with pytest.raises(trio.BrokenResourceError) as broken:
            await client.receive()
    assert isinstance(broken.value.__cause__, ssl.SSLError)
    assert broken.value.__cause__.reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    with pytest.raises(trio.BrokenResourceError):
        await client.send(b"hello")


async def test_versions_that_do_not_meet_are_an_alert(contexts: Contexts) -> None:
    """Each side has its own reason."""
    contexts[0].minimum_version = contexts[0].maximum_version = ssl.TLSVersion.TLSv1_2
    contexts[1].minimum_version = ssl.TLSVersion.TLSv1_3
    ours, theirs = Wire.pair()
    client = TlsTransport(ours, contexts[0], server_hostname="localhost")
    server = TlsTransport(theirs, contexts[1], server_side=True)
    assert await failures(client, server) == [
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "UNSUPPORTED_PROTOCOL",
    ]


async def test_an_alert_for_a_peer_that_does_not_read_waits_for_a_second_at_most(
    contexts: Contexts, autojump_clock: trio.testing.MockClock
) -> None:
    """Then the handshake fails all the same."""
    ours, theirs = MemoryStream.pair(8)
    server = TlsTransport(transport_of(ours), contexts[1], server_side=True)
    await transport_of(theirs).send(b"\x16\x03")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(theirs.send_all, b"\x01\x00\x05\x09\x09\x09\x09\x09")
        await caught(server)
    assert trio.current_time() <= 1.0


@pytest.mark.parametrize("server_side", [True, False])
async def test_a_peer_without_tls_is_an_error_of_tls(
    contexts: Contexts, *, server_side: bool
) -> None:
    """It is told apart from a connection that breaks."""
    ours, theirs = Wire.pair()
    name = None if server_side else "localhost"
    transport = TlsTransport(
        ours, contexts[server_side], server_side=server_side, server_hostname=name
    )
    await theirs.send(b"GET / HTTP/1.0\r\n\r\n")
    await caught(transport)


async def test_an_end_in_mid_handshake_is_a_broken_connection(contexts: Contexts) -> None:
    """Neither side has refused anything then."""
    ours, theirs = Wire.pair()
    transport = TlsTransport(ours, contexts[1], server_side=True)
    await theirs.aclose()
    with pytest.raises(trio.BrokenResourceError) as broken:
        await transport.handshake()
    assert isinstance(broken.value.__cause__, ssl.SSLError)
    await transport.aclose()


async def test_an_end_without_close_notify_is_a_broken_connection(
    ends: tuple[Transport, Transport], secure: Secure
) -> None:
    """What came before it is received first."""
    client, server = secure(*ends)
    await shake_hands(client, server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.send, b"some")
        assert await client.receive() == b"some"
    await trio.aclose_forcefully(server)
    with pytest.raises(trio.BrokenResourceError) as broken:
        await client.receive()
    assert isinstance(broken.value.__cause__, ssl.SSLEOFError)


async def test_a_reset_is_a_broken_connection(secure: Secure) -> None:
    """It is so below TLS as without it."""
    ours, theirs = await socket_pair()
    client, server = secure(ours, theirs)
    await shake_hands(client, server)
    await server.reset()
    with pytest.raises(trio.BrokenResourceError) as broken:
        await client.receive()
    assert isinstance(broken.value.__cause__, ConnectionResetError)
    await client.aclose()


async def test_data_in_the_handshake_s_last_flight_is_received(
    secure: Secure, version: str
) -> None:
    """No event of the socket would report it again."""
    ours, theirs = Wire.pair()
    client, server = secure(ours, theirs)
    last, first = (client, server) if version == "TLSv1.3" else (server, client)
    wire = ours if last is client else theirs
    wire.holds_after = 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.handshake)
        await last.handshake()
        await last.send(b"already there")
        wire.release()
    await first.send_eof()
    assert await first.receive() == b"already there"


async def test_bytes_that_came_before_are_part_of_the_handshake(contexts: Contexts) -> None:
    """Somebody else may have read the beginning, to see what it is."""
    ours, theirs = Wire.pair()
    client = TlsTransport(ours, contexts[0], server_hostname="localhost")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.handshake)
        hello = await theirs.receive()
        assert hello is not None
        theirs.peer.cut = lambda data: [data]
        rest = hello[5:]
        server = TlsTransport(theirs, contexts[1], server_side=True, received=hello[:5])
        ours.held = rest
        ours.release()
        await server.handshake()
    await client.send(b"hello")
    assert await server.receive() == b"hello"


async def test_several_records_and_a_half_are_received_as_they_can_be_decrypted(
    secure: Secure,
) -> None:
    """The rest of the last one follows when it has come."""
    ours, theirs = Wire.pair()
    client, server = secure(ours, theirs)
    await shake_hands(client, server)
    ours.holds_after = 0
    for number in range(4):
        await client.send(b"record %d " % number)
    half = len(ours.held) - 10
    ours.cut = lambda data: [data[:half], data[half:]]
    ours.release()
    assert await server.receive(5) == b"recor"
    assert await server.receive() == b"d 0 record 1 record 2 "
    assert await server.receive() == b"record 3 "


async def test_session_tickets_leave_with_the_first_reply(secure: Secure, version: str) -> None:
    """Sent earlier, a client that never reads would answer them with a reset."""
    ours, theirs = Wire.pair()
    client, server = secure(ours, theirs)
    await shake_hands(client, server)
    assert theirs.sends == (1 if version == "TLSv1.3" else 2)
    await server.send(b"reply")
    assert await client.receive() == b"reply"
    assert client.records.tls.session is not None
    assert client.records.tls.session.has_ticket


async def test_receiving_does_not_send_session_tickets(
    secure: Secure, version: str, nursery: trio.Nursery
) -> None:
    """A client may pause before it sends, and close without having read anything."""
    ours, theirs = Wire.pair()
    client, server = secure(ours, theirs)
    await shake_hands(client, server)
    sends = theirs.sends
    assert sends == (1 if version == "TLSv1.3" else 2)
    nursery.start_soon(server.receive)
    await trio.testing.wait_all_tasks_blocked()
    assert theirs.sends == sends
    await client.send(b"hello")


async def test_what_a_client_sent_that_never_reads_is_received(secure: Secure) -> None:
    """Closing its socket with something unread would reset the connection."""
    client, server = secure(*await socket_pair())
    await shake_hands(client, server)
    await client.send(b"all of it")
    await client.aclose()
    assert await everything(server) == b"all of it"
    await server.aclose()


async def test_cancelling_receive_loses_nothing(secure: Secure) -> None:
    """A record may be cut anywhere, and receiving cancelled any number of times."""
    ours, theirs = Wire.pair()
    client, server = secure(ours, theirs)
    await shake_hands(client, server)
    ours.holds_after = 0
    for number in range(3):
        await client.send(b"record %d " % number)
    records, ours.held = ours.held, b""
    received = bytearray()

    async def receive(scope: trio.CancelScope) -> None:
        with scope:
            while True:
                received.extend(await server.receive(5) or b"")

    async with trio.open_nursery() as nursery:
        for byte in records:
            scope = trio.CancelScope()
            nursery.start_soon(receive, scope)
            await trio.testing.wait_all_tasks_blocked()
            ours.held = bytes([byte])
            for end in (
                (scope.cancel, ours.release) if byte % 2 else (ours.release, scope.cancel)
            ):
                end()
            await trio.testing.wait_all_tasks_blocked()  # two must not receive at once
        nursery.start_soon(receive, trio.CancelScope())
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert received == b"record 0 record 1 record 2 "


async def test_after_a_cancelled_send_nothing_can_be_sent_but_received(
    secure: Secure,
) -> None:
    """A record may have left in part."""
    ours, theirs = MemoryStream.pair(1000)
    client, server = secure(transport_of(ours), transport_of(theirs))
    await shake_hands(client, server)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, bytes(10_000))
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    for sending in (client.send(b"x"), client.send_eof()):
        with pytest.raises(trio.BrokenResourceError, match="mid-record"):
            await sending
    await server.send(b"still here")
    assert await client.receive() == b"still here"
    with trio.fail_after(PATIENCE):
        await client.aclose()


async def test_closing_sends_close_notify_and_waits_for_no_answer(secure: Secure) -> None:
    """The peer sees that nothing is missing; closing again is harmless."""
    ours, theirs = Wire.pair()
    client, server = secure(ours, theirs)
    await shake_hands(client, server)
    await client.aclose()
    assert ours.closed
    await client.aclose()
    assert await server.receive() is None
    for using in (client.send(b""), client.receive(), client.send_eof(), client.handshake()):
        with pytest.raises(trio.ClosedResourceError):
            await using


async def test_closing_when_cancelled_closes_at_once(secure: Secure) -> None:
    """A peer that does not read cannot hold it up."""
    ours, theirs = MemoryStream.pair(1000)
    client, server = secure(transport_of(ours), transport_of(theirs))
    await shake_hands(client, server)
    await ours.send_all(bytes(1000))  # there is no room left for close_notify
    with trio.move_on_after(0.01) as scope:
        await client.aclose()
    assert scope.cancelled_caught
    with pytest.raises(trio.ClosedResourceError):
        await ours.receive_some()


async def test_without_a_handshake_nothing_can_be_sent_and_closing_says_nothing(
    contexts: Contexts,
) -> None:
    """There are no keys yet."""
    ours, _ = Wire.pair()
    transport = TlsTransport(ours, contexts[1], server_side=True)
    assert not transport.handshake_done
    for using in (transport.send(b"x"), transport.receive(), transport.send_eof()):
        with pytest.raises(trio.NeedHandshakeError):
            await using
    await transport.aclose()
    assert ours.closed
    assert not ours.sends


async def test_altered_records_are_an_alert(secure: Secure) -> None:
    """The other side learns that it was not understood."""
    ours, theirs = Wire.pair()
    client, server = secure(ours, theirs)
    await shake_hands(client, server)
    ours.cut = lambda data: [data[:-1] + bytes([data[-1] ^ 1])]
    await client.send(b"hello")
    with pytest.raises(trio.BrokenResourceError) as broken:
        await server.receive()
    assert isinstance(broken.value.__cause__, ssl.SSLError)
    with pytest.raises(trio.BrokenResourceError) as broken:
        await client.receive()
    assert isinstance(broken.value.__cause__, ssl.SSLError)
    assert "BAD_RECORD_MAC" in str(broken.value.__cause__.reason)


async def test_a_receiver_does_not_wait_for_a_sender(secure: Secure) -> None:
    """Two peers that send much before they receive go on as long as each has a receiver."""
    ours, theirs = MemoryStream.pair(100)
    client, server = secure(transport_of(ours), transport_of(theirs))
    await shake_hands(client, server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, bytes(50_000))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(server.send, b"a word")
        with trio.fail_after(PATIENCE):
            assert await client.receive() == b"a word"
        nursery.cancel_scope.cancel()


async def test_what_receiving_has_to_answer_leaves_without_a_send(
    contexts: Contexts, authority: trustme.CA, version: str
) -> None:
    """A late request for a certificate is answered by who only receives."""
    if version == "TLSv1.2":
        return
    contexts[0].post_handshake_auth = contexts[1].post_handshake_auth = True
    contexts[1].verify_mode = ssl.CERT_REQUIRED
    authority.issue_cert("me").configure_cert(contexts[0])
    authority.configure_trust(contexts[1])
    ours, theirs = Wire.pair()
    client = TlsTransport(ours, contexts[0], server_hostname="localhost")
    server = TlsTransport(theirs, contexts[1], server_side=True)
    await shake_hands(client, server)
    server.records.tls.verify_client_post_handshake()
    await server.send(b"who are you?")
    assert await client.receive() == b"who are you?"
    assert not server.records.tls.getpeercert()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.receive)
        nursery.start_soon(server.receive)
        await trio.testing.wait_all_tasks_blocked()
        assert server.records.tls.getpeercert()
        nursery.cancel_scope.cancel()


async def test_every_call_is_a_checkpoint(secure: Secure) -> None:
    """A call that need not wait is one, too."""
    ours, theirs = Wire.pair()
    client, server = secure(ours, theirs)
    await shake_hands(client, server)
    for _ in range(2):
        with trio.testing.assert_checkpoints():
            await client.send(b"data")
    for _ in range(2):
        with trio.testing.assert_checkpoints():
            await server.receive(4)
    for using in (client.handshake(), client.send(b""), client.send_eof(), client.send_eof()):
        with trio.testing.assert_checkpoints():
            await using
    for _ in range(2):
        with trio.testing.assert_checkpoints():
            await server.receive()
    for _ in range(2):
        with trio.testing.assert_checkpoints():
            await server.aclose()


async def test_the_socket_below_is_shown(secure: Secure) -> None:
    """It has the addresses, and is not to be used for bytes."""
    ours, theirs = await socket_pair()
    client, _ = secure(ours, theirs)
    assert client.socket is ours.socket
    assert client.pumpable  # by its records
    assert isinstance(client.socket, trio.socket.SocketType)
    set_linger_zero(client.socket)
    await trio.aclose_forcefully(client)
    assert client.socket.fileno() == -1
    await trio.aclose_forcefully(theirs)
