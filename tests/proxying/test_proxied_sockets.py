"""The proxy over sockets, by the splicer and by tasks: bytes, messages, ends, limits."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from unittest.mock import patch

import attrs
import pytest
import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st

import techo
from helpers import PATIENCE, ended, open_descriptors, receive_until_end, until
from techo import testing
from techo._proxying.splicer import Splicer
from techo._pump import pump
from techo._transport.connect import connect
from techo._transport.messages import PacketTransport
from techo._transport.streams import StreamTransport
from techo._transport.transport import Transport

KINDS = ("tcp", "unix", "unixpacket")
SIDES = ("client", "target")

both_ways = pytest.mark.usefixtures("conversation")
"""By the splicer, and by tasks as where there is none."""


@attrs.frozen
class Line:
    """A connection through a proxy, of which the test has both ends."""

    client: Transport
    target: Transport
    proxy: testing.Proxy

    def ends(self, first: str = "client") -> tuple[Transport, Transport]:
        """Return both ends, this one first."""
        both = self.client, self.target
        return both if first == "client" else both[::-1]

    async def outcome(self) -> dict[str, int]:
        """Return how the connection has ended, once it has."""
        await until(lambda: ended(self.proxy.statistics()))
        return ended(self.proxy.statistics())


@contextlib.asynccontextmanager
async def opened(
    kind: str, folder: Path, limits: techo.Limits | None = None
) -> AsyncIterator[Line]:
    """Open a listening socket, a proxy before it, and a connection through it."""
    tcp, packets = kind == "tcp", kind == "unixpacket"
    family = socket.AF_INET if tcp else socket.AF_UNIX
    listener = trio.socket.socket(
        family, socket.SOCK_SEQPACKET if packets else socket.SOCK_STREAM
    )
    with listener:
        await listener.bind(("127.0.0.1", 0) if tcp else f"{folder}/target")
        listener.listen()
        port = listener.getsockname()[1] if tcp else 0
        target = f"tcp://127.0.0.1:{port}" if tcp else f"{kind}:{folder}/target"
        place = "tcp://127.0.0.1:0" if tcp else f"{kind}:{folder}/proxy"
        async with testing.open_proxy(target, place, limits=limits) as proxy:
            client = (await connect(proxy.endpoint)).transport
            with trio.fail_after(PATIENCE):
                sock, _ = await listener.accept()
            far = PacketTransport(sock) if packets else StreamTransport(trio.SocketStream(sock))
            async with client, far:
                yield Line(client, far, proxy)
                await client.aclose()
                await far.aclose()


async def receive_all(transport: Transport) -> list[bytes]:
    """Return what comes until the end, piece by piece."""
    got = []
    while (data := await transport.receive()) is not None:
        got.append(bytes(data))
    return got


Steps = Sequence[tuple[str, int]]
"""Who sends a message, and how long it is; none is the sender's end."""


async def pass_all(line: Line, steps: Steps) -> tuple[dict[str, list[bytes]], ...]:
    """Do all steps, each side its own, and then end; return what was sent, and what came."""
    sent: dict[str, list[bytes]] = {side: [] for side in SIDES}
    got: dict[str, list[bytes]] = {side: [] for side in SIDES}

    async def send(who: str, transport: Transport) -> None:
        for number, (acting, size) in enumerate(steps):
            if acting != who:
                continue
            if not size:
                break
            sent[who].append(bytes([number]) * size)
            await transport.send(sent[who][-1])
        await transport.send_eof()

    async def receive(who: str, transport: Transport) -> None:
        got[who] = await receive_all(transport)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for side in SIDES:
                nursery.start_soon(send, side, line.ends(side)[0])
                nursery.start_soon(receive, side, line.ends(side)[0])
    return sent, got


@pytest.mark.parametrize("by_tasks", ["", "by tasks"])
@pytest.mark.parametrize("kind", ["tcp", "unixpacket"])
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(SIDES), st.sampled_from([0, 1, 100, 5000, 100_000])),
        max_size=6,
    )
)
@example(steps=[("client", 100_000)])  # an end right behind a buffer that was full
@settings(max_examples=15)
def test_bytes_and_messages_pass_as_they_were_sent(
    kind: str, by_tasks: str, steps: Steps
) -> None:
    """Whatever either side sends and whenever it ends, the other gets just that."""

    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with opened(kind, Path(folder)) as line:
                sent, got = await pass_all(line, steps)
                for side, other in (SIDES, SIDES[::-1]):
                    if kind == "unixpacket":
                        assert got[side] == sent[other]
                    else:
                        assert b"".join(got[side]) == b"".join(sent[other])
                assert await line.outcome() == {"eof": 1}
                counted = line.proxy.statistics()
                assert counted.bytes_in == sum(map(len, sent["client"]))
                assert counted.bytes_out == sum(map(len, sent["target"]))

    with patch.object(pump, "AVAILABLE", pump.AVAILABLE and not by_tasks):
        trio.run(main)


