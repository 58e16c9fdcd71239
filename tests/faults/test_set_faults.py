"""Faults that change while a server runs: of new connections, and of those that are open."""

from __future__ import annotations

import ssl

import pytest
import trio
import trio.testing

import techo
from helpers import PATIENCE, ended, until_ended
from techo._transport.connect import connect
from techo.testing import (
    Chunk,
    CloseUnread,
    Corrupt,
    Delay,
    DropReply,
    Fault,
    HalfCloseFirst,
    MemoryServer,
    NeverRead,
    Refuse,
    Reset,
    SlowAccept,
    Stall,
    Throttle,
    open_memory_server,
)


async def trip(stream: trio.abc.Stream, data: bytes = b"hello") -> bytes:
    """Return what comes back of some bytes within a second, or else what stands for the end."""
    back = b""
    try:
        with trio.move_on_after(1):
            await stream.send_all(data)
            while len(back) < len(data):
                if not (more := await stream.receive_some()):
                    return back + b"|end"
                back += more
    except trio.BrokenResourceError:
        return back + b"|reset"
    return back


async def new_trip(server: MemoryServer) -> bytes:
    """Return the same of a new connection."""
    async with await server.connect() as stream:
        return await trip(stream)


async def test_new_connections_have_new_faults(autojump_clock: trio.testing.MockClock) -> None:
    """Faults come to a server that had none, are replaced, and go; open connections stay."""
    async with open_memory_server(reply=techo.raw) as server:
        old = await server.connect()
        assert await trip(old) == b"hello"
        server.set_faults(Reset(first=1))
        trips = [await new_trip(server) for _ in range(2)]
        server.set_faults(Reset(3))
        trips += [await new_trip(server), await trip(old)]
        server.set_faults()
        trips.append(await new_trip(server))
        assert trips == [b"|reset", b"hello", b"|reset", b"hello", b"hello"]
        assert [(event.connection, event.fault) for event in server.history] == [
            (2, Reset(first=1)),
            (4, Reset(3)),
        ]
        assert server.service.faults == ()
        await old.aclose()


async def test_counting_begins_anew_and_time_goes_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """`first` counts from the change, `between` from the start of the server."""
    async with open_memory_server(reply=techo.raw) as server:
        await trio.sleep(5)  # of the clock, which jumps
        server.set_faults(Reset(between=(6, 10), first=1))
        trips = []
        for _ in range(3):
            trips.append(await new_trip(server))
            await trio.sleep(1)  # of the clock, which jumps
        server.set_faults(Reset(between=(6, 10), first=1))
        trips.append(await new_trip(server))
    assert trips == [b"hello", b"|reset", b"hello", b"|reset"]


@pytest.mark.parametrize("faults", [(), (Reset(),)])
async def test_bad_faults_leave_the_old_ones(
    faults: tuple[Fault, ...], autojump_clock: trio.testing.MockClock
) -> None:
    """What cannot happen at a place, or is no fault, is refused, and nothing changes."""
    async with open_memory_server(reply=techo.raw, faults=faults) as server:
        for bad, reason in (
            (DropReply(), "fault DropReply.. cannot happen on memory, only on ip, udp"),
            ([Reset()], "is not only faults of techo.testing, such as Reset"),
            ("reset", "is not only faults"),
        ):
            with pytest.raises(ValueError, match=reason):
                server.set_faults(Reset(), bad, running=True)  # type: ignore[arg-type]
        assert await new_trip(server) == (b"|reset" if faults else b"hello")
        assert server.service.faults == faults


async def test_the_faults_of_datagrams_change() -> None:
    """The next datagram has the new faults, also on a socket that had none."""
    async with techo.open_server("udp://127.0.0.1:0", reply=techo.raw) as server:
        async with (await connect(server.endpoint)).transport as ours:

            async def ask(*messages: bytes) -> bytes | bytearray | None:
                for each in messages:
                    await ours.send(each)
                with trio.fail_after(PATIENCE):
                    return await ours.receive()

            assert await ask(b"one") == b"one"
            server.set_faults(DropReply(first=2))
            assert await ask(b"lost", b"lost too", b"two") == b"two"
            server.set_faults(Corrupt(1))
            assert await ask(b"wrong") not in {b"wrong", None}
            server.set_faults()
            assert await ask(b"three") == b"three"
        with pytest.raises(ValueError, match=r"fault Reset\(\) cannot happen on udp://"):
            server.set_faults(Reset())
        assert server.statistics().datagrams.dropped[techo.DropReason.FAULT] == 2


