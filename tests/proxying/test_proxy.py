"""The proxy in memory and in virtual time: what passes, what ends it, and what it refuses."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

import techo
from helpers import ended, receive_until_end
from techo import testing
from techo._embedded import transport_of
from techo.testing import Fault, MemoryStream

Clock = trio.testing.MockClock


@attrs.define(eq=False)
class Far:
    """A target of which the test has the other end of each connection."""

    ends: list[MemoryStream] = attrs.field(factory=list)

    async def connect(self) -> MemoryStream:
        """Connect, as a proxy asks for."""
        await trio.lowlevel.checkpoint()
        ours, theirs = MemoryStream.pair(100)
        self.ends.append(theirs)
        return ours

    async def accept(self) -> MemoryStream:
        """Return the only end that there is, once it is there."""
        await trio.testing.wait_all_tasks_blocked()
        (end,) = self.ends
        return end


async def test_an_echo_looks_the_same_through_a_proxy(autojump_clock: Clock) -> None:
    """Bytes come back, both sides end, and the proxy counts what its client sent and got."""
    async with (
        testing.open_memory_server(reply=techo.raw) as server,
        testing.open_proxy(server.connect) as proxy,
    ):
        stream = await proxy.connect()
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"
        await stream.send_eof()
        assert await stream.receive_some() == b""
        await stream.aclose()
    for statistics in (server.statistics(), proxy.statistics()):
        assert ended(statistics) == {"eof": 1}
        assert (statistics.chunks, statistics.bytes_in, statistics.bytes_out) == (1, 5, 5)
    assert (proxy.history, proxy.upstream_history) == ((), ())


Steps = Sequence[tuple[str, int]]
"""Who does something, and how many bytes it sends; none is its end."""

SIDES = ("client", "target")

steps = st.lists(st.tuples(st.sampled_from(SIDES), st.integers(0, 300)), max_size=8)


async def _act(ours: trio.abc.HalfCloseableStream, who: str, steps: Steps) -> bytes:
    """Do one side's steps and its end at last; return what it was to send."""
    sent = b""
    for number, (acting, size) in enumerate(steps):
        if acting != who:
            continue
        if not size:
            break
        data = bytes([number]) * size
        await ours.send_all(data)
        sent += data
    await ours.send_eof()
    return sent


@given(steps=steps, size=st.sampled_from([7, 65_536]))
@settings(max_examples=30)
def test_bytes_pass_unchanged_and_in_order_both_ways(steps: Steps, size: int) -> None:
    """Whatever either side sends, and whenever it half-closes, the other gets just that."""
    sent: dict[str, bytes] = {}
    got: dict[str, bytes] = {}

    async def main() -> None:
        far, limits = Far(), techo.Limits(receive_size=size)
        async with testing.open_proxy(far.connect, limits=limits) as proxy:
            client = await proxy.connect()
            target = await far.accept()

            async def send(who: str, stream: MemoryStream) -> None:
                sent[who] = await _act(stream, who, steps)

            async def receive(who: str, stream: MemoryStream) -> None:
                got[who] = await receive_until_end(stream)

            async with trio.open_nursery() as nursery:
                for who, stream in zip(SIDES, (client, target), strict=True):
                    nursery.start_soon(send, who, stream)
                    nursery.start_soon(receive, who, stream)
        assert ended(proxy.statistics()) == {"eof": 1}

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert got == {"client": sent["target"], "target": sent["client"]}


@pytest.mark.parametrize("first_to_act", SIDES)
async def test_each_half_ends_alone(first_to_act: str, autojump_clock: Clock) -> None:
    """One side can finish while the other sends on."""
    far = Far()
    async with testing.open_proxy(far.connect) as proxy:
        first, second = await proxy.connect(), await far.accept()
        if first_to_act == "target":
            first, second = second, first
        await first.send_eof()
        assert await second.receive_some() == b""
        await second.send_all(b"still")
        assert await first.receive_some() == b"still"
        assert not ended(proxy.statistics())
        await second.send_eof()
        assert await first.receive_some() == b""
        await trio.testing.wait_all_tasks_blocked()
        assert ended(proxy.statistics()) == {"eof": 1}