@both_ways
@pytest.mark.parametrize("kind", KINDS)
async def test_megabytes_pass_both_ways_at_once(kind: str, tmp_path: Path) -> None:
    """Neither direction waits for the other, whoever reads slowly."""
    data = bytes(range(250)) * 16_000
    messages = [data[first : first + 50_000] for first in range(0, len(data), 50_000)]
    got: dict[str, bytes] = {}
    async with opened(kind, tmp_path) as line:

        async def send(transport: Transport) -> None:
            for message in messages:
                await transport.send(message)
            await transport.send_eof()

        async def receive(side: str) -> None:
            got[side] = b"".join(await receive_all(line.ends(side)[0]))

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for side in SIDES:
                    nursery.start_soon(send, line.ends(side)[0])
                    nursery.start_soon(receive, side)
        assert got == dict.fromkeys(SIDES, data)
        assert await line.outcome() == {"eof": 1}


@both_ways
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", SIDES)
async def test_each_half_ends_alone(first: str, kind: str, tmp_path: Path) -> None:
    """One side can finish while the other sends on."""
    async with opened(kind, tmp_path) as line:
        ours, theirs = line.ends(first)
        with trio.fail_after(PATIENCE):
            await ours.send_eof()
            assert await theirs.receive() is None
            await theirs.send(b"still")
            assert await ours.receive() == b"still"
            assert not ended(line.proxy.statistics())
            await theirs.send_eof()
            assert await ours.receive() is None
        assert await line.outcome() == {"eof": 1}


@both_ways
@pytest.mark.parametrize("first", SIDES)
@pytest.mark.parametrize("waiting", [0, 10_000_000], ids=["idle", "while the other is full"])
async def test_a_reset_passes_as_a_reset(first: str, waiting: int, tmp_path: Path) -> None:
    """Each side learns that the other has broken the connection, even if it reads nothing."""
    async with opened("tcp", tmp_path) as line:
        ours, theirs = line.ends(first)
        with trio.move_on_after(0.2 if waiting else 0):
            await ours.send(bytes(waiting))
        await ours.reset()
        with trio.fail_after(PATIENCE), pytest.raises(trio.BrokenResourceError):
            await receive_all(theirs)
        assert await line.outcome() == {"reset": 1}


@both_ways
@pytest.mark.parametrize(("kind", "reader"), [("tcp", "client"), ("unixpacket", "target")])
async def test_what_is_not_read_stops_the_sender_alone(
    kind: str, reader: str, tmp_path: Path
) -> None:
    """The other direction goes on; all arrives in the end."""
    async with opened(kind, tmp_path) as line:
        ours, theirs = line.ends(reader)
        sent = 0

        async def fill() -> None:
            nonlocal sent
            for _ in range(2000):
                await theirs.send(bytes(10_000))
                sent += 10_000
            await theirs.send_eof()

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fill)
                before = -1
                while sent != before:
                    before = sent
                    await trio.sleep(0.03)  # full sockets send no event to wait for
                assert sent < 2 * 10**7
                await ours.send(b"the other way")
                assert await theirs.receive() == b"the other way"
                got = sum(map(len, await receive_all(ours)))
        assert got == sent == 2 * 10**7


@both_ways
async def test_limits_hold(tmp_path: Path) -> None:
    """A quiet connection is idle, one whose bytes are not read is stalled; nothing is left."""
    limits = techo.Limits(idle_timeout=0.2, close_timeout=0.1)
    before = await open_descriptors()
    async with opened("tcp", tmp_path, limits) as line:
        with trio.fail_after(PATIENCE):
            assert await line.client.receive() is None
            assert await line.target.receive() is None
        await line.client.aclose()
        await line.target.aclose()
        assert await line.outcome() == {"idle": 1}
    async with opened("tcp", tmp_path, limits) as line:
        with contextlib.suppress(trio.BrokenResourceError):
            await line.client.send(bytes(10**8))
        assert await line.outcome() == {"stalled": 1}
        with pytest.raises(trio.BrokenResourceError):  # of which not all has passed
            await receive_all(line.target)
    if pump.AVAILABLE:
        assert not Splicer.of_this_run()._ends
    assert await open_descriptors() - before <= 1  # the splicer's own


