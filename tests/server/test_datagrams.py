"""Datagrams: each one answered or counted, from the address that was hit, and no loops."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

import techo
from helpers import PATIENCE, until
from techo._buckets import Buckets
from techo._kernel.datagram_sockets import DatagramSocket
from techo._server import datagrams
from techo._server.connection import Peer
from techo._server.hook import ServiceHook
from techo._transport.transport import Transport
from techo.testing import MemoryListener

ANY = "udp://127.0.0.1:0"


@contextlib.contextmanager
def peer(
    to: techo.Endpoint, host: str = "", bound: tuple[str, int] | str | None = None
) -> Iterator[trio.socket.SocketType]:
    """A socket that talks to `to`, by way of `host` if one is given."""
    unix = to.kind is techo.Kind.UNIXGRAM
    host = host or to.host
    internet = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(socket.AF_UNIX if unix else internet, socket.SOCK_DGRAM) as sock:
        if bound is not None:
            sock.bind(bound)
        path = "\0" + to.path[1:] if to.path.startswith("@") else to.path
        sock.connect(path if unix else (host, to.port))
        yield trio.socket.from_stdlib_socket(sock)


async def ask(sock: trio.socket.SocketType, data: bytes) -> bytes:
    """Send one datagram and receive its reply."""
    with trio.fail_after(PATIENCE):
        await sock.send(data)
        return await sock.recv(2**18)


async def until_received(service: techo.EchoService, count: int) -> techo.DatagramStatistics:
    """Wait until `count` datagrams have arrived; return the figures of that moment."""
    await until(lambda: service.statistics().datagrams.received >= count)
    found = service.statistics().datagrams
    assert found.received == found.echoed + sum(found.dropped.values())
    return found


def reasons(found: techo.DatagramStatistics) -> dict[str, int]:
    """Return why datagrams were dropped, and how many."""
    return {str(reason): count for reason, count in found.dropped.items() if count}


@pytest.mark.parametrize("size", [0, 1, 2048, 2049, 65_507])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_datagram_of_any_size_comes_back(host: str, size: int) -> None:
    """Every size comes back, from nothing to the largest that IPv4 carries."""
    data, udp = os.urandom(size), techo.Endpoint(host, 0, kind=techo.Kind.UDP)
    async with techo.open_server(udp, reply=techo.raw) as server:
        with peer(server.endpoints[0]) as sock:
            assert await ask(sock, data) == data
        found = server.statistics().datagrams
        assert (found.received, found.echoed) == (1, 1)
        assert (found.bytes_in, found.bytes_out) == (size, size)
        assert server.statistics().accepted == 0


@pytest.mark.parametrize("endpoint", [ANY, "unixgram:@techo-any-{pid}"])
@settings(max_examples=20, deadline=None)
@given(messages=st.lists(st.binary(max_size=9000), min_size=1, max_size=8))
def test_messages_keep_their_bounds(endpoint: str, messages: list[bytes]) -> None:
    """Each datagram gets one reply, whole, with a stamp of its own, in order."""

    async def main() -> None:
        async with techo.open_server(endpoint.format(pid=os.getpid())) as server:
            bound = "" if endpoint.startswith("unix") else None
            with peer(server.endpoints[0], bound=bound) as sock:
                for message in messages:
                    await sock.send(message)
                for message in messages:
                    with trio.fail_after(PATIENCE):
                        answer = await sock.recv(2**18)
                    assert answer[27:] == message
                    assert answer[:1] + answer[25:27] == b"[] "

    trio.run(main)


async def test_the_answer_leaves_from_the_address_that_was_hit() -> None:
    """It does on wildcard binds too, where the kernel would choose another one."""
    async with techo.open_server("udp://*:0", reply=techo.raw) as server:
        four, six = server.endpoints
        assert (four.host, six.host) == ("0.0.0.0", "::")  # noqa: S104  -- what * means
        assert four.port == six.port != 0
        for to, host in ((four, "127.0.0.1"), (four, "127.0.0.2"), (six, "::1")):
            with peer(to, host) as sock:  # connected: it takes answers from there only
                assert await ask(sock, host.encode()) == host.encode()


async def test_our_own_ports_are_not_answered() -> None:
    """A forged datagram does not set two of our sockets against each other."""
    async with techo.open_server("udp://127.0.0.1:0", "udp://127.0.0.2:0") as server:
        first, second = server.endpoints
        with peer(first, bound=("127.0.0.3", second.port)) as sock:
            await sock.send(b"from our own port, so it seems")
            assert reasons(await until_received(server, 1)) == {"loop": 1}


async def test_a_port_is_ours_as_long_as_one_socket_has_it() -> None:
    """The port stays guarded when another socket on it has ended."""
    service = techo.EchoService()
    async with trio.open_nursery() as nursery:
        (first,) = await nursery.start(service.serve, ANY)
        async with trio.open_nursery() as other:
            await other.start(service.serve, f"udp://127.0.0.2:{first.port}")
            other.cancel_scope.cancel()
        with peer(first, bound=("127.0.0.3", first.port)) as sock:
            await sock.send(b"from our own port, so it seems")
            assert reasons(await until_received(service, 1)) == {"loop": 1}
        nursery.cancel_scope.cancel()


async def test_without_the_guard_they_are() -> None:
    """The loop guard can be switched off."""
    limits = techo.Limits(loop_guard=False)
    async with techo.open_server(ANY, "udp://127.0.0.2:0", limits=limits) as server:
        first, second = server.endpoints
        with peer(first, bound=("127.0.0.3", second.port)) as sock:
            assert (await ask(sock, b"hello")).endswith(b"hello")


async def test_ports_that_answer_everything_are_not_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A datagram from echo, chargen, DNS and the like is dropped: they answer replies."""
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        await sock.bind(("127.0.0.1", 0))
        monkeypatch.setattr(datagrams, "ANSWERING_PORTS", {sock.getsockname()[1]})
        async with techo.open_server(ANY) as server:
            await sock.sendto(b"hello", ("127.0.0.1", server.endpoints[0].port))
            assert reasons(await until_received(server, 1)) == {"guarded": 1}


