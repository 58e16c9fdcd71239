"""The pump: what could go wrong when one task talks for many connections."""

from __future__ import annotations

import contextlib
import contextvars
import errno
import os
import queue
import socket
import subprocess
import sys
import unittest.mock
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
import trio.testing

import techo
from helpers import PATIENCE, connect, ended, receive_until_end, until_ended
from techo._pump import pump
from techo._pump.pump import Pump
from techo._pump.socket import PumpedSocket
from techo._transport.messages import PacketTransport

ANY = "tcp://127.0.0.1:0"

pytestmark = [
    pytest.mark.usefixtures("conversation"),
    pytest.mark.skipif(not pump.AVAILABLE, reason="this system has no epoll"),
]


async def sockets() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Return two ends of a connection, without a listener."""
    ours, theirs = trio.socket.socketpair()
    await trio.lowlevel.checkpoint()
    return trio.SocketStream(ours), trio.SocketStream(theirs)


async def test_sockets_go_through_the_pump_and_nothing_else_does(
    conversation: str, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """One place decides, by the transport alone; a hidden pump is not even started."""
    added: list[int] = []
    add = Pump.add

    def note(self: Pump, socket: PumpedSocket) -> None:
        added.append(socket.fd)
        add(self, socket)

    monkeypatch.setattr(Pump, "add", note)
    service = techo.EchoService(techo.raw)
    for ours, theirs in (await sockets(), trio.testing.memory_stream_pair()):
        nursery.start_soon(service.handle, theirs)
        async with ours:
            await ours.send_all(b"hello")
            assert await ours.receive_some() == b"hello"
    assert len(added) == (1 if conversation == "pump" else 0)


@pytest.mark.parametrize(
    "reply",
    [lambda c: c + c, lambda c: c[:1], lambda _: b"", lambda c: c * 300],
    ids=["longer", "shorter", "empty", "much longer"],
)
async def test_a_reply_of_any_length_arrives_whole(reply: Callable[[bytes], bytes]) -> None:
    """A reply that no socket takes at once arrives whole, too."""
    async with (
        techo.open_server(ANY, reply=reply) as server,
        await connect(server) as stream,
        trio.open_nursery() as nursery,
    ):
        sent = [os.urandom(10_000) for _ in range(20)]

        async def send() -> None:
            for chunk in sent:
                await stream.send_all(chunk)
            await stream.send_eof()

        nursery.start_soon(send)
        back = await receive_until_end(stream)
        statistics = await until_ended(server, 1)
        assert ended(statistics) == {"eof": 1}
        assert statistics.bytes_in == 200_000
        assert len(back) == statistics.bytes_out
        if reply(b"ab") == b"a":
            assert len(back) == statistics.chunks
        else:
            assert len(back) == 200_000 * len(reply(b"x"))


@pytest.mark.parametrize("wrong", [ValueError, OSError, "not bytes"], ids=str)
async def test_a_reply_that_raises_in_a_batch_ends_its_own_connection(
    wrong: type[Exception] | str, caplog: pytest.LogCaptureFixture
) -> None:
    """The others in the same batch get their answers."""

    def reply(chunk: bytes) -> Any:
        if chunk != b"x":
            return chunk
        if isinstance(wrong, str):
            return wrong
        raise wrong("as planned")

    async with techo.open_server(ANY, reply=reply) as server:
        streams = [await connect(server) for _ in range(21)]
        for number, stream in enumerate(streams):
            await stream.send_all(b"x" if number == 10 else b"%d" % number)
        for number, stream in enumerate(streams):
            expected = b"" if number == 10 else b"%d" % number
            assert await stream.receive_some() == expected
            await stream.aclose()
        assert ended(await until_ended(server, 21)) == {"eof": 20, "crashed": 1}
    assert sum(record.exc_info is not None for record in caplog.records) == 1


async def test_what_ends_programs_is_raised_where_the_connection_is() -> None:
    """SystemExit from a reply leaves by the nursery of the handler, as from any handler."""

    def leave(chunk: bytes) -> bytes:
        raise SystemExit(chunk.decode())

    service = techo.EchoService(leave)
    ours, theirs = await sockets()
    async with ours:
        await ours.send_all(b"goodbye")
        with pytest.raises(SystemExit, match="goodbye"):
            await service.handle(theirs)
    assert ended(service.statistics()) == {"aborted": 1}


@pytest.mark.parametrize("victims", [[5, 3], [4], range(10)], ids=["others", "itself", "all"])
async def test_cancelling_in_the_middle_of_a_batch(victims: Sequence[int]) -> None:
    """A reply function is in a batch when it runs; whatever it cancels is aborted, no more."""
    scopes = [trio.CancelScope() for _ in range(10)]

    def reply(chunk: bytes) -> bytes:
        if chunk == b"4":
            for victim in victims:
                scopes[victim].cancel()
        return chunk

    service = techo.EchoService(reply)
    pairs = [await sockets() for _ in range(10)]

    async def handle(number: int) -> None:
        with scopes[number]:
            await service.handle(pairs[number][1])

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(handle, number)
        await trio.testing.wait_all_tasks_blocked()
        for number, (ours, _) in enumerate(pairs):
            with contextlib.suppress(trio.BrokenResourceError):  # 4 was answered already
                await ours.send_all(b"%d" % number)
        for number in (4, *range(4), *range(5, 10)):
            async with pairs[number][0] as ours:
                if number not in victims:
                    assert await ours.receive_some() == b"%d" % number
                elif number == 4:  # all others have been answered or cancelled by then
                    with contextlib.suppress(trio.BrokenResourceError):
                        await ours.receive_some()
    expected = {"aborted": len(victims), "eof": 10 - len(victims)}
    assert ended(service.statistics()) == {name: n for name, n in expected.items() if n}


async def test_cancelling_the_run_in_the_middle_of_a_batch() -> None:
    """Everything unwinds, and the pump last of all."""
    service: techo.EchoService
    outer = trio.CancelScope()

    def reply(chunk: bytes) -> bytes:
        outer.cancel()
        return chunk

    with outer:
        async with (
            techo.open_server(ANY, reply=reply) as service,
            await connect(service) as stream,
        ):
            await stream.send_all(b"x")
            await trio.sleep_forever()
    assert outer.cancelled_caught
    assert ended(service.statistics()) == {"aborted": 1}


async def test_a_number_in_use_again_belongs_to_the_new_connection() -> None:
    """A stream closed by our own program is aborted, and no peer gets another's bytes."""
    service = techo.EchoService(techo.raw, limits=techo.Limits(idle_timeout=PATIENCE))
    ours, theirs = await sockets()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.handle, theirs)
        await trio.testing.wait_all_tasks_blocked()
        number = theirs.socket.fileno()
        await theirs.aclose()
        new_ours, new_theirs = await sockets()
        if new_ours.socket.fileno() == number:
            new_ours, new_theirs = new_theirs, new_ours
        assert new_theirs.socket.fileno() == number
        nursery.start_soon(service.handle, new_theirs)
        await new_ours.send_all(b"hello")
        assert await new_ours.receive_some() == b"hello"
        await new_ours.aclose()
        with trio.fail_after(PATIENCE / 2):  # the first is told at once, not when it is idle
            await until_ended(service, 2)
    await ours.aclose()
    assert ended(service.statistics()) == {"eof": 1, "aborted": 1}