@pytest.mark.parametrize("faults", [(), (Chunk(2),)], ids=["plain", "faulty"])
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Corrupt(1), None),
        (Stall(2), b"he"),
        (Stall(), b""),
        (Reset(4), b"|reset"),
        (Reset(), b"|reset"),
        (CloseUnread(), b"|reset"),
        (HalfCloseFirst(), b"|end"),
        (Delay(5), b""),
        (NeverRead(), b""),
        (Throttle(1), b"h"),
    ],
    ids=str,
)
async def test_open_connections_are_planned_anew_if_asked_for(
    faults: tuple[Fault, ...],
    fault: Fault,
    expected: bytes | None,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It happens from then on to a connection that waits, whether it had faults or none."""
    async with (
        open_memory_server(reply=techo.raw, faults=faults) as server,
        await server.connect() as stream,
    ):
        for _ in range(5):
            assert await trip(stream) == b"hello"
        server.set_faults(fault, running=True)
        got = await trip(stream)
        if expected is None:
            assert len(got) == 5
            assert not any(a == b for a, b in zip(got, b"hello", strict=True))
        else:
            assert got == expected
        happened = [event for event in server.history if event.fault == fault]
        assert happened[0].connection == 1
        assert 25 <= happened[0].offset <= 29


async def test_what_belongs_to_the_beginning_is_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """An open connection is not refused any more; one that begins slowly goes on at once."""
    async with (
        open_memory_server(reply=techo.raw, faults=[SlowAccept(50)]) as server,
        await server.connect() as stream,
    ):
        assert await trip(stream) == b""
        server.set_faults(Refuse(), running=True)
        assert await stream.receive_some() == b"hello"
        assert trio.current_time() == 1
        server.set_faults(Refuse(), running=True)
        assert await trip(stream) == b"hello"


async def test_the_oldest_come_first(autojump_clock: trio.testing.MockClock) -> None:
    """`first` and `skip` count the open connections in the order in which they came."""
    async with open_memory_server(reply=techo.raw) as server:
        streams = [await server.connect() for _ in range(5)]
        assert [await trip(each) for each in streams] == [b"hello"] * 5
        server.set_faults(Reset(skip=1, first=3), running=True)
        ends = [await trip(each) for each in (*streams, await server.connect())]
        assert ends == [b"hello", *[b"|reset"] * 3, b"hello", b"hello"]


@pytest.mark.parametrize(
    "fault", [Stall(), Stall(2), NeverRead(), Delay(50), Throttle(1)], ids=str
)
async def test_what_a_fault_held_up_goes_on(
    fault: Fault, autojump_clock: trio.testing.MockClock
) -> None:
    """Not a byte is lost when the fault is taken away, and the connection is good again."""
    async with (
        open_memory_server(reply=techo.raw, faults=[fault]) as server,
        await server.connect() as stream,
    ):
        first = await trip(stream)
        assert len(first) < 5
        server.set_faults(running=True)
        rest = b""
        while len(first) + len(rest) < 5:
            rest += await stream.receive_some()
        assert first + rest == b"hello"
        assert trio.current_time() < 5
        assert await trip(stream, b"again") == b"again"
        await stream.send_eof()
        assert await stream.receive_some() == b""
    assert ended(server.statistics()) == {"eof": 1}


@pytest.fixture
def trusting(address: str, client_tls: ssl.SSLContext) -> ssl.SSLContext | None:
    """What a client of the address needs."""
    return client_tls if address.startswith("tls") else None


@pytest.mark.parametrize("kind", ["tcp", "tls", "unixpacket"], indirect=True)
async def test_a_socket_is_planned_anew_in_the_middle_of_its_replies(
    address: str,
    conversation: str,
    server_tls: ssl.SSLContext,
    trusting: ssl.SSLContext | None,
) -> None:
    """What was received and not sent yet is sent in order, and new faults come after it."""
    sent = [bytes([number]) * 20_000 for number in range(200)]
    back = bytearray()
    async with techo.open_server(address, reply=techo.raw, tls=server_tls) as server:
        ours = (await connect(server.endpoint, tls=trusting)).transport

        async def send() -> None:
            for each in sent:
                await ours.send(each)
            await ours.send_eof()

        async with ours, trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked(0.05)  # nobody reads the replies
            server.set_faults(Delay(0), running=True)
            with trio.fail_after(PATIENCE):
                while (data := await ours.receive(2**18)) is not None:
                    back += data
        assert back == b"".join(sent)
        assert server.history
        assert ended(await until_ended(server, 1)) == {"eof": 1}


@pytest.mark.parametrize("kind", ["tcp", "tls", "unixpacket"], indirect=True)
async def test_a_socket_that_waits_is_stalled_and_goes_on(
    address: str,
    conversation: str,
    server_tls: ssl.SSLContext,
    trusting: ssl.SSLContext | None,
) -> None:
    """Nothing more comes from the moment of the change, until the next one."""
    async with techo.open_server(address, reply=techo.raw, tls=server_tls) as server:
        ours = (await connect(server.endpoint, tls=trusting)).transport
        async with ours:
            for number in range(6):
                if number == 5:
                    server.set_faults(Stall(), running=True)
                await ours.send(b"hello")
                with trio.move_on_after(0.05 if number == 5 else PATIENCE) as silence:
                    assert await ours.receive() == b"hello"
            assert silence.cancelled_caught
            server.set_faults(running=True)
            with trio.fail_after(PATIENCE):
                assert await ours.receive() == b"hello"