async def test_each_source_has_its_own_rate(
    patient_clock: trio.testing.MockClock,
) -> None:
    """Datagrams beyond the rate are dropped; other addresses are not affected."""
    limits = techo.Limits(max_datagrams_per_second=3)
    async with techo.open_server(ANY, limits=limits, reply=techo.raw) as server:
        to = server.endpoints[0]
        with peer(to) as greedy, peer(to, bound=("127.0.0.9", 0)) as modest:
            for _ in range(10):
                await greedy.send(b"more")
            assert await ask(modest, b"some") == b"some"
            found = await until_received(server, 11)
            assert reasons(found) == {"rate": 7}


@given(
    rate=st.integers(1, 50),
    arrivals=st.lists(st.floats(0, 0.5), max_size=200),
)
def test_a_bucket_admits_a_second_s_worth_at_once_and_its_rate_for_ever(
    rate: int, arrivals: list[float]
) -> None:
    """A bucket admits a burst of `rate` and then `rate` a second, and all that is slower."""
    buckets, now = Buckets(rate), 0.0
    admitted = 0
    for pause in arrivals:
        now += pause
        admitted += buckets.admit("peer", now)
        assert admitted <= rate + rate * now + 0.001
    slow = Buckets(rate)
    assert all(slow.admit("peer", number / rate) for number in range(100))


def test_buckets_are_kept_for_a_bounded_number_of_sources() -> None:
    """A flood of invented addresses does not grow the server; the latest are remembered."""
    buckets = Buckets(1)
    for number in range(100_000):
        assert buckets.admit(number, 0.0)
    assert len(buckets._full_at) <= 2**16
    assert not buckets.admit(99_999, 0.0)


async def test_a_reply_too_large_for_the_transport_is_dropped() -> None:
    """A stamp on the largest datagram does not fit; the loop goes on."""
    async with techo.open_server(ANY) as server:
        with peer(server.endpoints[0]) as sock:
            await sock.send(bytes(65_507))
            assert (await ask(sock, b"next")).endswith(b"next")
        assert reasons(server.statistics().datagrams) == {"too_large": 1}


