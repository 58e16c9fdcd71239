"""Which clock times a probe: the kernel's where it stamps packets, or this program's."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest
import trio
import trio.testing

import techo
from helpers import PATIENCE, until
from pings import see, word_of
from techo import testing
from techo._kernel import stamps
from techo._ping.text import line_of, table_of
from techo._probing.kernel_driver import KernelDriver

linux = pytest.mark.skipif(not stamps.AVAILABLE, reason="only Linux has stamps")

QUICK: dict[str, Any] = {"interval": 0.01, "timeout": PATIENCE}
KERNEL, USER = techo.Clock.KERNEL, techo.Clock.USER


def clocks_of(seen: Any) -> list[techo.Clock]:
    """Return which clock timed each of the replies, which say the same in other ways."""
    replies = [each for each in seen.results if isinstance(each, techo.PingReply)]
    for each in replies:
        assert (each.client is None) == (each.clock is USER)
        assert each.to_json()["clock"] == each.clock
    clocks = [each.clock for each in replies]
    found = seen.statistics
    assert found.clocks == {each: clocks.count(each) for each in techo.Clock if each in clocks}
    assert found.client.count == clocks.count(KERNEL)
    return clocks


@linux
@pytest.mark.usefixtures("stamping")
@pytest.mark.parametrize("size", [64, 300_000])
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
@pytest.mark.parametrize("name", ["udp", "tcp", "tls"])
async def test_the_kernel_times_what_it_stamps(
    name: str, host: str, size: int, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """Also what takes many segments and many records; its time is within the program's."""
    if name == "udp":
        size = min(size, 60_000)
    tls = client_tls if name == "tls" else None
    server_name = "localhost" if tls else None
    async with techo.open_server(f"{name}://{host}:0", tls=server_tls) as server:
        ping = techo.ping(
            server.endpoints[0], count=5, size=size, tls=tls, server_name=server_name, **QUICK
        )
        seen = await see(ping)
    assert clocks_of(seen) == [KERNEL] * 5
    assert seen.statistics.latency.min > 0
    assert seen.statistics.client.min > 0
    assert seen.statistics.clock is KERNEL
    assert any("clock kernel:" in line for line in table_of(seen.statistics))


@linux
async def test_this_program_s_clock_can_be_asked_for() -> None:
    """Then nothing is stamped, and there is no share of the client."""
    async with techo.open_server("udp://127.0.0.1:0") as server:
        seen = await see(techo.ping(server.endpoints[0], count=2, clock="user", **QUICK))
    assert clocks_of(seen) == [USER] * 2
    assert [line for line in table_of(seen.statistics) if "client" in line] == []


async def test_memory_and_unix_sockets_are_timed_by_this_program(tmp_path: Any) -> None:
    """There the kernel's clock is refused: by name at once, or as soon as it shows."""
    async with testing.open_memory_server() as server:
        seen = await see(techo.ping(server.connect, count=2, **QUICK))
        assert clocks_of(seen) == [USER] * 2
        with pytest.raises(ValueError, match="the kernel does not stamp what goes to a conn"):
            await see(techo.ping(server.connect, count=2, clock=KERNEL, **QUICK))
    async with techo.open_server(f"unixgram:{tmp_path}/s") as service:
        seen = await see(techo.ping(service.endpoints[0], count=2, **QUICK))
        assert clocks_of(seen) == [USER] * 2
        with pytest.raises(ValueError, match=r"^clock kernel: unixgram:.* has none"):
            techo.ping(service.endpoints[0], clock="kernel")


