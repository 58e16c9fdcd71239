"""Connecting: addresses raced, losers closed, steps timed, and the system's reasons told."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
import trio
import trio.testing

import techo
from helpers import PATIENCE, free_port, open_descriptors, until_ended
from techo._addresses import interleaved, is_literal, text_of, unix_address
from techo._kernel.options import SocketOptions
from techo._memory.stream import MemoryStream
from techo._probing.causes import first_cause
from techo._probing.target import name_of, opener_of
from techo._transport import connect as connecting
from techo._transport.connect import (
    Dial,
    Step,
    connect,
)


@attrs.define
class Names(trio.abc.HostnameResolver):
    """A resolver that knows one name's addresses."""

    addresses: list[str]
    seconds: float = 0.0

    async def getaddrinfo(  # type: ignore[override]  # of all its forms, the one that is used
        self, _host: str, port: int, _family: int, kind: int, *_: int
    ) -> list[Any]:
        """Look it up."""
        await trio.sleep(self.seconds)
        if not self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [
            (
                socket.AF_INET6 if ":" in each else socket.AF_INET,
                kind,
                0,
                "",
                (each, port, 0, 0) if ":" in each else (each, port),
            )
            for each in self.addresses
        ]

    async def getnameinfo(self, *_: Any) -> tuple[str, str]:
        """Nobody asks."""
        raise NotImplementedError


def resolve(*addresses: str, seconds: float = 0.0) -> None:
    """Let every name have these addresses for the rest of the test."""
    trio.socket.set_custom_hostname_resolver(Names(list(addresses), seconds))


@contextlib.contextmanager
def listening(host: str, port: int = 0) -> Iterator[socket.socket]:
    """Listen, and accept by the queue only."""
    with socket.socket() as sock:
        sock.bind((host, port))
        sock.listen(10)
        yield sock


@contextlib.contextmanager
def full(host: str, port: int) -> Iterator[None]:
    """Listen with a full queue, which answers no attempt to connect."""
    with socket.socket() as sock, contextlib.ExitStack() as stack:
        sock.bind((host, port))
        sock.listen(0)
        for _ in range(2):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex((host, port))
        yield


def port_of(sock: socket.socket) -> int:
    """Return where a socket listens."""
    return int(sock.getsockname()[1])


