"""Admission: who is let in, directly and behind a proxy, over streams and by datagrams."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
import trio
import trio.testing

import techo
from helpers import PATIENCE, ended, receive_until_end, until, until_ended
from techo._proxy_header import encode_v1, encode_v2
from techo.testing import MemoryListener

ANY = "tcp://127.0.0.1:0"
THEIRS, OURS = ("192.0.2.7", 4711), ("198.51.100.1", 8009)


async def ask(stream: trio.abc.Stream, *pieces: bytes) -> bytes:
    """Send pieces, each with its own turn, and an end; return all that comes back."""
    with trio.fail_after(PATIENCE), contextlib.suppress(trio.BrokenResourceError):
        for piece in pieces:
            await stream.send_all(piece)
            await trio.testing.wait_all_tasks_blocked(0.001)
        if isinstance(stream, trio.abc.HalfCloseableStream):
            await stream.send_eof()
        return await receive_until_end(stream)
    return b""


async def dial(server: techo.EchoService, source: str = "127.0.0.1") -> trio.SocketStream:
    """Connect from an address of the loopback's."""
    to = server.endpoints[0]
    return await trio.open_tcp_stream(to.host, to.port, local_address=source)


@pytest.mark.parametrize(
    ("allow", "deny", "welcome"),
    [
        (["127.0.0.2"], [], {"127.0.0.2"}),
        ([], ["127.0.0.2"], {"127.0.0.1", "127.0.0.3"}),
        (["127.0.0.0/8"], ["127.0.0.2/31"], {"127.0.0.1"}),
        (["127.0.0.2/31"], ["127.0.0.2/31"], set()),
    ],
)
async def test_lists_of_networks_let_in_whom_they_should(
    allow: list[str], deny: list[str], welcome: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    """With any allow all else is denied; who is not let in is refused, and the log says why."""
    hook = techo.Admission(allow=allow, deny=deny)
    hosts = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    async with techo.open_server(ANY, reply=techo.raw, hook=hook) as server:
        answered = set()
        for host in hosts:
            async with await dial(server, host) as stream:
                if await ask(stream, b"hello") == b"hello":
                    answered.add(host)
        found = ended(await until_ended(server, 3))
    assert answered == welcome
    assert found.get("refused", 0) == 3 - len(welcome)
    assert ("its address is not allowed" in caplog.text) == (len(welcome) < 3)


@pytest.mark.parametrize("header", [encode_v1(THEIRS, OURS), encode_v2(THEIRS, OURS)])
@pytest.mark.parametrize("cut", [0, 1, 13, 20])
async def test_behind_a_proxy_the_true_address_counts(header: bytes, cut: int) -> None:
    """The header is not echoed, and limits and lists go by the address in it."""
    hook = techo.Admission(proxy_from=["127.0.0.0/8"], deny=["192.0.2.9"])
    limits = techo.Limits(max_per_host=1)
    async with techo.open_server(ANY, reply=techo.raw, limits=limits, hook=hook) as server:
        async with await dial(server) as first:
            await first.send_all(header[:cut])
            await first.send_all(header[cut:] + b"hello")
            with trio.fail_after(PATIENCE):
                assert await first.receive_some() == b"hello"
            async with await dial(server) as second:  # of the same address
                assert await ask(second, header, b"x") == b""
            async with await dial(server) as other:
                again = encode_v2(("192.0.2.8", 1), OURS)
                assert await ask(other, again, b"other") == b"other"
            async with await dial(server) as denied:
                assert await ask(denied, encode_v1(("192.0.2.9", 1), OURS), b"x") == b""
        found = ended(await until_ended(server, 4))
    assert found == {"eof": 2, "refused": 2}


async def test_the_log_names_who_is_behind_the_proxy(caplog: pytest.LogCaptureFixture) -> None:
    """An address, a path, or the proxy itself where it speaks for nobody else."""
    caplog.set_level("INFO", "techo")
    hook = techo.Admission(proxy_from=["unix"])
    listener = MemoryListener()
    headers = (
        encode_v1(THEIRS, OURS),
        encode_v2("/run/theirs", "@ours"),
        encode_v2(None, None),
        encode_v1(None, None),
    )
    async with techo.open_server(listener, reply=techo.raw, hook=hook) as server:
        for header in headers:
            assert await ask(await listener.connect(), header + b"hello") == b"hello"
        await until_ended(server, len(headers))
    names = [
        vars(each)["peer"] for each in caplog.records if vars(each).get("event") == "connected"
    ]
    assert names == ["192.0.2.7:4711", "unix:/run/theirs", "MemoryStream", "MemoryStream"]


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"hello, I am no proxy\r\n", "no PROXY header"),
        (b"PROXY TCP4 here there 1 2\r\n", "a PROXY line of another form"),
        (b"PROXY TCP4 192.0.2.1 1", "the connection ended in its PROXY header"),
        (encode_v2(THEIRS, OURS)[:-1] + b"!", "a PROXY header with a wrong checksum"),
    ],
)
async def test_a_wrong_header_is_refused(
    sent: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing of it is echoed, and the log has the reason."""
    hook = techo.Admission(proxy_from=["unix"])
    listener = MemoryListener()
    async with techo.open_server(listener, reply=techo.raw, hook=hook) as server:
        assert await ask(await listener.connect(), sent) == b""
        assert ended(await until_ended(server, 1)) == {"refused": 1}
    assert reason in caplog.text


async def test_a_proxy_that_only_looks_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    """A check of whether anybody listens says nothing, and ends as any other connection."""
    hook = techo.Admission(proxy_from=["unix"])
    listener = MemoryListener()
    async with techo.open_server(listener, reply=techo.raw, hook=hook) as server:
        assert await ask(await listener.connect()) == b""
        assert ended(await until_ended(server, 1)) == {"eof": 1}
    assert not [each for each in caplog.records if each.levelname == "WARNING"]


async def test_only_a_proxy_is_believed(caplog: pytest.LogCaptureFixture) -> None:
    """Who comes from elsewhere is refused, whatever it says of itself."""
    hook = techo.Admission(proxy_from=["127.0.0.2", "unix"])
    async with techo.open_server(ANY, reply=techo.raw, hook=hook) as server:
        async with await dial(server, "127.0.0.1") as stream:
            assert await ask(stream, encode_v1(THEIRS, OURS), b"x") == b""
        async with await dial(server, "127.0.0.2") as stream:
            assert await ask(stream, encode_v1(THEIRS, OURS), b"x") == b"x"
        assert ended(await until_ended(server, 2)) == {"refused": 1, "eof": 1}
    assert "no proxy of proxy-from" in caplog.text


async def test_a_header_has_the_time_of_a_handshake(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A proxy that does not say for whom it comes ends as idle, after that time exactly."""
    hook, listener = techo.Admission(proxy_from=["unix"]), MemoryListener()
    limits = techo.Limits(handshake_timeout=3, idle_timeout=60)
    async with techo.open_server(listener, limits=limits, hook=hook) as server:
        stream = await listener.connect()
        start = trio.current_time()
        await stream.send_all(b"PROXY TCP4 ")
        assert await stream.receive_some() == b""
        assert trio.current_time() - start == 3
        assert ended(await until_ended(server, 1)) == {"idle": 1}


async def test_the_header_comes_before_tls(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """The handshake begins behind it, also if both come at once."""
    hook = techo.Admission(proxy_from=["127.0.0.1"])
    place = "tls://127.0.0.1:0"
    async with techo.open_server(place, reply=techo.raw, tls=server_tls, hook=hook) as server:
        below = await dial(server)
        await below.send_all(encode_v2(THEIRS, OURS))
        stream = trio.SSLStream(below, client_tls, server_hostname="localhost")
        with trio.fail_after(PATIENCE):
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"
            await stream.aclose()
        assert ended(await until_ended(server, 1)) == {"eof": 1}


async def test_a_slow_header_costs_nobody_a_place(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The rate of a host is that of the moment at which its name is known."""
    hook, listener = (
        techo.Admission(max_connects_per_host=1, proxy_from=["unix"]),
        MemoryListener(),
    )
    header = encode_v1(THEIRS, OURS)
    async with techo.open_server(listener, reply=techo.raw, hook=hook):
        slow = await listener.connect()
        await slow.send_all(header[:20])
        await trio.sleep(4)
        assert await ask(await listener.connect(), header + b"quick") == b"quick"
        await trio.sleep(2)
        assert await ask(slow, header[20:] + b"slow") == b"slow"


async def test_so_many_connect_in_a_second(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A second's worth may come at once, and as many more in the next; for each address too."""
    hook = techo.Admission(
        max_connects_per_second=10, max_connects_per_host=2, proxy_from=["unix"]
    )
    listener = MemoryListener()

    async def come(host: str) -> bool:
        header = encode_v1((host, 1), (host, 8009))
        return await ask(await listener.connect(), header + b"hello") == b"hello"

    async with techo.open_server(listener, reply=techo.raw, hook=hook):
        assert [await come("192.0.2.1") for _ in range(3)] == [True, True, False]
        assert [await come(f"2001:db8::{n}") for n in range(3)] == [True, True, False]
        assert [await come(f"192.0.2.{n}") for n in range(2, 8)] == [True] * 4 + [False] * 2
        await trio.sleep(1)
        assert await come("192.0.2.1")
    assert "max-connects-per-host 2 reached" in caplog.text
    assert "max-connects-per-second 10 reached" in caplog.text


@contextlib.contextmanager
def datagrams(host: str, server: techo.EchoService) -> Iterator[trio.socket.SocketType]:
    """Open a socket for datagrams to a server, from `host`."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        sock.connect((server.endpoints[0].host, server.endpoints[0].port))
        sock.setblocking(False)
        yield trio.socket.from_stdlib_socket(sock)


async def test_datagrams_are_denied_too() -> None:
    """They are counted as denied, and get no answer."""
    hook = techo.Admission(deny=["127.0.0.2"])
    async with techo.open_server("udp://127.0.0.1:0", reply=techo.raw, hook=hook) as server:
        with datagrams("127.0.0.2", server) as denied, datagrams("127.0.0.3", server) as sock:
            await denied.send(b"x")
            await sock.send(b"hello")
            with trio.fail_after(PATIENCE):
                assert await sock.recv(100) == b"hello"
        found = server.statistics().datagrams
    assert (found.received, found.echoed, found.dropped[techo.DropReason.DENIED]) == (2, 1, 1)


async def test_a_header_before_each_datagram() -> None:
    """Its source is who is limited; the answer, without a header, goes to the proxy."""
    hook = techo.Admission(proxy_from=["127.0.0.2"], deny=["192.0.2.9"])
    limits = techo.Limits(max_datagrams_per_second=1)
    async with techo.open_server(
        "udp://127.0.0.1:0", reply=techo.raw, hook=hook, limits=limits
    ) as server:
        ours = server.endpoints[0].port
        with datagrams("127.0.0.2", server) as sock, datagrams("127.0.0.3", server) as other:

            async def send(source: tuple[str, int], payload: bytes) -> None:
                await sock.send(encode_v2(source, OURS, datagram=True) + payload)

            await send(THEIRS, b"one")
            await send(THEIRS, b"over the rate")
            await send(("192.0.2.9", 1), b"denied")
            await send(("192.0.2.10", ours), b"a loop")
            await send(("192.0.2.11", 7), b"guarded")
            await sock.send(b"no header")
            await other.send(encode_v2(THEIRS, OURS, datagram=True) + b"no proxy")
            await send(("192.0.2.12", 9999), b"")
            await send(("192.0.2.13", 9999), b"last" * 10_000)
            with trio.fail_after(PATIENCE):
                answers = [await sock.recv(2**16) for _ in range(3)]
            assert answers == [b"one", b"", b"last" * 10_000]
        await until(lambda: server.statistics().datagrams.received == 9)
        dropped = server.statistics().datagrams.dropped
    assert {str(reason): count for reason, count in dropped.items() if count} == {
        "rate": 1,
        "denied": 3,
        "loop": 1,
        "guarded": 1,
    }


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"allow": ["10.0.0.1/8"]}, "allow '10.0.0.1/8' names an address and a network"),
        ({"deny": ["unix"]}, "deny 'unix' is no network"),
        ({"proxy_from": ["here"]}, "proxy_from 'here' is no network"),
        ({"allow": "10.0.0.0/8"}, "is one text"),
        ({"max_connects_per_second": 0}, "max_connects_per_second"),
    ],
)
def test_values_that_make_no_sense_are_refused(values: dict[str, Any], words: str) -> None:
    """The text names the field and the value."""
    with pytest.raises(ValueError, match=words):
        techo.Admission(**values)
