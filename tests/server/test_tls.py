"""The server over TLS: the same handler, and misuse that costs only its own connection."""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
import trustme

import techo
from helpers import PATIENCE, connect, ended, reset, trust, until, until_ended

ANY = "tls://127.0.0.1:0"

pytestmark = pytest.mark.usefixtures("conversation")


async def test_serve_ssl_over_tcp_works_with_the_same_handler(
    nursery: trio.Nursery, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """TLS peers are answered, named by address, and their misbehaviour is a reset."""
    service = techo.EchoService(techo.raw, limits=techo.Limits(max_per_host=100))
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    tls = [trio.SSLListener(each, server_tls) for each in listeners]
    nursery.start_soon(trio.serve_listeners, service.handle, tls)

    async with await trio.open_ssl_over_tcp_stream(
        "localhost", port, ssl_context=client_tls
    ) as stream:
        data = bytes(range(256)) * 400
        await stream.send_all(data)
        received = b""
        while len(received) < len(data):
            received += await stream.receive_some()
        assert received == data
        assert set(service._service.registry._per_host) == {"127.0.0.1"}
    assert ended(await until_ended(service, 1)) == {"eof": 1}

    async with await trio.open_tcp_stream("127.0.0.1", port) as plain:
        await plain.send_all(b"GET / HTTP/1.0\r\n\r\n")
        assert ended(await until_ended(service, 2)) == {"eof": 1, "reset": 1}

    vanishing = await trio.open_ssl_over_tcp_stream("localhost", port, ssl_context=client_tls)
    await vanishing.send_all(b"x")
    assert await vanishing.receive_some() == b"x"
    await vanishing.transport_stream.aclose()  # without close_notify
    assert ended(await until_ended(service, 3)) == {"eof": 1, "reset": 2}
    nursery.cancel_scope.cancel()


async def test_drain_ends_tls_conversations_between_two_messages(
    nursery: trio.Nursery,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
    patient_clock: trio.testing.MockClock,
) -> None:
    """Busy clients with messages of many records get whole ones, then close_notify."""
    service = techo.EchoService(techo.raw)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    tls = [trio.SSLListener(each, server_tls) for each in listeners]
    nursery.start_soon(trio.serve_listeners, service.handle, tls)
    message = bytes(range(256)) * 1200
    torn: list[int] = []

    async def chat(busy: trio.Event) -> None:
        stream = await trio.open_ssl_over_tcp_stream("localhost", port, ssl_context=client_tls)
        async with stream:
            back = len(message)
            while back == len(message):
                back = 0
                async with trio.open_nursery() as both:
                    both.start_soon(send, stream)
                    while back < len(message) and (chunk := await stream.receive_some()):
                        back += len(chunk)
                    if back < len(message):
                        both.cancel_scope.cancel()
                busy.set()
            if back:
                torn.append(back)

    async def send(stream: trio.abc.Stream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(message)

    async with trio.open_nursery() as clients:
        for _ in range(5):
            clients.start_soon(chat, busy := trio.Event())
            await busy.wait()
        await service.drain()
    assert torn == []
    assert ended(service.statistics()) == {"drained": 5}
    nursery.cancel_scope.cancel()


async def test_a_silent_tls_peer_is_idle_and_cannot_hang_the_close(
    nursery: trio.Nursery, server_tls: ssl.SSLContext
) -> None:
    """A peer that never shakes hands is gone after the handshake's own, shorter timeout."""
    limits = techo.Limits(handshake_timeout=0.05, close_timeout=PATIENCE)
    service = techo.EchoService(limits=limits)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    tls = [trio.SSLListener(each, server_tls) for each in listeners]
    nursery.start_soon(trio.serve_listeners, service.handle, tls)
    silent = await trio.open_tcp_stream("127.0.0.1", listeners[0].socket.getsockname()[1])
    assert ended(await until_ended(service, 1)) == {"idle": 1}
    await silent.aclose()
    nursery.cancel_scope.cancel()


async def test_a_tls_endpoint_is_served_like_any_other(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """`serve` takes it, reports where it is, and counts what passes."""
    async with techo.open_server(ANY, reply=techo.raw, tls=server_tls) as server:
        (endpoint,) = server.endpoints
        assert str(endpoint) == f"tls://127.0.0.1:{endpoint.port}"
        stream = await trio.open_ssl_over_tcp_stream(
            "127.0.0.1", endpoint.port, ssl_context=client_tls
        )
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"
        await stream.aclose()
        assert ended(await until_ended(server, 1)) == {"eof": 1}


async def test_a_tls_endpoint_without_certificate_is_refused() -> None:
    """It is refused before anything listens, with the remedy."""
    with pytest.raises(ValueError, match="needs a certificate"):
        async with techo.open_server("tcp://127.0.0.1:0", ANY):
            pass


async def test_a_client_s_context_is_refused(client_tls: ssl.SSLContext) -> None:
    """It is refused before anything listens, by the endpoint's name, and not at each peer."""
    with pytest.raises(ValueError, match=f"{ANY} needs a server's context as tls: .*CLIENT"):
        async with techo.open_server(ANY, tls=client_tls):
            raise AssertionError("it can't be listening")


async def speak_plain(stream: trio.SocketStream) -> None:
    """Send what is no TLS, and wait for the end."""
    await stream.send_all(b"GET / HTTP/1.0\r\n\r\n")
    with contextlib.suppress(trio.BrokenResourceError):
        while await stream.receive_some():
            pass


async def say_nothing(stream: trio.SocketStream) -> None:
    """Send nothing, and wait for the end."""
    assert await stream.receive_some() == b""


async def leave_early(stream: trio.SocketStream) -> None:
    """Close before the handshake."""
    await stream.aclose()


async def break_off(stream: trio.SocketStream) -> None:  # noqa: ASYNC124  -- one of several
    """Reset before the handshake."""
    reset(stream)


@pytest.mark.parametrize(
    ("misuse", "outcome"),
    [
        (speak_plain, "reset"),
        (say_nothing, "idle"),
        (leave_early, "reset"),
        (break_off, "reset"),
    ],
)
async def test_misuse_is_a_counted_outcome_without_a_traceback(
    misuse: Callable[[trio.SocketStream], Awaitable[None]],
    outcome: str,
    server_tls: ssl.SSLContext,
    caplog: pytest.LogCaptureFixture,
    patient_clock: trio.testing.MockClock,
) -> None:
    """Misuse costs its own connection only."""
    caplog.set_level(logging.DEBUG, "techo")
    limits = techo.Limits(handshake_timeout=5)
    async with techo.open_server(ANY, limits=limits, tls=server_tls) as server:
        with trio.fail_after(PATIENCE):
            async with await connect(server) as stream:
                await misuse(stream)
            assert ended(await until_ended(server, 1)) == {outcome: 1}
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("known", [True, False])
async def test_mutual_tls_takes_known_clients_only(
    known: bool,  # noqa: FBT001  -- a parameter of the test
    authority: trustme.CA,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
) -> None:
    """An unknown certificate is a reset; in TLS 1.3 the client learns it when it reads."""
    authority.configure_trust(server_tls)
    server_tls.verify_mode = ssl.CERT_REQUIRED
    (authority if known else trustme.CA()).issue_cert("me.example").configure_cert(client_tls)
    async with techo.open_server(ANY, reply=techo.raw, tls=server_tls) as server:
        stream = await trio.open_ssl_over_tcp_stream(
            "127.0.0.1", server.endpoints[0].port, ssl_context=client_tls
        )
        if known:
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"
            await stream.aclose()
        else:
            with contextlib.suppress(trio.BrokenResourceError):  # TLS 1.2 tells it here
                await stream.do_handshake()
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
            await trio.aclose_forcefully(stream)
        assert ended(await until_ended(server, 1)) == {"eof" if known else "reset": 1}


async def test_a_drain_does_not_wait_for_a_handshake(
    server_tls: ssl.SSLContext,
) -> None:
    """A connection in its handshake ends at once in a drain."""
    limits = techo.Limits(drain_timeout=PATIENCE)
    async with (
        techo.open_server(ANY, limits=limits, tls=server_tls) as server,
        await connect(server),
    ):
        await until(lambda: server.statistics().active)
        with trio.fail_after(PATIENCE / 10):
            await server.drain()
    assert ended(server.statistics()) == {"drained": 1}


async def test_a_client_s_refusal_is_in_the_log(
    server_tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that does not know the server's certificate says so, and the log repeats it."""
    caplog.set_level(logging.INFO, "techo")
    async with techo.open_server(ANY, reply=techo.raw, tls=server_tls) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            async with techo.open_client(server.endpoints[0], tls=trust(trustme.CA())):
                raise AssertionError("it can't be connected")
        assert ended(await until_ended(server, 1)) == {"reset": 1}
    assert "unknown ca" in caplog.text.lower()
