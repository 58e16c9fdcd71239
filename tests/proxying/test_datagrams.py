"""Datagrams through a proxy: sources are kept apart, and messages are what they were."""

from __future__ import annotations

import collections
import contextlib
import errno
import itertools
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

import techo
from helpers import PATIENCE, ended, open_descriptors, until
from techo import testing
from techo._proxying import flow
from techo.testing import Proxy

Clock = trio.testing.MockClock
Socket = trio.socket.SocketType


@attrs.define(eq=False)
class Far:
    """A target that does what the test says, and a folder for paths."""

    sock: Socket
    folder: Path

    @property
    def endpoint(self) -> str:
        """Where it is."""
        return text_of(self.sock)

    async def receive(self) -> tuple[bytes, Any]:
        """Return the next datagram, and from where it came."""
        with trio.fail_after(PATIENCE):
            data, sender = await self.sock.recvfrom(2**18)
        return data, sender

    async def send(self, data: bytes, sender: Any) -> None:
        """Answer it."""
        await self.sock.sendto(data, sender)

    def listening(self) -> str:
        """Return where a proxy of the same kind can listen."""
        if self.sock.family == socket.AF_UNIX:
            return f"unixgram:{self.folder}/proxy"
        return "udp://127.0.0.1:0"

    def client(self, proxy: Proxy) -> Socket:
        """Return a new client of a proxy."""
        place = proxy.endpoints[0]
        sock = new_socket("unixgram" if place.path else "udp")
        address = place.path or (place.host, place.port)
        raw = socket.socket(fileno=sock.fileno())
        try:
            raw.connect(address)
        finally:
            raw.detach()
        return sock


def text_of(sock: Socket) -> str:
    """Return the endpoint of a socket for datagrams."""
    name = sock.getsockname()
    return f"unixgram:{name}" if isinstance(name, str) else f"udp://{name[0]}:{name[1]}"


def new_socket(kind: str, path: str = "", host: str = "127.0.0.1") -> Socket:
    """Return a bound socket for datagrams."""
    unix = kind == "unixgram"
    sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(path if unix else (host, 0))
    return trio.socket.from_stdlib_socket(sock)


@pytest.fixture(params=["udp", "unixgram"])
async def far(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Far]:
    """A target for datagrams."""
    with contextlib.closing(new_socket(request.param, f"{tmp_path}/target")) as sock:
        yield Far(sock, tmp_path)


@pytest.fixture
async def udp(tmp_path: Path) -> AsyncIterator[Far]:
    """A target over UDP."""
    with contextlib.closing(new_socket("udp")) as sock:
        yield Far(sock, tmp_path)


async def received(sock: Socket) -> bytes:
    """Return the next datagram."""
    with trio.fail_after(PATIENCE):
        return await sock.recv(2**18)


async def test_sources_are_kept_apart_and_messages_whole(far: Far) -> None:
    """Each source gets what the target says to it, empty datagrams too, and is a connection."""
    async with testing.open_proxy(far.endpoint, far.listening()) as proxy:
        with far.client(proxy) as one, far.client(proxy) as other:
            await one.send(b"")
            await other.send(b"from the other")
            (first, its_sender), (second, other_sender) = (
                await far.receive(),
                await far.receive(),
            )
            assert (first, second) == (b"", b"from the other")
            assert its_sender != other_sender
            for each in (b"a", b"", b"b" * 60_000):
                await far.send(each, its_sender)
            await far.send(b"to the other", other_sender)
            assert [await received(one) for _ in range(3)] == [b"a", b"", b"b" * 60_000]
            assert await received(other) == b"to the other"
        statistics = proxy.statistics()
    assert (statistics.accepted, statistics.active, statistics.chunks) == (2, 2, 2)
    assert (statistics.bytes_in, statistics.bytes_out) == (14, 60_013)
    assert (statistics.datagrams.received, statistics.datagrams.echoed) == (2, 2)
    assert ended(proxy.statistics()) == {"drained": 2}


