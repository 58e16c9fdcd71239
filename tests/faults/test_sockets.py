"""Faults over sockets: the same as in memory, a real reset, TLS, and what cannot happen."""

from __future__ import annotations

import contextlib
import errno
import ssl
import sys

import pytest
import trio
import trio.testing
import trustme

import techo
from helpers import PATIENCE, ended, until_ended
from techo import testing
from techo._embedded import transport_of
from techo._faults.certificates import bad_context
from techo._transport.connect import connect
from techo._transport.transport import Transport
from techo.testing import Fault

DATA = bytes(range(256)) * 40


async def talk(stream: Transport) -> tuple[bytes, str]:
    """Send it all, half-close, and return what comes back and how it ends."""
    back = b""
    try:
        await stream.send(DATA)
        await stream.send_eof()
        while data := await stream.receive():
            back += data
    except trio.BrokenResourceError:
        return back, "reset"
    finally:
        await trio.aclose_forcefully(stream)
    return back, "eof"


@pytest.mark.parametrize("kind", ["tcp", "unix"], indirect=True)
@pytest.mark.parametrize(
    "fault",
    [
        testing.Corrupt(0.05),
        testing.Truncate(5000),
        testing.Chunk(7, 700),
        testing.Lengthen(9),
        testing.Corrupt(0.5, offset=5000, probability=0.5),
    ],
    ids=str,
)
async def test_sockets_and_memory_tell_the_same_story(address: str, fault: Fault) -> None:
    """The same seed and connection give the same bytes, and faults at the same places."""
    # Replies that come whole, so that a stream's chunks are no part of the story.
    limits = techo.Limits(receive_size=2**16)
    stories = []
    async with testing.open_memory_server(
        reply=techo.raw, limits=limits, faults=[fault], seed=9
    ) as memory:
        stories.append([await talk(transport_of(await memory.connect())) for _ in range(4)])
    async with techo.open_server(
        address, reply=techo.raw, limits=limits, faults=[fault], seed=9
    ) as server:
        told = []
        for _ in range(4):
            stream = (await connect(server.endpoints[0])).transport
            with trio.fail_after(PATIENCE):
                told.append(await talk(stream))
        stories.append(told)
    assert stories[0] == stories[1]
    histories = [
        [(event.connection, event.offset, event.fault) for event in each.history]
        for each in (memory, server)
    ]
    assert histories[0] == histories[1]
    assert histories[0]


async def test_a_reset_is_a_real_one() -> None:
    """The client's system reports a connection reset by its peer."""
    async with techo.open_server("tcp://127.0.0.1:0", faults=[testing.Reset()]) as server:
        stream = (await connect(server.endpoints[0])).transport
        with pytest.raises(trio.BrokenResourceError) as caught:
            assert await stream.receive() is None
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == errno.ECONNRESET
        assert ended(await until_ended(server, 1)) == {"faulted": 1}
        await stream.aclose()


CANNOT = [
    (testing.Corrupt(0.1, offset=1), "udp://127.0.0.1:0", "has an offset, which datagrams"),
    (testing.Reset(), "unix:@techo-never", "only on memory, mptcp, tcp, tls"),
    (testing.DropReply(), "tcp://127.0.0.1:0", "only on ip, udp, unixgram, unixpacket"),
    (testing.Throttle(9), "udp://127.0.0.1:0", "cannot happen on udp://127.0.0.1:0"),
    (testing.NeverHandshake(), "tcp://127.0.0.1:0", "only on tls"),
    (testing.Chunk(1), "unixpacket:@techo-never", "cannot happen on unixpacket"),
]


@pytest.mark.parametrize(("fault", "endpoint", "reason"), CANNOT)
async def test_a_fault_that_cannot_happen_is_a_value_error(
    fault: Fault, endpoint: str, reason: str
) -> None:
    """It is refused before anything listens; the text names where it could happen."""
    with pytest.raises(ValueError, match=reason):
        async with techo.open_server(endpoint, faults=[fault]):
            pass