HOLES = memoryview(b"with holes")[::2]
"""Bytes that no socket sends as they are."""


async def test_a_reply_function_may_fail_or_be_silent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each costs its own datagram only, and is counted; the first traceback is in the log."""
    replies = {b"raise": None, b"hush": b"", b"text": "text", b"": b"", b"holes": HOLES}

    def reply(data: bytes) -> bytes:
        answer = replies.get(data, data)
        if answer is None:
            raise OSError("no")
        return answer  # type: ignore[return-value]  # one of them is wrong on purpose

    async with techo.open_server(ANY, reply=reply) as server:
        with peer(server.endpoints[0]) as sock:
            for data in (b"raise", b"hush", b"text", b"holes"):
                await sock.send(data)
            assert await ask(sock, b"") == b""
            assert await ask(sock, b"fine") == b"fine"
        assert reasons(server.statistics().datagrams) == {"crashed": 3, "silent": 1}
    crashed, raised, silent, sum_of_crashed = caplog.records
    assert crashed.getMessage().startswith("datagrams not answered (crashed); dropped 127.")
    assert raised.exc_info is not None
    assert "(silent)" in silent.getMessage()
    assert "; 3 dropped in the last" in sum_of_crashed.getMessage()


async def test_a_unix_peer_that_never_reads_does_not_hold_up_the_others(
    tmp_path: Path,
) -> None:
    """When its queue is full, what follows is dropped, and the loop goes on."""
    async with techo.open_server(f"unixgram:{tmp_path}/echo", reply=techo.raw) as server:
        to = server.endpoints[0]
        with (
            trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf,
            peer(to, bound="") as other,
        ):
            await deaf.bind(f"{tmp_path}/deaf")
            for _ in range(50):
                await deaf.sendto(b"x", to.path)
                assert await ask(other, b"hello") == b"hello"
            found = await until_received(server, 100)
        assert set(reasons(found)) == {"blocked"}
        assert found.echoed > 50


async def test_unread_replies_use_up_the_socket_s_buffer_and_no_more(tmp_path: Path) -> None:
    """The kernel charges them to their sender, so the loop goes on, and drops."""
    async with techo.open_server(f"unixgram:{tmp_path}/echo", reply=techo.raw) as server:
        to = server.endpoints[0]
        with peer(to, bound=f"{tmp_path}/deaf") as deaf:  # connected: its queue has no bounds
            for _ in range(1000):
                await deaf.send(bytes(1000))
            assert set(reasons(await until_received(server, 1000))) == {"blocked"}
        with peer(to, bound="") as other:
            assert await ask(other, b"hello") == b"hello"


async def test_a_unix_peer_without_a_name_cannot_be_answered(tmp_path: Path) -> None:
    """It is counted; whether or not the guard is on, and others are answered."""
    for guard in (True, False):
        limits = techo.Limits(loop_guard=guard)
        path = f"unixgram:{tmp_path}/echo"
        async with techo.open_server(path, limits=limits) as server:
            with peer(server.endpoints[0]) as nobody:
                await nobody.send(b"hello")
            assert reasons(await until_received(server, 1)) == {"unbound": 1}


async def test_a_unix_peer_that_has_gone_is_unreachable(tmp_path: Path) -> None:
    """What it asked before it went is counted as dropped."""
    async with techo.open_server(f"unixgram:{tmp_path}/echo") as server:
        with peer(server.endpoints[0], bound=f"{tmp_path}/gone") as sock:
            os.write(sock.fileno(), b"and")  # no checkpoint between this and the end
        found = await until_received(server, 1)
        assert reasons(found) == {"unreachable": 1}


async def test_a_datagram_cut_short_is_not_echoed(tmp_path: Path) -> None:
    """A datagram of more than 256 KiB arrives in part only, and is dropped."""
    async with techo.open_server(f"unixgram:{tmp_path}/echo", reply=techo.raw) as server:
        with peer(server.endpoints[0], bound=f"{tmp_path}/peer") as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) < 300_000:
                pytest.skip("this system does not allow buffers of 300,000 bytes")
            await sock.send(bytes(280_000))
            assert await ask(sock, b"next") == b"next"
        assert reasons(server.statistics().datagrams) == {"truncated": 1}


def test_a_hook_is_asked_about_datagrams_if_it_has_something_to_say() -> None:
    """One that does nothing with them costs them nothing."""

    class Counting(ServiceHook):
        """Says nothing of datagrams."""

    for hook, asked in ((None, False), (Counting(), False), (techo.Admission(), True)):
        service = techo.EchoService(hook=hook)
        assert (service._service.datagrams.hook is not None) == asked


async def test_a_drain_answers_what_had_arrived() -> None:
    """Datagrams in the socket when it begins are answered before the socket closes."""
    async with techo.open_server(ANY, reply=techo.raw) as server:
        with peer(server.endpoints[0]) as sock:
            assert await ask(sock, b"first") == b"first"
            for number in range(50):
                os.write(sock.fileno(), b"%d" % number)  # no checkpoint: the loop sees nothing
            with trio.fail_after(PATIENCE):
                await server.drain()
            assert [await sock.recv(10) for _ in range(50)] == [b"%d" % n for n in range(50)]
            with pytest.raises(ConnectionRefusedError):
                await ask(sock, b"late")


async def test_a_flood_from_many_leaves_loop_and_memory_alone(tmp_path: Path) -> None:
    """The counts add up for random sizes from many sources, some of which have gone."""
    chooser = random.Random(7)  # noqa: S311  -- for repeatable sizes, not for secrets
    async with techo.open_server(ANY, f"unixgram:{tmp_path}/echo", reply=techo.raw) as server:
        udp, unix = server.endpoints
        with contextlib.ExitStack() as stack:
            sources = [stack.enter_context(peer(udp)) for _ in range(20)]
            sources += [stack.enter_context(peer(unix, bound="")) for _ in range(5)]
            sent = 0
            for _ in range(5000):
                sock = chooser.choice(sources)
                if sock.family == socket.AF_INET and chooser.random() < 0.01:
                    with peer(udp) as gone:  # whose port refuses what comes back
                        await gone.send(b"and away")
                else:
                    await sock.send(chooser.randbytes(chooser.randrange(1500)))
                sent += 1
                if sent % 20 == 0:
                    await until_received(server, sent)
            found = await until_received(server, sent)
            assert found.received == sent
            assert set(reasons(found)) <= {"blocked", "unreachable"}
        with peer(udp) as sock:
            assert await ask(sock, b"still there?") == b"still there?"


async def test_all_addresses_of_a_network_are_one_source() -> None:
    """Who has a /64 of IPv6 does not get the rate for each of its addresses."""
    await trio.lowlevel.checkpoint()
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("::1", 0))
        place = DatagramSocket.of(sock)
        one, two, other = (place.source((host, 1, 0, 0)) for host in NEIGHBOURS)
    assert one == two != other


NEIGHBOURS = ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")


async def test_connections_of_a_network_count_as_one_host_s(nursery: trio.Nursery) -> None:
    """The limit by address holds for all of a /64 together."""
    left = list(NEIGHBOURS)

    class Named(ServiceHook):
        """Takes the peers for neighbours."""

        async def identify(self, _transport: Transport, _peer: Peer) -> Peer:
            """Return the next."""
            await trio.lowlevel.checkpoint()
            return Peer("neighbour", left.pop(0))

    service = techo.EchoService(techo.raw, limits=techo.Limits(max_per_host=1), hook=Named())
    listener = MemoryListener()
    await nursery.start(service.serve, listener)
    streams = []
    for _ in NEIGHBOURS:
        streams.append(await listener.connect())
        await trio.testing.wait_all_tasks_blocked()
    assert service.statistics().outcomes[techo.Outcome.REFUSED] == 1
    assert service.statistics().active == 2
    nursery.cancel_scope.cancel()
