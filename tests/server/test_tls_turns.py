"""The server over TLS when time runs out: whose time it was, and what still leaves."""

from __future__ import annotations

import math
import os
import ssl
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

import techo
from helpers import PATIENCE, connect, ended, until_ended
from techo._pump.pump import Pump
from techo._pump.socket import PumpedSocket
from techo._tls.gate import HandshakeGate
from techo._transport.streams import StreamTransport
from techo._transport.tls import TlsTransport

pytestmark = pytest.mark.usefixtures("conversation")

Clock = trio.testing.MockClock

ANY = "tls://127.0.0.1:0"

Secure = Callable[[techo.EchoService], Awaitable[TlsTransport]]


@pytest.fixture
def secure(client_tls: ssl.SSLContext) -> Secure:
    """Return what connects, with the handshake yet to come."""

    async def over(service: techo.EchoService) -> TlsTransport:
        below = StreamTransport(await connect(service))
        return TlsTransport(below, client_tls, server_hostname="localhost")

    return over


async def test_a_handshake_that_waits_for_its_turn_has_time_again(
    secure: Secure,
    server_tls: ssl.SSLContext,
    nursery: trio.Nursery,
    patient_clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its hello came in time: that others go first is no fault of its own."""
    run, moves = HandshakeGate.run, trio.Event()

    async def run_later(gate: HandshakeGate) -> None:
        await moves.wait()
        await run(gate)

    monkeypatch.setattr(HandshakeGate, "run", run_later)
    gate = HandshakeGate.of_this_run()
    limits = techo.Limits(handshake_timeout=10)
    async with techo.open_server(
        ANY, reply=techo.raw, tls=server_tls, limits=limits
    ) as service:
        client = await secure(service)
        await trio.testing.wait_all_tasks_blocked()
        gate._spent, gate._steps, gate._last = 1.0, 1, math.inf  # by somebody else
        await client._below.send(hello(client))
        await trio.sleep(15)
        moves.set()
        await client.handshake()
        await client.send(b"x")
        assert await client.receive() == b"x"
        await client.aclose()
        assert ended(await until_ended(service, 1)) == {"eof": 1}


def hello(client: TlsTransport) -> bytes:
    """Return the first of what the client sends."""
    assert not client.records.shake_hands()
    return client.records.take()


async def test_a_batch_whose_records_take_long_goes_on_in_the_next_turn(
    secure: Secure, server_tls: ssl.SSLContext, mock_clock: Clock, conversation: str
) -> None:
    """The other tasks of the run have their turn meanwhile, and nobody is left out."""
    if conversation != "pump":
        pytest.skip("there are no batches without a pump")
    ticks: list[int] = [0]
    seen: list[int] = []

    def take_long(chunk: bytes) -> bytes:
        if chunk == b"long":
            mock_clock.jump(0.01)
            seen.append(ticks[0])
        return chunk

    async def tick() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            ticks[0] += 1

    async with (
        techo.open_server(ANY, reply=take_long, tls=server_tls) as service,
        trio.open_nursery() as nursery,
    ):
        clients = [await secure(service) for _ in range(20)]
        for client in clients:
            await client.handshake()
            await client.send(b"short")
            assert await client.receive() == b"short"
        nursery.start_soon(tick)
        for client in clients:  # without a turn of the run between them
            assert client.socket is not None
            client.records.encrypt(b"long")
            os.write(client.socket.fileno(), client.records.take())
        with trio.fail_after(PATIENCE):
            for client in clients:
                assert await client.receive() == b"long"
        # The two tasks may change places, from one turn of the run to the next.
        assert max(map(seen.count, seen)) <= 2
        for client in clients:
            await client.aclose()
        nursery.cancel_scope.cancel()


async def test_a_drain_gives_a_slow_reader_time_as_long_as_it_reads(
    secure: Secure, server_tls: ssl.SSLContext, nursery: trio.Nursery, patient_clock: Clock
) -> None:
    """Each part of a reply that leaves is progress, also of one that was cut by the drain."""
    size = 2**24
    limits = techo.Limits(idle_timeout=2, drain_timeout=1000)
    async with techo.open_server(
        ANY, reply=lambda _: bytes(size), tls=server_tls, limits=limits
    ) as service:
        client = await secure(service)
        await client.handshake()
        await client.send(b"x")
        await trio.testing.wait_all_tasks_blocked(0.1)
        nursery.start_soon(service.drain)
        received = 0
        while (chunk := await client.receive(2**20)) is not None:
            received += len(chunk)
            if received % 2**20 < len(chunk):
                await trio.sleep(1)
        assert received == size
        await client.aclose()
        statistics = await until_ended(service, 1)
        assert ended(statistics) == {"drained": 1}
        assert statistics.bytes_out == size


@pytest.mark.parametrize("kind", ["tcp", "tls"])
async def test_a_drain_leaves_alone_what_has_just_ended(
    kind: str,
    secure: Secure,
    server_tls: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
    conversation: str,
) -> None:
    """Its number may be another's already, and its outcome is known."""
    if conversation != "pump":
        pytest.skip("the pump only serves numbers")
    end, written = Pump.end, []

    def end_and_drain(
        self: Pump, socket: PumpedSocket, error: BaseException | None = None
    ) -> None:
        end(self, socket, error)
        monkeypatch.setattr(Pump, "_write", lambda *_: written.append(socket))
        for each in service._service.registry:
            each.drain(0, close_timeout=1, now=trio.current_time(), waiting=set())
        monkeypatch.undo()

    address = f"{kind}://127.0.0.1:0"
    async with techo.open_server(address, reply=techo.raw, tls=server_tls) as service:
        monkeypatch.setattr(Pump, "end", end_and_drain)
        if kind == "tls":
            client = await secure(service)
            await client.handshake()
            await client.aclose()
        else:
            stream = await connect(service)
            await stream.send_eof()
            assert await stream.receive_some() == b""
            await stream.aclose()
        assert ended(await until_ended(service, 1)) == {"eof": 1}
        assert not written