@pytest.mark.parametrize("first_to_act", SIDES)
async def test_a_reset_passes_as_a_reset(first_to_act: str, autojump_clock: Clock) -> None:
    """Each side learns that the other has broken the connection."""
    far = Far()
    async with testing.open_proxy(far.connect) as proxy:
        first, second = await proxy.connect(), await far.accept()
        if first_to_act == "target":
            first, second = second, first
        first.reset()
        with pytest.raises(trio.BrokenResourceError):
            await second.receive_some()
        await trio.testing.wait_all_tasks_blocked()
        assert ended(proxy.statistics()) == {"reset": 1}


@pytest.mark.parametrize("faults", [(), (testing.Delay(0.0),)], ids=["plain", "faulty"])
async def test_a_side_that_reads_nothing_stops_the_other(
    faults: Sequence[Fault], autojump_clock: Clock
) -> None:
    """Only so much waits in between; then the limit ends it as stalled."""
    far, limits = Far(), techo.Limits(idle_timeout=7, receive_size=100)
    async with testing.open_proxy(far.connect, limits=limits, faults=faults) as proxy:
        stream = await proxy.connect()
        sent = 0
        with contextlib.suppress(trio.BrokenResourceError):
            while sent < 10**6:
                await stream.send_all(bytes(100))
                sent += 100
        assert trio.current_time() == 7
        # The client's buffer, the target's, and what is on its way between them.
        assert sent <= 65_536 + 100 + 200
    assert ended(proxy.statistics()) == {"stalled": 1}


@pytest.mark.parametrize("ended_by", ["limit", "exception"])
async def test_what_is_cut_off_does_not_look_whole(
    ended_by: str, autojump_clock: Clock
) -> None:
    """If bytes are on their way when a limit or a block ends, their receiver is reset."""
    far = Far()
    with contextlib.suppress(LookupError):
        async with testing.open_proxy(
            far.connect, limits=techo.Limits(idle_timeout=7)
        ) as proxy:
            client, target = await proxy.connect(), await far.accept()
            with (
                contextlib.suppress(trio.BrokenResourceError),
                trio.move_on_after(5 if ended_by == "exception" else 10),
            ):
                await target.send_all(bytes(10**6))
            if ended_by == "exception":
                raise LookupError
    with pytest.raises(trio.BrokenResourceError):
        await receive_until_end(client)


async def test_a_target_that_cannot_be_reached_is_counted_and_logged_once(
    caplog: pytest.LogCaptureFixture, autojump_clock: Clock
) -> None:
    """The client is reset; a minute's worth of them is one line and a sum."""

    async def refuse() -> MemoryStream:
        await trio.lowlevel.checkpoint()
        raise ConnectionRefusedError(111, "Connection refused")

    caplog.set_level(logging.WARNING)
    async with testing.open_proxy(refuse) as proxy:
        for _ in range(5):
            stream = await proxy.connect()
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        await trio.testing.wait_all_tasks_blocked()
        statistics = proxy.statistics()
        assert ended(statistics) == {"unreachable": 5}
        assert statistics.accepted == statistics.active + sum(statistics.outcomes.values())
        (line,) = [record.getMessage() for record in caplog.records]
        assert line.endswith("cannot be reached: Connection refused; refused MemoryStream")
        assert line.startswith(f"target {refuse.__qualname__} ")
        await trio.sleep(61)  # of the clock, which jumps
    assert "; 5 refused in the last 60 s" in caplog.records[-1].getMessage()