async def test_a_reply_function_runs_in_the_context_of_its_connection(
    nursery: trio.Nursery,
) -> None:
    """What it finds in context variables and puts there is its connection's own."""
    number: contextvars.ContextVar[int] = contextvars.ContextVar("number")

    def count(_: bytes) -> bytes:
        number.set(number.get() + 1)
        return b"%d" % number.get()

    service = techo.EchoService(count)
    ends = []
    for start in (10, 20):
        ours, theirs = await sockets()
        await ours.send_all(b"x")  # has arrived before the conversation begins
        number.set(start)
        nursery.start_soon(service.handle, theirs)
        ends.append(ours)
    for ours, start in zip(ends, (10, 20), strict=True):
        for more in range(1, 4):
            assert await ours.receive_some() == b"%d" % (start + more)
            await ours.send_all(b"x")
        await ours.aclose()
    assert number.get() == 20
    await until_ended(service, 2)


@pytest.mark.parametrize("packets", [False, True], ids=["stream", "packets"])
async def test_a_stream_closed_by_our_own_program_is_noticed_at_once(
    packets: bool,  # noqa: FBT001  -- a parameter of the test
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Its connection is over in the same moment, whoever holds the socket."""
    service = techo.EchoService(techo.raw)
    kind = socket.SOCK_SEQPACKET if packets else socket.SOCK_STREAM
    ours, theirs = trio.socket.socketpair(socket.AF_UNIX, kind)
    transport = PacketTransport(theirs) if packets else trio.SocketStream(theirs)
    nursery.start_soon(service.handle, transport)
    with ours:
        await ours.send(b"hello")
        assert await ours.recv(10) == b"hello"
        await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
        await transport.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert ended(service.statistics()) == {"aborted": 1}
        assert trio.current_time() == start
        assert await ours.recv(10) == b""


async def test_what_the_pump_cannot_register_is_served_without_it(
    monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """The system may watch no more sockets; nothing of the attempt stays behind."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    this_pump = Pump.of_this_run()
    await trio.testing.wait_all_tasks_blocked()
    monkeypatch.setattr(this_pump, "_epoll", unittest.mock.Mock(register=full))
    service = techo.EchoService(techo.raw)
    ours, theirs = await sockets()
    nursery.start_soon(service.handle, theirs)
    async with ours:
        await ours.send_all(b"hello")
        assert await ours.receive_some() == b"hello"
    assert ended(await until_ended(service, 1)) == {"eof": 1}
    assert not this_pump._sockets


async def test_what_was_closed_before_it_is_served_is_aborted() -> None:
    """It is no error of the peer's, and no crash."""
    service = techo.EchoService(techo.raw)
    ours, theirs = await sockets()
    await theirs.aclose()
    await service.handle(theirs)
    await ours.aclose()
    assert ended(service.statistics()) == {"aborted": 1}


async def test_a_reply_that_closes_the_socket_ends_its_own_connection() -> None:
    """The others are served on."""
    ours, theirs = await sockets()

    def close_it(chunk: bytes) -> bytes:
        if chunk == b"close":
            theirs.socket.close()
            return b""
        return chunk

    service = techo.EchoService(close_it, limits=techo.Limits(receive_size=5))
    other_ours, other_theirs = await sockets()
    async with ours, other_ours, trio.open_nursery() as nursery:
        nursery.start_soon(service.handle, theirs)
        nursery.start_soon(service.handle, other_theirs)
        await ours.send_all(b"close")
        await other_ours.send_all(b"hi")
        assert await other_ours.receive_some() == b"hi"
        await other_ours.send_eof()
    assert service.statistics().outcomes[techo.Outcome.EOF] == 1
    assert service.statistics().active == 0


async def test_no_busy_connection_keeps_other_tasks_waiting() -> None:
    """Between two turns every other task gets its turn, however much there is to do."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await trio.lowlevel.checkpoint()
            ticks += 1

    async with (
        techo.open_server(ANY, reply=techo.raw) as server,
        await connect(server) as stream,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(tick)

        async def send() -> None:
            while True:
                await stream.send_all(bytes(100_000))

        nursery.start_soon(send)
        received = 0
        while received < 10_000_000:
            received += len(await stream.receive_some())
        assert ticks > 20
        nursery.cancel_scope.cancel()


def test_a_guest_run() -> None:
    """The pump works in a guest run."""
    todo: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
    results: list[techo.RoundTrip] = []

    async def main() -> None:
        async with (
            techo.open_server(ANY, reply=techo.raw) as server,
            techo.open_client(server.endpoints[0]) as client,
        ):
            results.append(await client.round_trip(bytes(10**6)))

    trio.lowlevel.start_guest_run(
        main,
        run_sync_soon_threadsafe=todo.put,
        done_callback=lambda _outcome: todo.put(None),
    )
    while (call := todo.get(timeout=PATIENCE)) is not None:
        call()
    assert results[0].reply == bytes(10**6)


def test_a_system_without_epoll_gets_the_portable_conversation() -> None:
    """Nothing of the pump is needed to import techo or to serve."""
    code = """
import select, trio
async def main():
    # Hidden only now, because trio itself cannot do without.
    del select.epoll
    import techo
    async with techo.open_server("tcp://127.0.0.1:0", reply=techo.raw) as server:
        async with techo.open_client(server.endpoints[0]) as client:
            print((await client.round_trip(b"hello")).reply)
trio.run(main)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=PATIENCE, check=False
    )
    assert (done.stdout, done.returncode) == (b"b'hello'\n", 0), done.stderr.decode()