@both_ways
async def test_a_drain_ends_what_is_quiet(tmp_path: Path) -> None:
    """Both sides get an end, and nothing has to be waited for."""
    async with opened("tcp", tmp_path) as line, trio.open_nursery() as nursery:
        await line.client.send(b"x")
        assert await line.target.receive() == b"x"
        with trio.fail_after(PATIENCE):
            nursery.start_soon(line.proxy.drain)
            assert await line.client.receive() is None
            assert await line.target.receive() is None
            await line.client.aclose()
            await line.target.aclose()
            assert await line.outcome() == {"drained": 1}


@both_ways
async def test_what_waits_while_nobody_runs_us_is_passed_on(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    """Bytes that came in time count, although the time is up when they are seen."""
    async with opened("tcp", tmp_path) as line:
        await line.client.send(b"first")
        assert await line.target.receive() == b"first"
        assert line.client.socket is not None
        os.write(line.client.socket.fileno(), b"x")  # no other task runs meanwhile
        mock_clock.jump(100)  # as if the machine had stood still
        assert await line.target.receive() == b"x"


async def test_a_target_that_refuses_is_unreachable(techo_closed_port: int) -> None:
    """The client is reset, and counted."""
    async with testing.open_proxy(f"127.0.0.1:{techo_closed_port}", "127.0.0.1:0") as proxy:
        client = (await connect(proxy.endpoint)).transport
        with trio.fail_after(PATIENCE), pytest.raises(trio.BrokenResourceError):
            await client.receive()
        await client.aclose()
        await until(lambda: ended(proxy.statistics()))
        assert ended(proxy.statistics()) == {"unreachable": 1}


@both_ways
async def test_tls_passes_untouched(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """A client sees the certificate of the server behind a proxy of tcp."""
    async with (
        techo.open_server("tls://127.0.0.1:0", tls=server_tls, reply=techo.raw) as server,
        testing.open_proxy(f"127.0.0.1:{server.port}", "127.0.0.1:0") as proxy,
        techo.open_client(f"tls://127.0.0.1:{proxy.port}", tls=client_tls) as client,
    ):
        assert (await client.round_trip(bytes(100_000))).reply == bytes(100_000)


@both_ways
async def test_messages_have_the_faults_of_messages(tmp_path: Path) -> None:
    """Over unixpacket each message is dropped, doubled or cut, in either direction."""
    target, place = f"unixpacket:{tmp_path}/target", f"unixpacket:{tmp_path}/proxy"
    async with (
        techo.open_server(target, reply=techo.raw),
        testing.open_proxy(
            target,
            place,
            faults=[testing.DuplicateReply()],
            upstream_faults=[testing.Truncate(2)],
        ) as proxy,
        (await connect(place)).transport as client,
    ):
        await client.send(b"hello")
        with trio.fail_after(PATIENCE):
            assert [await client.receive(), await client.receive()] == [b"he", b"he"]
    assert len(proxy.history) == len(proxy.upstream_history) == 1


async def test_what_our_own_program_closes_is_aborted(tmp_path: Path) -> None:
    """A function may keep the stream that it returned, and close it."""
    streams: list[trio.SocketStream] = []
    async with techo.open_server("tcp://127.0.0.1:0") as server:

        async def connected() -> trio.SocketStream:
            streams.append(await trio.open_tcp_stream("127.0.0.1", server.port))
            return streams[0]

        async with testing.open_proxy(connected, "tcp://127.0.0.1:0") as proxy:
            client = (await connect(proxy.endpoint)).transport
            await client.send(b"x")
            assert await client.receive()
            await streams[0].aclose()
            await until(lambda: ended(proxy.statistics()))
            assert ended(proxy.statistics()) == {"aborted": 1}
            await client.aclose()


@both_ways
@pytest.mark.parametrize("first", SIDES)
async def test_other_faults_can_take_over_an_open_connection(
    first: str, tmp_path: Path
) -> None:
    """What had come before passes as it was; what comes later has the faults, and so on."""
    async with opened("tcp", tmp_path) as line:
        ours, theirs = line.ends(first)
        upstream = first == "client"
        change = line.proxy.set_upstream_faults if upstream else line.proxy.set_faults
        with trio.fail_after(PATIENCE):
            await ours.send(b"before")
            assert await theirs.receive() == b"before"
            got, sent, enough = bytearray(), 0, trio.Event()

            async def keep_sending() -> None:
                nonlocal sent
                while not enough.is_set():
                    sent += 1000
                    await ours.send(bytes(1000))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(keep_sending)
                got += await theirs.receive() or b""
                assert not any(got)
                change(testing.Corrupt(0.001), running=True)
                data: bytes | bytearray = b""
                while not any(data):
                    data = await theirs.receive() or b""
                    got += data
                enough.set()
                while len(got) < sent:
                    got += await theirs.receive() or b""
            await theirs.send(b"the other way")
            assert await ours.receive() == b"the other way"
            change(running=True)
            await ours.send(b"after")
            await ours.send_eof()
            got += b"".join(await receive_all(theirs))
            await theirs.send_eof()
            assert await ours.receive() is None
        bad = [found.start() for found in re.finditer(rb"[^\0]", got[:sent])]
        assert got.endswith(b"after")
        assert await line.outcome() == {"eof": 1}
    history = line.proxy.upstream_history if upstream else line.proxy.history
    places = [event.offset - len(b"before") for event in history]
    places = [place for place in places if place < sent]
    assert places == bad


@pytest.mark.skipif(not pump.AVAILABLE, reason="this system has no epoll")
async def test_what_there_is_no_memory_for_aborts_its_connection(tmp_path: Path) -> None:
    """Bytes that were received and cannot be kept are not left out; others are passed on."""
    async with opened("tcp", tmp_path) as line:
        with patch.object(Splicer, "_hold", side_effect=MemoryError):
            with trio.fail_after(PATIENCE), pytest.raises(trio.BrokenResourceError):
                await line.client.send(bytes(10**8))
            assert await line.outcome() == {"aborted": 1}
    async with opened("tcp", tmp_path) as line:
        await line.client.send(b"later")
        with trio.fail_after(PATIENCE):
            assert await line.target.receive() == b"later"


@both_ways
@pytest.mark.parametrize("first", SIDES)
async def test_an_offset_counts_all_that_was_sent(first: str, tmp_path: Path) -> None:
    """However often the faults were changed before one happens."""
    async with opened("tcp", tmp_path) as line:
        ours, theirs = line.ends(first)
        upstream = first == "client"
        change = line.proxy.set_upstream_faults if upstream else line.proxy.set_faults
        with trio.fail_after(PATIENCE):
            for faults in ((), (), (testing.Truncate(3),)):
                change(*faults, running=True)
                await ours.send(b"hello")
                await theirs.receive()
            assert await theirs.receive() is None
    history = line.proxy.upstream_history if upstream else line.proxy.history
    assert [event.offset for event in history] == [5 + 5 + 3]


@pytest.mark.skipif(not pump.AVAILABLE, reason="this system has no epoll")
@pytest.mark.parametrize("first", SIDES)
@pytest.mark.parametrize("kind", ["unix", "unixpacket"])
async def test_what_a_unix_socket_sent_before_it_closed_arrives(
    first: str, kind: str, tmp_path: Path
) -> None:
    """Although it takes nothing any more, and the other has sent something."""
    async with opened(kind, tmp_path) as line:
        ours, theirs = line.ends(first)
        sent = 0
        with trio.move_on_after(0.1):  # until nothing more fits in between
            while True:
                await ours.send(bytes(1000))
                sent += 1000
        await ours.aclose()
        await theirs.send(b"too late")
        await trio.testing.wait_all_tasks_blocked(0.01)
        with trio.fail_after(PATIENCE):
            assert sum(map(len, await receive_all(theirs))) == sent
        assert await line.outcome() == {"reset": 1}


async def test_a_target_over_tls_is_closed_when_its_client_has_finished(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """It cannot be half-closed; answers that are on their way still pass, and it ends well."""
    async with techo.open_server(
        "tls://127.0.0.1:0", tls=server_tls, reply=techo.raw
    ) as server:

        async def connected() -> trio.SSLStream[trio.SocketStream]:
            below = await trio.open_tcp_stream("127.0.0.1", server.port)
            return trio.SSLStream(below, client_tls, server_hostname="localhost")

        async with testing.open_proxy(connected) as proxy, await proxy.connect() as client:
            await client.send_all(bytes(100_000))
            await client.send_eof()
            with trio.fail_after(PATIENCE):
                assert await receive_until_end(client) == bytes(100_000)
        assert ended(proxy.statistics()) == {"eof": 1}
    assert ended(server.statistics()) == {"eof": 1}