async def test_a_target_has_the_time_of_a_handshake_to_accept(autojump_clock: Clock) -> None:
    """One that never does is unreachable then."""

    async def hang() -> MemoryStream:
        await trio.sleep_forever()
        raise AssertionError

    limits = techo.Limits(handshake_timeout=3)
    async with testing.open_proxy(hang, limits=limits) as proxy:
        stream = await proxy.connect()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        assert trio.current_time() == 3
        await trio.testing.wait_all_tasks_blocked()
        assert ended(proxy.statistics()) == {"unreachable": 1}


@pytest.mark.parametrize(
    ("limits", "when", "outcome"),
    [
        (techo.Limits(idle_timeout=7), 5 + 7, "idle"),
        (techo.Limits(lifetime=9), 9, "expired"),
    ],
)
async def test_limits_end_both_sides(
    limits: techo.Limits, when: float, outcome: str, autojump_clock: Clock
) -> None:
    """Bytes in either direction are progress; then both sides get an end."""
    far = Far()
    async with testing.open_proxy(far.connect, limits=limits) as proxy:
        client, target = await proxy.connect(), await far.accept()
        await trio.sleep(5)  # of the clock, which jumps
        await target.send_all(b"x")
        assert await client.receive_some() == b"x"
        assert await client.receive_some() == b""
        assert trio.current_time() == when
        assert await target.receive_some() == b""
        await client.aclose()
        await target.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert ended(proxy.statistics()) == {outcome: 1}


async def test_a_drain_ends_what_is_quiet_at_once(autojump_clock: Clock) -> None:
    """Both sides get an end in no time."""
    far = Far()
    async with testing.open_proxy(far.connect) as proxy, trio.open_nursery() as nursery:
        client, target = await proxy.connect(), await far.accept()
        await client.send_all(b"x")
        assert await target.receive_some() == b"x"
        await trio.sleep(10)  # of the clock, which jumps
        nursery.start_soon(proxy.drain)
        assert await client.receive_some() == b""
        assert await target.receive_some() == b""
        assert trio.current_time() == pytest.approx(10, abs=0.01)
        await client.aclose()
        await target.aclose()
    assert ended(proxy.statistics()) == {"drained": 1}


async def test_a_drain_ends_what_is_busy_at_a_pause(autojump_clock: Clock) -> None:
    """What is sent on is passed on; it ends when nothing comes for a quarter of a second."""
    far = Far()
    async with testing.open_proxy(far.connect) as proxy, trio.open_nursery() as nursery:
        client, target = await proxy.connect(), await far.accept()
        await client.send_all(b"begins")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(proxy.drain)
        for _ in range(10):
            await trio.sleep(0.1)  # of the clock, which jumps
            await client.send_all(b".")
        assert await receive_until_end(target) == b"begins.........."
        assert trio.current_time() == pytest.approx(1.25)
        await client.aclose()
        await target.aclose()
    assert ended(proxy.statistics()) == {"drained": 1}


async def test_a_drain_does_not_wait_for_what_a_fault_holds(autojump_clock: Clock) -> None:
    """Nothing comes of a stall."""
    far = Far()
    async with testing.open_proxy(far.connect, faults=[testing.Stall()]) as proxy:
        await proxy.connect()
        target = await far.accept()
        await target.send_all(b"x")
        await trio.testing.wait_all_tasks_blocked()
        assert proxy.history
    assert trio.current_time() < 0.01
    assert ended(proxy.statistics()) == {"stalled": 1}


async def _talk(far: Far, proxy: testing.Proxy) -> tuple[bytes, str, float]:
    """Send a hundred bytes; return what the target got of them, and its end."""
    client = await proxy.connect()
    try:
        await client.send_all(b"." * 100)
        await client.send_eof()
    except trio.BrokenResourceError:
        pass
    target = await far.accept()
    got, end = b"", "eof"
    try:
        while data := await target.receive_some():
            got += data
    except trio.BrokenResourceError:
        end = "reset"
    when = trio.current_time()
    await target.aclose()
    await client.aclose()
    return got, end, when


