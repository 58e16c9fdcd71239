"""Handshakes that fail: both sides name the alert, in the log and as the cause."""

from __future__ import annotations

import logging
import ssl

import pytest
import trio

import techo
from helpers import PATIENCE, connect, ended, until_ended
from refusals import CLIENTS, REFUSALS, Client, Refusal, trio_s_own
from techo._tls.records import TlsRecords

pytestmark = pytest.mark.usefixtures("conversation")

ANY = "tls://127.0.0.1:0"


CASES = [
    *((refusal, client) for refusal in REFUSALS for client in CLIENTS),
    *((refusal, trio_s_own) for refusal in REFUSALS if not refusal.by_client),
]


@pytest.mark.parametrize(
    ("refusal", "client"),
    CASES,
    ids=[f"{refusal}-{client.__name__}" for refusal, client in CASES],
)
async def test_both_sides_name_the_alert(
    refusal: Refusal,
    client: Client,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Over TLS 1.3 a client learns only when it reads that its certificate is refused.

    It gets the alert of RFC 8446, 6.2, even if it has sent something by then.
    """
    caplog.set_level(logging.INFO, "techo")
    refusal.prepare(client_tls, server_tls)
    async with techo.open_server(ANY, reply=techo.raw, tls=server_tls) as server:
        with trio.fail_after(PATIENCE):
            said = await client(server.endpoints[0], client_tls)
        accepted = server.statistics().accepted
        assert ended(await until_ended(server, accepted)) == {"reset": accepted}
    assert f"alert {refusal.alert}" in said.lower()
    lines = [each for each in caplog.messages if each.startswith("closed")]
    way = "received" if refusal.by_client else "sent"
    assert len(lines) == accepted > 0
    assert all(f"{way} alert {refusal.alert}'" in line for line in lines), lines
    assert all(refusal.reason in line for line in lines), lines
    assert "_ssl.c" not in caplog.text


async def test_an_alert_in_mid_conversation_is_named(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    """A record that was changed on its way is answered by one."""
    caplog.set_level(logging.INFO, "techo")
    async with techo.open_server(ANY, reply=techo.raw, tls=server_tls) as server:
        records = TlsRecords.of(client_tls, server_side=False, server_hostname="localhost")
        async with await connect(server) as stream:
            while not records.shake_hands():
                await stream.send_all(records.take())
                records.feed(await stream.receive_some())
            records.encrypt(b"changed")
            changed = bytearray(records.take())
            changed[-1] ^= 1
            await stream.send_all(changed)
            room = memoryview(bytearray(100))
            while records.failure is None:
                records.feed(await stream.receive_some())
                assert not records.decrypt(room)
        assert str(records.error) == "TLS failed: received alert bad record mac"
        assert ended(await until_ended(server, 1)) == {"reset": 1}
    assert "'TLS failed: decryption failed or bad record mac, sent alert bad record mac'" in (
        caplog.text
    )


async def test_who_leaves_in_mid_handshake_is_no_alert(
    server_tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody has refused anything then."""
    caplog.set_level(logging.INFO, "techo")
    async with techo.open_server(ANY, tls=server_tls) as server:
        await (await connect(server)).aclose()
        assert ended(await until_ended(server, 1)) == {"reset": 1}
    assert "reason='the connection ended in mid-handshake'" in caplog.text


async def test_what_trio_s_own_stream_fails_with_is_named(
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
    nursery: trio.Nursery,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Trio says nothing of it, but what is behind its error does."""
    caplog.set_level(logging.INFO, "techo")
    service = techo.EchoService(techo.raw)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    tls = trio.SSLListener(listener, server_tls)
    nursery.start_soon(trio.serve_listeners, service.handle, [tls])
    client = await trio.open_ssl_over_tcp_stream(
        "localhost", listener.socket.getsockname()[1], ssl_context=client_tls
    )
    await client.send_all(b"x")
    assert await client.receive_some() == b"x"
    await client.transport_stream.send_all(b"\x17\x03\x03\x00\x02ab")
    assert ended(await until_ended(service, 1)) == {"reset": 1}
    await trio.aclose_forcefully(client)
    assert "reason='TLS failed: " in caplog.text
    nursery.cancel_scope.cancel()