async def test_bad_certificates_need_who_issues_them(
    monkeypatch: pytest.MonkeyPatch, server_tls: ssl.SSLContext
) -> None:
    """Without trustme the server does not begin, instead of failing at the first connection."""
    monkeypatch.setitem(sys.modules, "trustme", None)
    bad_context.cache_clear()
    with pytest.raises(ValueError, match="issued by trustme: install it"):
        async with techo.open_server(
            "tls://127.0.0.1:0", tls=server_tls, faults=[testing.WrongName()]
        ):
            pass


async def test_tls_can_be_truncated_while_its_peer_sends(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """What was sent before the end arrives, as everywhere."""
    async with techo.open_server(
        "tls://127.0.0.1:0",
        reply=techo.raw,
        tls=server_tls,
        faults=[testing.Truncate(1000)],
    ) as server:
        stream = (await connect(server.endpoints[0], tls=client_tls)).transport
        back = b""
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(flood, stream)
                while data := await stream.receive():
                    back += data
                nursery.cancel_scope.cancel()
        assert len(back) == 1000
        await trio.aclose_forcefully(stream)


async def flood(stream: Transport) -> None:
    """Send a MiB, or as much as the peer takes."""
    with contextlib.suppress(trio.BrokenResourceError):
        await stream.send(bytes(2**20))


async def test_nor_can_it_in_memory() -> None:
    """Faults of TLS and of messages are refused in memory."""
    for fault in (testing.NoCloseNotify(), testing.DuplicateReply()):
        with pytest.raises(ValueError, match="cannot happen on memory"):
            async with testing.open_memory_server(faults=[fault]):
                pass


async def trip(server: techo.EchoService, tls: ssl.SSLContext) -> str:
    """Return what a TLS client finds."""
    try:
        with trio.fail_after(PATIENCE):
            stream = (await connect(server.endpoints[0], tls=tls)).transport
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except OSError:
        return "no handshake"
    await stream.send(b"hello")
    assert await stream.receive() == b"hello"
    try:
        return "closed" if await stream.receive() is None else "more"
    except trio.BrokenResourceError:
        return "cut off"
    finally:
        await trio.aclose_forcefully(stream)


@pytest.mark.parametrize("happens", [True, False])
@pytest.mark.parametrize("name", ["handshake", "notify", "expired", "wrong"])
async def test_faults_of_tls(  # noqa: PLR0917  -- parameters and fixtures
    name: str,
    happens: bool,  # noqa: FBT001  -- a parameter of the test
    authority: trustme.CA,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
    patient_clock: trio.testing.MockClock,
) -> None:
    """The client finds each fault, and only when it was asked for."""
    fault, found = {
        "handshake": (testing.NeverHandshake(), "no handshake"),
        "notify": (testing.NoCloseNotify(), "cut off"),
        "expired": (testing.ExpiredCertificate(authority), "certificate has expired"),
        "wrong": (
            testing.WrongName(authority),
            "IP address mismatch, certificate is not valid for '127.0.0.1'.",
        ),
    }[name]
    async with techo.open_server(
        "tls://127.0.0.1:0",
        reply=techo.raw,
        tls=server_tls,
        limits=techo.Limits(idle_timeout=5, handshake_timeout=5),
        faults=[fault] if happens else [testing.Delay(0)],
    ) as server:
        assert await trip(server, client_tls) == (found if happens else "closed")
        assert [event.fault for event in server.history] == (
            [fault] if happens else [testing.Delay(0)]
        )


async def test_a_bad_certificate_for_every_second(
    authority: trustme.CA,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
    patient_clock: trio.testing.MockClock,
) -> None:
    """The other connections get the right certificate."""
    async with techo.open_server(
        "tls://127.0.0.1:0",
        reply=techo.raw,
        tls=server_tls,
        limits=techo.Limits(idle_timeout=5),
        faults=[testing.ExpiredCertificate(authority, every=2)],
    ) as server:
        found = [await trip(server, client_tls) for _ in range(4)]
    assert found == ["closed", "certificate has expired"] * 2