UPSTREAM: list[tuple[Fault, Callable[[bytes, str, float], bool]]] = [
    (testing.Delay(2), lambda got, _, when: (got, when) == (b"." * 100, 2)),
    (testing.Throttle(50), lambda got, _, when: len(got) == 100 and when > 1),
    (testing.Truncate(7), lambda got, end, _: (got, end) == (b"." * 7, "eof")),
    (testing.Reset(7), lambda _, end, __: end == "reset"),
    (testing.Corrupt(1.0), lambda got, _, __: len(got) == 100 and b"." not in got),
    (testing.Lengthen(3), lambda got, _, __: len(got) == 103),
    (testing.CloseUnread(), lambda got, end, when: (got, end, when) == (b"", "eof", 0)),
    (testing.HalfCloseFirst(), lambda got, end, when: (got, end, when) == (b"", "eof", 0)),
    (testing.SlowAccept(3), lambda got, _, when: (len(got), when) == (100, 3)),
    (testing.SlowClose(3), lambda got, _, when: (len(got), when) == (100, 3)),
    (testing.Stall(7), lambda got, _, when: (len(got), when) == (7, 60)),
    (testing.Refuse(), lambda got, _, when: (got, when) == (b"", 0)),
]


@pytest.mark.parametrize(
    ("fault", "happens"), UPSTREAM, ids=[str(each) for each, _ in UPSTREAM]
)
async def test_upstream_faults_are_what_the_target_sees(
    fault: Fault, happens: Callable[[bytes, str, float], bool], autojump_clock: Clock
) -> None:
    """The target sees a client that misbehaves; the other history is of what clients see."""
    far = Far()
    async with testing.open_proxy(far.connect, upstream_faults=[fault]) as proxy:
        seen = await _talk(far, proxy)
        assert happens(*seen), seen
    assert {event.fault for event in proxy.upstream_history} == {fault}
    assert proxy.history == ()


async def test_both_directions_have_faults_of_their_own(autojump_clock: Clock) -> None:
    """Each is delayed by its own, and each has its own chances."""
    async with (
        testing.open_memory_server(reply=techo.raw) as server,
        testing.open_proxy(
            server.connect,
            faults=[testing.Delay(1), testing.Corrupt(0.5)],
            upstream_faults=[testing.Delay(2), testing.Corrupt(0.5)],
        ) as proxy,
    ):
        stream = await proxy.connect()
        await stream.send_all(bytes(100))
        got = await stream.receive_some()
        assert trio.current_time() == 3
        await stream.aclose()
    assert sum(map(bool, got)) > 60  # of two of the same luck, half would be right
    assert [event.offset for event in proxy.history[1:]] != [
        event.offset for event in proxy.upstream_history[1:]
    ]


@pytest.mark.parametrize("seed", [0, 5])
async def test_a_seed_repeats_both_directions(seed: int, autojump_clock: Clock) -> None:
    """The same seed, the same two histories."""
    faults = [testing.Delay(1, jitter=0.5), testing.Corrupt(0.1, probability=0.7)]
    stories = []
    for _ in range(2):
        async with (
            testing.open_memory_server(reply=techo.raw) as server,
            testing.open_proxy(
                server.connect, faults=faults, upstream_faults=faults, seed=seed
            ) as proxy,
        ):
            for _ in range(5):
                stream = await proxy.connect()
                await stream.send_all(b"x" * 50)
                await stream.send_eof()
                await receive_until_end(stream)
                await stream.aclose()
        stories.append((proxy.history, proxy.upstream_history))
    assert stories[0] == stories[1]
    assert stories[0][0] != stories[0][1]