def test_a_clock_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name, and on another system than Linux by that."""
    with pytest.raises(ValueError, match="clock 'sun' is neither 'kernel' nor 'user'"):
        techo.ping("8009", clock="sun")  # type: ignore[arg-type]  # as a program without types might
    with pytest.raises(ValueError, match="clock kernel: connecting has none"):
        techo.ping("8009", clock="kernel", connect=True)
    monkeypatch.setattr(stamps, "AVAILABLE", False)
    with pytest.raises(ValueError, match="clock kernel: this system has none"):
        techo.ping("8009", clock="kernel")


@linux
async def test_the_last_byte_of_a_reply_counts() -> None:
    """Over a stream that is: a reply in two pieces took as long as the second did."""
    pause = 0.05

    async def halve(stream: trio.SocketStream) -> None:
        async for chunk in stream:
            await stream.send_all(chunk[:32])
            await trio.sleep(pause)
            await stream.send_all(chunk[32:])

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, halve, [listener])
        port = listener.socket.getsockname()[1]
        seen = await see(techo.ping(f"tcp://127.0.0.1:{port}", count=3, **QUICK))
        nursery.cancel_scope.cancel()
    assert clocks_of(seen) == [KERNEL] * 3
    assert seen.statistics.latency.min is not None
    assert seen.statistics.latency.min >= pause * 1e9 * 0.98  # of another clock than trio's


@linux
async def test_late_and_doubled_replies_are_timed_by_the_kernel() -> None:
    """From when their probe was sent, however long that is ago."""
    with trio.socket.socket(type=socket.SOCK_DGRAM) as peer:
        await peer.bind(("127.0.0.1", 0))
        target = f"udp://127.0.0.1:{peer.getsockname()[1]}"
        async with techo.ping(target, interval=PATIENCE, timeout=0.01) as ping:
            with trio.fail_after(PATIENCE):
                probe, sender = await peer.recvfrom(100)
                assert isinstance(await anext(ping), techo.PingFailure)
                for _ in range(2):
                    await peer.sendto(probe, sender)
                late, doubled = await anext(ping), await anext(ping)
    for each, word in ((late, "late"), (doubled, "duplicate")):
        assert isinstance(each, techo.PingReply)
        assert (word_of(each), each.clock) == (word, KERNEL)
        assert each.seconds >= 0.01 * 0.98  # of another clock than trio's


@linux
async def test_a_name_s_first_reply_is_this_program_s() -> None:
    """Which of several addresses answers has to show before the kernel can stamp."""

    class Names(trio.abc.HostnameResolver):
        async def getaddrinfo(  # type: ignore[override]  # of all forms, the one that is used
            self, _host: str, port: int, _family: int, kind: int, *_: int
        ) -> list[Any]:
            await trio.lowlevel.checkpoint()
            hosts = ("127.0.0.1", "127.0.0.2")
            return [(socket.AF_INET, kind, 0, "", (host, port)) for host in hosts]

        async def getnameinfo(self, *_: Any) -> tuple[str, str]:
            raise NotImplementedError

    async with techo.open_server("udp://127.0.0.1:0") as server:
        trio.socket.set_custom_hostname_resolver(Names())
        target = f"udp://several.example:{server.endpoints[0].port}"
        seen = await see(techo.ping(target, count=20, **QUICK))
    clocks = clocks_of(seen)
    assert clocks[0] is USER
    assert clocks[-1] is KERNEL
    assert clocks == sorted(clocks, reverse=True)
    lines = [line_of("it", each, before) for each, before in zip(seen.results, [None, *clocks])]  # noqa: B905  -- the last has none behind it
    assert len([line for line in lines if line.endswith(" (clock kernel)")]) == 1
    kernel = clocks.count(KERNEL)
    title = f"round trips in ms, n = 20, clock kernel {kernel}, user {20 - kernel}:"
    assert title in table_of(seen.statistics)


@linux
async def test_what_was_not_sent_does_not_shift_the_numbers() -> None:
    """Behind a datagram that is too long for any, the kernel times the next ones."""
    async with techo.open_server("udp://127.0.0.1:0", reply=techo.raw) as server:
        sizes = range(65_507, 65_509)
        seen = await see(techo.ping(server.endpoints[0], count=6, size=sizes, **QUICK))
    assert [word for _, word in seen.told].count("reply") == 3
    assert clocks_of(seen) == [KERNEL] * 3


@linux
async def test_the_next_datagram_may_bring_the_refusal_of_the_one_before() -> None:
    """That costs the one before, the next is sent, and both are numbered right."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        name = sock.getsockname()
    async with techo.ping(f"udp://127.0.0.1:{name[1]}", count=3, **QUICK) as ping:
        with trio.fail_after(PATIENCE):
            failure = await anext(ping)
            assert isinstance(failure, techo.PingFailure)
            assert failure.cause is techo.FailureCause.REFUSED
            async with techo.open_server(f"udp://127.0.0.1:{name[1]}"):
                rest = [each async for each in ping]
    replies = [each for each in rest if isinstance(each, techo.PingReply)]
    assert replies
    assert {each.clock for each in replies} == {KERNEL}


@linux
@pytest.mark.parametrize("name", ["udp", "tcp"])
async def test_a_stamp_wakes_the_program_once(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is taken from the error queue, or it would wake the program for ever."""
    turns = 0
    taken = KernelDriver._take_turn

    def count(self: KernelDriver) -> bool:
        nonlocal turns
        turns += 1
        return taken(self)

    monkeypatch.setattr(KernelDriver, "_take_turn", count)
    faults = [testing.Delay(PATIENCE)]
    async with (
        techo.open_server(
            f"{name}://127.0.0.1:0", faults=faults, limits=techo.Limits(drain_timeout=0)
        ) as server,
        techo.ping(server.endpoints[0], interval=0.01, timeout=PATIENCE) as ping,
    ):
        with trio.fail_after(PATIENCE):
            await until(lambda: ping.statistics().sent >= 30)
    assert turns <= 2 * 30 + 10