async def test_the_next_address_is_tried_after_a_quarter_of_a_second(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The first that answers wins, and the socket of the other is closed (RFC 8305)."""
    with listening("127.0.0.1") as sock, full("127.0.0.2", port_of(sock)):
        resolve("127.0.0.2", "127.0.0.1", seconds=3)
        before = await open_descriptors()
        connected = await connect(f"tcp://two.example:{port_of(sock)}")
        assert connected.transport.address == f"127.0.0.1:{port_of(sock)}"
        assert connected.times.lookup == 3
        assert connected.times.connect == 0.25
        assert connected.times.handshake is None
        assert await open_descriptors() == before + 1
        await connected.transport.aclose()


async def test_after_a_refusal_the_next_address_is_tried_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """An attempt that has failed is not waited for."""
    with listening("127.0.0.1") as sock:
        resolve("127.0.0.2", "127.0.0.3", "127.0.0.1")
        connected = await connect(f"tcp://three.example:{port_of(sock)}")
        assert connected.times.connect == 0
        assert connected.transport.address.startswith("127.0.0.1:")
        await connected.transport.aclose()


async def test_if_all_addresses_fail_the_first_reason_is_the_cause() -> None:
    """The text is that of trio's open_tcp_stream."""
    resolve("127.0.0.2", "::1")
    with socket.socket() as one, socket.socket(socket.AF_INET6) as other:
        one.bind(("127.0.0.2", 0))  # it does not listen, and nobody else can
        port = port_of(one)
        other.bind(("::1", port))
        with pytest.raises(
            OSError, match=f"all attempts to connect to two.example:{port}"
        ) as error:
            await connect(f"tcp://two.example:{port}")
    assert isinstance(error.value.__cause__, ExceptionGroup)
    assert first_cause(error.value).errno == errno.ECONNREFUSED


async def test_cancelled_while_racing_it_closes_all_sockets(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """No socket is left however many attempts are in flight."""
    port = free_port()
    with full("127.0.0.1", port), full("127.0.0.2", port):
        resolve("127.0.0.2", "127.0.0.1")
        before = await open_descriptors()
        dial = Dial(techo.Endpoint("two.example", port))
        with trio.move_on_after(1) as scope:
            await dial
        assert scope.cancelled_caught
        assert dial.step is Step.CONNECT
        assert await open_descriptors() == before


async def test_cancelled_with_the_winner_there_it_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The caller never gets it, and could not close it."""
    before = await open_descriptors()
    with listening("127.0.0.1") as sock, trio.CancelScope() as scope:
        attempt = connecting._Race._attempt

        async def and_cancel(race: connecting._Race, *arguments: Any) -> None:
            await attempt(race, *arguments)
            scope.cancel()

        monkeypatch.setattr(connecting._Race, "_attempt", and_cancel)
        connected = await connect(f"127.0.0.1:{port_of(sock)}")
        await connected.transport.aclose()
        pytest.fail("it was cancelled")
    assert scope.cancelled_caught
    assert await open_descriptors() == before


async def test_of_two_that_connect_at_once_one_is_closed() -> None:
    """The second is, though it may be later by no time at all."""
    with listening("127.0.0.1") as sock:
        endpoint = techo.Endpoint("127.0.0.1", port_of(sock))
        race = connecting._Race(endpoint, SocketOptions())
        found: Any = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", endpoint.port))
        before = await open_descriptors()
        for _ in range(2):
            await race._attempt(found, trio.Event(), trio.CancelScope())
        assert await open_descriptors() == before + 1
        (await race.run([]))[0].close()


async def test_a_dial_shows_in_which_step_its_time_ran_out(
    autojump_clock: trio.testing.MockClock, client_tls: ssl.SSLContext
) -> None:
    """A look-up that hangs is told apart from a server that does not answer."""
    resolve("127.0.0.1", seconds=10)
    with listening("127.0.0.1") as sock:
        before = await open_descriptors()
        dial = Dial(techo.Endpoint("one.example", port_of(sock), kind="tls"), client_tls)
        with trio.move_on_after(5):
            await dial
        assert dial.step is Step.LOOKUP
        dial = Dial(techo.Endpoint("127.0.0.1", port_of(sock), kind="tls"), client_tls)
        with trio.move_on_after(5):
            await dial
        assert dial.step is Step.HANDSHAKE
        assert await open_descriptors() == before


async def test_the_handshake_is_timed_apart(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """A literal address needs no look-up."""
    with trio.fail_after(PATIENCE):
        async with techo.open_server("tls://127.0.0.1:0", tls=server_tls) as server:
            connected = await connect(server.endpoints[0], tls=client_tls)
            assert connected.times.lookup is None
            assert connected.times.handshake is not None
            assert connected.times.handshake > 0
            assert connected.transport.handshake_done
            await connected.transport.aclose()


async def test_a_handshake_that_breaks_is_the_system_s_error(
    client_tls: ssl.SSLContext,
) -> None:
    """Everything that connecting fails with is an OSError."""
    with listening("127.0.0.1") as sock:
        before = await open_descriptors()

        for abruptly, expected in ((False, ssl.SSLError), (True, ConnectionResetError)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, accept_and_end, sock, abruptly)
                with trio.fail_after(PATIENCE), pytest.raises(expected):
                    await connect(f"tls://127.0.0.1:{port_of(sock)}", tls=client_tls)
        assert await open_descriptors() == before


def accept_and_end(sock: socket.socket, abruptly: bool) -> None:  # noqa: FBT001  -- for a thread
    """Accept a connection, read a ClientHello and close; with something unread it resets."""
    accepted, _ = sock.accept()
    with accepted:
        accepted.recv(1 if abruptly else 2**16)


async def test_a_server_s_context_is_refused_and_nothing_stays_open(
    server_tls: ssl.SSLContext,
) -> None:
    """OpenSSL reports that as an error of TLS, before the handshake."""
    async with techo.open_server("tcp://127.0.0.1:0") as server:
        endpoint = attrs.evolve(server.endpoints[0], kind=techo.Kind.TLS)
        before = await open_descriptors()
        with pytest.raises(ssl.SSLError, match="PROTOCOL_TLS_SERVER"):
            await connect(endpoint, tls=server_tls)
        await until_ended(server, 1)
        assert await open_descriptors() == before


@pytest.mark.parametrize("kind", ["tcp", "udp"])
async def test_who_is_connected_to_himself_has_reached_nobody(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a socket would echo, and keep the real server from listening."""
    port = free_port(socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)

    def on_that_port(
        _: SocketOptions, family: int, kind: int, protocol: int = 0
    ) -> socket.socket:
        sock = socket.socket(family, kind, protocol)
        sock.bind(("127.0.0.1", port))
        return sock

    monkeypatch.setattr(SocketOptions, "open", on_that_port)
    before = await open_descriptors()
    with pytest.raises(ConnectionRefusedError):
        await connect(f"{kind}://127.0.0.1:{port}")
    assert await open_descriptors() == before


@pytest.mark.parametrize("kind", ["tcp", "udp"])
async def test_options_hold_before_the_socket_is_connected(kind: str) -> None:
    """They are the source address and the buffers, which Linux doubles."""
    options = SocketOptions("127.0.0.5", send_buffer=20_000, receive_buffer=30_000)
    async with techo.open_server(f"{kind}://127.0.0.1:0") as server:
        connected = await connect(server.endpoints[0], options=options)
        sock = connected.transport.socket
        assert sock is not None
        assert sock.getsockname()[0] == "127.0.0.5"
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 40_000
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 60_000
        await connected.transport.aclose()
        for place, source in (("[::1]", "127.0.0.5"), ("127.0.0.1", "::1")):
            with pytest.raises(ValueError, match=rf"source '{source}': .* is IPv[46]"):
                await connect(f"{kind}://{place}:9", options=SocketOptions(source))


async def test_over_udp_the_first_address_that_there_is_a_way_to_is_taken() -> None:
    """Without any, the error is that of the first."""
    resolve("255.255.255.255", "127.0.0.1")
    connected = await connect("udp://two.example:9")
    assert connected.transport.address == "127.0.0.1:9"
    await connected.transport.aclose()
    resolve("255.255.255.255")
    with pytest.raises(PermissionError):
        await connect("udp://one.example:9")


async def test_a_function_s_stream_becomes_a_transport(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The function's time is that of connecting."""
    ours, theirs = MemoryStream.pair()

    async def open_it() -> MemoryStream:
        await trio.sleep(2)
        return ours

    opener = opener_of(open_it)
    dial = opener()
    connected = await dial
    assert dial.step is Step.CONNECT
    assert connected.times.connect == 2
    await connected.transport.send(b"hello")
    assert await theirs.receive_some() == b"hello"
    assert name_of(open_it) == "a function that connects"


async def test_a_function_s_tls_has_done_its_handshake_when_it_is_connected(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """A certificate that is refused is an error of connecting."""
    with trio.fail_after(PATIENCE):
        async with techo.open_server("tls://127.0.0.1:0", tls=server_tls) as server:
            for name in ("localhost", "elsewhere"):

                async def open_it(name: str = name) -> trio.abc.Stream:
                    stream = await trio.open_tcp_stream("127.0.0.1", server.endpoints[0].port)
                    return trio.SSLStream(stream, client_tls, server_hostname=name)

                dial = opener_of(open_it)()
                if name == "localhost":
                    connected = await dial
                    assert connected.transport.handshake_done
                    await connected.transport.aclose()
                else:
                    with pytest.raises(ssl.SSLCertVerificationError):
                        await dial
                    assert dial.step is Step.HANDSHAKE


@pytest.mark.parametrize(
    ("target", "error", "match"),
    [(7, TypeError, "no endpoint"), ("fd:3", ValueError, "for servers")],
)
def test_what_is_no_target_is_refused(target: Any, error: type[Exception], match: str) -> None:
    """It is refused before anything is opened."""
    with pytest.raises(error, match=match):
        opener_of(target)


def test_a_function_takes_no_tls() -> None:
    """It does its own."""
    with pytest.raises(ValueError, match="neither tls nor server_name"):
        opener_of(trio.sleep_forever, None, "localhost")


async def test_an_endpoint_opens_any_number_of_connections() -> None:
    """Each connection has a dial of its own."""
    with listening("127.0.0.1") as sock:
        opener = opener_of(f"127.0.0.1:{port_of(sock)}")
        for _ in range(2):
            await (await opener()).transport.aclose()
        assert name_of(f":{port_of(sock)}") == f"tcp://127.0.0.1:{port_of(sock)}"


def test_families_take_turns_and_no_address_is_tried_twice() -> None:
    """The system's preferred family begins (RFC 8305, section 4)."""

    def found(family: int, *hosts: str) -> list[Any]:
        return [(family, socket.SOCK_STREAM, 6, "", (host, 1)) for host in hosts]

    four, six = (
        found(socket.AF_INET, "a", "b", "a", "c"),
        found(socket.AF_INET6, "x", "y", "y"),
    )
    assert [each[4][0] for each in interleaved(six + four)] == ["x", "a", "y", "b", "c"]
    assert [each[4][0] for each in interleaved(four + six)] == ["a", "x", "b", "y", "c"]


def test_addresses_are_written_as_people_write_them() -> None:
    """Every family has its form."""
    assert text_of(("127.0.0.1", 7)) == "127.0.0.1:7"
    assert text_of(("::1", 7, 0, 0)) == "[::1]:7"
    assert text_of(unix_address("@name")) == text_of(b"\0name") == "@name"
    assert text_of(unix_address("/run/x")) == "/run/x"
    assert is_literal("::1")
    assert is_literal("127.0.0.1")
    assert not is_literal("localhost")