REFUSED: list[tuple[object, tuple[str, ...], Sequence[Fault], str]] = [
    ("tls://127.0.0.1:1", (), (), "passes TLS through untouched; write tcp://127.0.0.1:1"),
    ("udp://127.0.0.1:1", (), (), "from memory to udp://127.0.0.1:1 would change what is sent"),
    ("127.0.0.1:1", ("udp://127.0.0.1:0",), (), "both are to be udp or unixgram"),
    ("127.0.0.1:1", ("tls://127.0.0.1:0",), (), "tls"),
    ("tcp://*:1", (), (), "are for servers"),
    (7, (), (), "is not an endpoint, its text or an async function"),
    ("unixpacket:/x", ("127.0.0.1:0",), (), "both are to be unixpacket, or neither"),
    ("127.0.0.1:1", (), [testing.NeverHandshake()], "one of TLS"),
    ("127.0.0.1:1", (), [testing.DropReply()], "cannot happen on memory"),
]


@pytest.mark.parametrize(("target", "places", "faults", "words"), REFUSED)
async def test_what_cannot_be_passed_on_is_refused_with_words(
    target: str, places: tuple[str, ...], faults: Sequence[Fault], words: str
) -> None:
    """Nothing is opened, and the text names the remedy."""
    with pytest.raises(ValueError, match="(?s)" + words):
        async with testing.open_proxy(target, *places, faults=faults):
            pass


async def test_upstream_faults_are_checked_against_the_target() -> None:
    """A Unix socket knows no reset, whoever listens where."""
    with pytest.raises(ValueError, match="cannot happen on unix:/x"):
        async with testing.open_proxy("unix:/x", upstream_faults=[testing.Reset()]):
            pass


async def test_a_function_that_returns_no_stream_is_a_crash_of_that_connection(
    caplog: pytest.LogCaptureFixture, autojump_clock: Clock
) -> None:
    """The log has a traceback, and the proxy goes on."""

    async def wrong() -> int:
        await trio.lowlevel.checkpoint()
        return 7

    async with testing.open_proxy(wrong) as proxy:  # type: ignore[arg-type]  # the point
        stream = await proxy.connect()
        assert await stream.receive_some() == b""
    assert ended(proxy.statistics()) == {"crashed": 1}
    assert "returned 7, no trio stream" in caplog.text


def test_transports_are_what_a_target_becomes() -> None:
    """A memory stream knows half-close, without which no end would pass alone."""
    assert transport_of(MemoryStream.pair()[0]).half_closeable


async def test_other_faults_hold_for_what_comes_and_for_what_is_open_by_choice(
    autojump_clock: Clock,
) -> None:
    """Each direction has its own; one that cannot happen changes nothing."""
    async with (
        testing.open_memory_server(reply=techo.raw) as server,
        testing.open_proxy(server.connect, faults=[testing.Corrupt(1.0)]) as proxy,
    ):

        async def echoed(stream: MemoryStream) -> tuple[bytes, float]:
            begun = trio.current_time()
            await stream.send_all(b"x")
            return await stream.receive_some(), trio.current_time() - begun

        old = await proxy.connect()
        assert (await echoed(old))[0] != b"x"
        proxy.set_faults(testing.Delay(2))
        proxy.set_upstream_faults(testing.Delay(3))
        assert (await echoed(old))[0] != b"x"
        new = await proxy.connect()
        assert await echoed(new) == (b"x", 5)
        with pytest.raises(ValueError, match="cannot happen on memory"):
            proxy.set_faults(testing.DropReply(), running=True)
        proxy.set_faults(testing.Delay(1), running=True)
        assert await echoed(old) == (b"x", 1)
        assert await echoed(new) == (b"x", 4)
        proxy.set_faults(testing.Stall(), running=True)
        proxy.set_upstream_faults(running=True)
        await old.send_all(b"held")
        await trio.sleep(5)  # of the clock, which jumps
        proxy.set_faults(running=True)
        assert await old.receive_some() == b"held"
        assert await echoed(new) == (b"x", 0)
        for stream in (old, new):
            await stream.aclose()
    assert {event.connection for event in proxy.history} == {1, 2}
    assert {event.connection for event in proxy.upstream_history} == {2}
