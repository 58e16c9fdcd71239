"""Load over TLS whose server ends the connection while it takes nothing more."""

from __future__ import annotations

import socket
import ssl

import pytest
import trio
import trio.testing

import techo
from helpers import PATIENCE
from loads import causes
from techo._pump.pump import Pump
from techo._pump.socket import PumpedSocket, Traffic
from techo._tls.records import TlsRecords

SIZE = 2**24
"""Bytes of a message: more than the kernel holds."""


@pytest.mark.usefixtures("conversation")
async def test_close_notify_of_who_does_not_read_ends_the_trip_at_once(
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
    nursery: trio.Nursery,
    patient_clock: trio.testing.MockClock,
) -> None:
    """The rest of the message is waited for no more, and no close_notify follows a part."""

    async def serve(stream: trio.SocketStream) -> None:
        records = TlsRecords.of(server_tls, server_side=True)
        while not records.shake_hands():
            await stream.send_all(records.take())
            records.feed(await stream.receive_some())
        await stream.send_all(records.take())
        await trio.sleep(0.5)
        records.end()
        await stream.send_all(records.take())
        await stream.send_eof()
        await trio.sleep_forever()

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    nursery.start_soon(trio.serve_listeners, serve, [listener])
    port = listener.socket.getsockname()[1]
    report = await techo.load(
        f"tls://localhost:{port}", size=SIZE, trips=1, connections=1, tls=client_tls
    )
    assert causes(report) == {"eof": 1}
    assert trio.current_time() < 1  # virtual; a graceful close would take a second of it


async def test_what_cannot_be_encrypted_is_the_end_of_its_socket(
    client_tls: ssl.SSLContext,
) -> None:
    """Nothing would ever come that tells of it: as where TLS 1.2 is to be agreed on anew."""
    records = TlsRecords.of(client_tls, server_side=False, server_hostname="localhost")
    ours, theirs = trio.socket.socketpair()
    pump = Pump.of_this_run()
    with ours, theirs:
        waiting = PumpedSocket(
            ours.fileno(),
            bytes,
            Traffic(),
            100,
            packets=False,
            records=records,
        )
        pump.add(waiting)
        pump.send(waiting, b"message")  # before the handshake, which does as well
        with trio.fail_after(PATIENCE):
            await waiting.wait()
        assert isinstance(waiting.error, trio.BrokenResourceError)