async def test_where_there_is_no_epoll(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task of each source waits for its socket, and passes on the same."""
    monkeypatch.setattr("techo._proxying.datagrams.AVAILABLE", False)
    async with testing.open_proxy(far.endpoint, far.listening()) as proxy:
        with far.client(proxy) as client:
            for each in (b"one", b"two"):
                await client.send(each)
                data, sender = await far.receive()
                await far.send(data, sender)
                assert await received(client) == each


async def test_a_quiet_source_is_forgotten(far: Far, autojump_clock: Clock) -> None:
    """Its socket is closed after the idle timeout; it gets a new one with its next datagram."""
    limits = techo.Limits(idle_timeout=30)
    async with testing.open_proxy(far.endpoint, far.listening(), limits=limits) as proxy:
        with far.client(proxy) as client:
            await client.send(b"one")
            _, first = await far.receive()
            await trio.sleep(29)  # of the clock, which jumps
            await far.send(b"late", first)
            assert await received(client) == b"late"
            await trio.sleep(29.9)  # of the clock, which jumps
            assert proxy.statistics().active == 1
            await trio.sleep(0.2)  # of the clock, which jumps
            assert ended(proxy.statistics()) == {"idle": 1}
            await client.send(b"two")
            assert await far.receive() == (b"two", Other(first))


@attrs.frozen
class Other:
    """Equal to everything but one thing."""

    thing: object

    def __eq__(self, other: object) -> bool:
        """Return whether it is another."""
        return other != self.thing

    def __hash__(self) -> int:
        """Return what is the same for all."""
        return 0


async def test_the_quietest_source_makes_room(
    udp: Far, autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond max_connections that one is refused, counted and logged, and the others go on."""
    limits = techo.Limits(max_connections=2)
    async with testing.open_proxy(udp.endpoint, udp.listening(), limits=limits) as proxy:
        with udp.client(proxy) as one, udp.client(proxy) as two, udp.client(proxy) as three:
            senders = []
            for client in (one, two):
                await client.send(b"hello")
                senders.append((await udp.receive())[1])
                await trio.sleep(1)  # of the clock, which jumps
            await udp.send(b"so the first is not quiet", senders[0])
            await received(one)
            await three.send(b"hello")
            await udp.receive()
            assert ended(proxy.statistics()) == {"refused": 1}
            await one.send(b"again")
            assert await udp.receive() == (b"again", senders[0])
    assert "max-connections 2 reached; refused" in caplog.text


async def test_a_shortage_costs_the_quietest_source(
    udp: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a descriptor for one more, it makes room, and what is sent again passes."""
    tries = itertools.count(1)

    def open_towards(found: Any) -> socket.socket:
        if next(tries) == 2:
            raise OSError(errno.EMFILE, "too many open files")
        return real(found)

    real = flow.open_towards
    monkeypatch.setattr(flow, "open_towards", open_towards)
    async with testing.open_proxy(udp.endpoint, udp.listening()) as proxy:
        with udp.client(proxy) as one, udp.client(proxy) as two:
            await one.send(b"one")
            await udp.receive()
            await two.send(b"lost")
            await until(lambda: ended(proxy.statistics()))
            await two.send(b"two")
            assert (await udp.receive())[0] == b"two"
        statistics = proxy.statistics()
    assert ended(statistics) == {"refused": 1, "aborted": 1}
    assert statistics.datagrams.dropped[techo.DropReason.BLOCKED] == 1


async def test_a_host_has_its_own_bound(udp: Far) -> None:
    """Beyond max_per_host the quietest source of the same host makes room, and no other."""
    limits = techo.Limits(max_per_host=1)
    async with testing.open_proxy(udp.endpoint, udp.listening(), limits=limits) as proxy:
        with new_socket("udp", host="127.0.0.2") as other:
            address = "127.0.0.1", proxy.port
            await other.sendto(b"other", address)
            _, sender = await udp.receive()
            for number in range(3):
                with udp.client(proxy) as client:
                    await client.send(b"%d" % number)
                    assert (await udp.receive())[0] == b"%d" % number
            await other.sendto(b"again", address)
            assert await udp.receive() == (b"again", sender)
        statistics = proxy.statistics()
    assert (statistics.active, ended(statistics)) == (2, {"refused": 2})


async def test_a_target_that_is_not_there_is_counted_and_logged_once(
    udp: Far, caplog: pytest.LogCaptureFixture
) -> None:
    """Each refusal ends its flow as unreachable; when somebody is there again, all is well."""
    caplog.set_level(logging.INFO)
    endpoint, address = udp.endpoint, udp.sock.getsockname()
    async with testing.open_proxy(endpoint, udp.listening()) as proxy:
        udp.sock.close()
        with udp.client(proxy) as client:
            for count in (1, 2, 3):
                await client.send(b"anybody?")
                await until(lambda: ended(proxy.statistics()) == {"unreachable": count})  # noqa: B023  -- waited for here
            with trio.socket.socket(type=socket.SOCK_DGRAM) as again:
                await again.bind(address)
                await client.send(b"and now?")
                assert (await again.recvfrom(100))[0] == b"and now?"
        warned = [each for each in caplog.records if each.levelno == logging.WARNING]
        noted = [each.getMessage() for each in caplog.records if "connected" in each.msg]
    (line,) = warned
    assert f"target {endpoint} cannot be reached: Connection refused" in line.getMessage()
    assert len(noted) == 1


async def test_a_path_without_a_server_drops_the_datagram(tmp_path: Path) -> None:
    """What cannot be sent at all is counted as unreachable among the datagrams as well."""
    target = f"unixgram:{tmp_path}/nobody"
    async with testing.open_proxy(target, "udp://127.0.0.1:0") as proxy:
        place = proxy.endpoints[0]
        with trio.socket.socket(type=socket.SOCK_DGRAM) as client:
            await client.sendto(b"anybody?", (place.host, place.port))
            await until(lambda: ended(proxy.statistics()))
        statistics = proxy.statistics()
    assert ended(statistics) == {"unreachable": 1}
    assert statistics.datagrams.dropped[techo.DropReason.UNREACHABLE] == 1


@pytest.mark.parametrize("far", ["unixgram"], indirect=True)
async def test_a_path_may_be_served_anew(far: Far) -> None:
    """A target that was replaced at its place gets the next datagram, which is not lost."""
    path = far.sock.getsockname()
    async with testing.open_proxy(far.endpoint, far.listening()) as proxy:
        with far.client(proxy) as client:
            await client.send(b"one")
            await far.receive()
            far.sock.close()
            Path(path).unlink()  # noqa: ASYNC240  -- it takes no time
            with contextlib.closing(new_socket("unixgram", path)) as again:
                await client.send(b"two")
                assert await received(again) == b"two"


async def test_replies_leave_from_the_address_that_was_asked(udp: Far) -> None:
    """A source that asks two addresses of a wildcard gets each reply from its own."""
    async with testing.open_proxy(udp.endpoint, "udp://0.0.0.0:0") as proxy:
        port = proxy.endpoints[0].port
        with new_socket("udp") as client:
            for host in ("127.0.0.1", "127.0.0.2"):
                await client.sendto(host.encode(), (host, port))
            for data, sender in [await udp.receive(), await udp.receive()]:
                await udp.send(data, sender)
            for _ in range(2):
                data, sender = await client.recvfrom(100)
                assert sender == (data.decode(), port)
        assert proxy.statistics().accepted == 2


async def test_a_drain_waits_for_replies(far: Far, autojump_clock: Clock) -> None:
    """What the target says within a pause of the drain still arrives; then it is over."""
    with contextlib.ExitStack() as end:
        async with testing.open_proxy(far.endpoint, far.listening()) as proxy:
            client = end.enter_context(far.client(proxy))
            await client.send(b"one")
            await trio.testing.wait_all_tasks_blocked()
            _, sender = await far.receive()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(proxy.drain)
                await trio.sleep(0.2)  # of the clock, which jumps
                await far.send(b"reply", sender)
        assert await received(client) == b"reply"
        assert ended(proxy.statistics()) == {"drained": 1}


async def test_what_a_fault_holds_back_is_sent_at_the_end(
    far: Far, autojump_clock: Clock
) -> None:
    """Both directions are flushed when the proxy is drained, and nothing is lost."""
    delay = [testing.Delay(600)]
    with contextlib.ExitStack() as end:
        async with testing.open_proxy(
            far.endpoint, far.listening(), faults=delay, upstream_faults=delay
        ) as proxy:
            client = end.enter_context(far.client(proxy))
            await client.send(b"request")
            await trio.sleep(1)  # of the clock, which jumps
            async with trio.open_nursery() as nursery:
                nursery.start_soon(proxy.drain)
                data, sender = await far.receive()
                await far.send(b"reply to " + data, sender)
        assert await received(client) == b"reply to request"
    assert ended(proxy.statistics()) == {"drained": 1}


async def test_a_cancelled_proxy_closes_its_flows(udp: Far) -> None:
    """Leaving by cancellation ends them at once, as aborted, and leaves no descriptor open."""
    before = await open_descriptors()
    with trio.CancelScope() as scope:
        async with testing.open_proxy(udp.endpoint, udp.listening()) as proxy:
            with udp.client(proxy) as client:
                await client.send(b"one")
                await udp.receive()
            scope.cancel()
            await trio.sleep_forever()
    assert ended(proxy.statistics()) == {"aborted": 1}
    assert await open_descriptors() == before


async def test_faults_of_both_directions(far: Far, autojump_clock: Clock) -> None:
    """What the target is told and what it says go wrong each by its own faults."""
    faults = [testing.DuplicateReply(), testing.Delay(2)]
    upstream = [testing.DropReply(every=2), testing.Truncate(3)]
    async with testing.open_proxy(
        far.endpoint, far.listening(), faults=faults, upstream_faults=upstream
    ) as proxy:
        with far.client(proxy) as client:
            for each in (b"first", b"lost", b"third"):
                await client.send(each)
            (one, sender), (two, _) = await far.receive(), await far.receive()
            assert (one, two) == (b"fir", b"thi")
            begun = trio.current_time()
            await far.send(b"reply", sender)
            assert [await received(client), await received(client)] == [b"reply"] * 2
            assert trio.current_time() - begun == pytest.approx(2)
    assert [type(each.fault) for each in proxy.upstream_history] == [
        testing.Truncate,
        testing.DropReply,
        testing.Truncate,
    ]
    assert [type(each.fault) for each in proxy.history] == [
        testing.DuplicateReply,
        testing.Delay,
    ]
    dropped = proxy.statistics().datagrams.dropped
    assert dropped[techo.DropReason.FAULT] == 1


async def test_faults_change_while_it_runs(udp: Far) -> None:
    """The next datagrams have the new ones, in each direction, and then none again."""
    async with testing.open_proxy(udp.endpoint, udp.listening()) as proxy:
        with udp.client(proxy) as client:
            for size in (5, 2, 5):
                proxy.set_upstream_faults(*[testing.Truncate(size)] * (size < 5))
                proxy.set_faults(*[testing.Lengthen(1)] * (size < 5))
                await client.send(b"hello")
                data, sender = await udp.receive()
                assert data == b"hello"[:size]
                await udp.send(data, sender)
                assert len(await received(client)) == size + (size < 5)


async def test_a_name_of_several_addresses(udp: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one refuses, the next gets what was sent, so that nothing is lost."""

    async def find(host: str, port: int, kind: int) -> list[object]:
        await trio.lowlevel.checkpoint()
        assert host == "two.invalid"
        hosts = "127.0.0.2", "127.0.0.1"
        return [(socket.AF_INET, kind, 0, "", (each, port)) for each in hosts]

    monkeypatch.setattr("techo._proxying.flow.look_up", find)
    target = f"udp://two.invalid:{udp.sock.getsockname()[1]}"
    async with testing.open_proxy(target, udp.listening()) as proxy:
        with udp.client(proxy) as client:
            for each in (b"one", b"two", b"three"):
                await client.send(each)
            got = [await udp.receive() for _ in range(3)]
            assert [data for data, _ in got] == [b"one", b"two", b"three"]
            await udp.send(b"reply", got[0][1])
            assert await received(client) == b"reply"
        assert not ended(proxy.statistics())


async def test_a_name_that_nobody_has(
    udp: Far, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It cannot be reached, and the log says why."""

    async def find(*_: object) -> list[object]:
        await trio.lowlevel.checkpoint()
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr("techo._proxying.flow.look_up", find)
    async with testing.open_proxy("udp://no.invalid:9", udp.listening()) as proxy:
        with udp.client(proxy) as client:
            await client.send(b"one")
            await until(lambda: ended(proxy.statistics()))
        assert ended(proxy.statistics()) == {"unreachable": 1}
    assert "target udp://no.invalid:9 cannot be reached: no such name" in caplog.text


async def test_what_is_too_long_is_dropped(udp: Far, tmp_path: Path) -> None:
    """A datagram of a Unix socket may be longer than UDP carries."""
    async with testing.open_proxy(udp.endpoint, f"unixgram:{tmp_path}/proxy") as proxy:
        with udp.client(proxy) as client:
            await client.send(b"x" * 70_000)
            await client.send(b"short")
            assert (await udp.receive())[0] == b"short"
        dropped = proxy.statistics().datagrams.dropped
    assert dropped[techo.DropReason.TOO_LARGE] == 1


Told = collections.defaultdict[int, list[bytes]]


@attrs.define(eq=False)
class Exchange:
    """What the sources and the target have sent each other, and what has arrived."""

    told: Told = attrs.field(factory=lambda: collections.defaultdict(list))
    """By source, what it has sent; likewise below."""
    heard: Told = attrs.field(factory=lambda: collections.defaultdict(list))
    """What the target got."""
    said: Told = attrs.field(factory=lambda: collections.defaultdict(list))
    got: Told = attrs.field(factory=lambda: collections.defaultdict(list))

    @classmethod
    async def of(cls, steps: list[tuple[bool, int, bytes]]) -> Exchange:
        """Let each step be sent at once, by a source or to it, and then see what came."""
        made = cls()
        with new_socket("udp") as sock, contextlib.ExitStack() as end:
            far = Far(sock, Path())
            async with testing.open_proxy(far.endpoint, far.listening()) as proxy:
                clients = [end.enter_context(far.client(proxy)) for _ in range(3)]
                known: dict[object, int] = {}
                for number, client in enumerate(clients):
                    await client.send(b"who")
                    known[(await far.receive())[1]] = number
                senders = {number: sender for sender, number in known.items()}
                for upstream, number, data in steps:
                    made.told[number] += [data] * upstream
                    made.said[number] += [data] * (not upstream)
                    if upstream:
                        await clients[number].send(data)
                    else:
                        await far.send(data, senders[number])
                for _ in range(sum(map(len, made.told.values()))):
                    data, sender = await far.receive()
                    made.heard[known[sender]].append(data)
                for number, client in enumerate(clients):
                    made.got[number] = [await received(client) for _ in made.said[number]]
        return made


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 2), st.binary(max_size=50)), max_size=30)
)
def test_nothing_is_changed_glued_or_out_of_order(steps: list[tuple[bool, int, bytes]]) -> None:
    """Whatever sources and target send, each gets what was meant for it, as it was sent."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    exchange = trio.run(Exchange.of, steps, clock=clock)
    for number in range(3):
        assert exchange.heard[number] == exchange.told[number]
        assert exchange.got[number] == exchange.said[number]


@pytest.mark.parametrize(
    ("target", "place", "says"),
    [
        ("tcp://127.0.0.1:9", "udp://127.0.0.1:0", "both are to be udp or unixgram"),
        ("udp://127.0.0.1:9", "tcp://127.0.0.1:0", "both are to be udp or unixgram"),
        ("udp://127.0.0.1:9", "udp://127.0.0.1:9", "connect to itself"),
        ("udp://localhost:9", "udp://127.0.0.1:9", "connect to itself"),
        ("tcp://127.0.0.1:9", "tcp://0.0.0.0:9", "connect to itself"),
        ("unixgram:/nowhere", "unixgram:/nowhere", "connect to itself"),
        ("unixpacket:/nowhere", "unix:/elsewhere", "both are to be unixpacket"),
    ],
)
async def test_what_does_not_fit_is_refused(target: str, place: str, says: str) -> None:
    """Kinds that differ in nature, and a circle."""
    with pytest.raises(ValueError, match=says):
        async with testing.open_proxy(target, place):
            raise AssertionError("it is listening")
