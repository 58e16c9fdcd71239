"""The page on a socket: which addresses take a token, where it is read, and what is cut."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest
import trio
import trio.testing

from helpers import PATIENCE, receive_until_end
from techo._operate.web import LIFETIME
from techo._watch.web import serve_web
from techo._watch.web_access import VARIABLE, is_loopback, read_token
from techo._watch.web_app import UPDATE
from watch.feeds import FakeFeed, snapshot

TOKEN = "correct-horse-battery"  # noqa: S105  -- a test's own


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("LOCALHOST", True),
        (None, False),
        ("0.0.0.0", False),  # noqa: S104  -- nothing is bound
        ("::", False),
        ("192.0.2.1", False),
        ("localhost.example", False),
        ("", False),
    ],
)
async def test_an_address_that_others_can_reach_takes_a_token(
    host: str | None, *, loopback: bool
) -> None:
    """Without one nothing is served, and the text says how to give one."""
    assert is_loopback(host) == loopback
    if not loopback:
        with pytest.raises(ValueError, match="needs a token: --web-token FILE, or TECHO_WEB"):
            await serve_web(FakeFeed(), host, 0)


async def get(port: int, *headers: str) -> bytes:
    """Return the response to a request for the table's rows, byte by byte."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        with trio.fail_after(PATIENCE):
            lines = ["GET /rows.json HTTP/1.1", "Connection: close", *headers, "", ""]
            await stream.send_all("\r\n".join(lines).encode())
            return await receive_until_end(stream)


async def test_it_is_served_to_who_may_see_it(nursery: trio.Nursery) -> None:
    """Without a token under no name that a page elsewhere could use; with one under any."""
    feed = FakeFeed([snapshot("a")])
    _, port = await nursery.start(serve_web, feed, "127.0.0.1", 0)
    assert b'"target":"a"' in await get(port, f"Host: 127.0.0.1:{port}")
    assert (await get(port, "Host: evil.example")).startswith(b"HTTP/1.1 421 ")

    serve = functools.partial(serve_web, token=TOKEN)
    _, port = await nursery.start(serve, feed, "127.0.0.1", 0)
    assert (await get(port, "Host: any.example")).startswith(b"HTTP/1.1 401 ")
    with_token = await get(port, "Host: any.example", f"Authorization: Bearer {TOKEN}")
    assert b'"target":"a"' in with_token


async def test_events_outlive_other_connections_while_they_are_read(
    nursery: trio.Nursery, patient_clock: trio.testing.MockClock
) -> None:
    """One that is only kept open is cut as always, and a listener that left is forgotten."""
    feed = FakeFeed([snapshot("a")])
    _, port = await nursery.start(serve_web, feed, "127.0.0.1", 0)
    head = f"HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    begun = trio.current_time()
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"GET /events " + head)
        received = b""
        while received.count(b"event: rows") < 4:
            chunk = await stream.receive_some()
            assert chunk, "it was cut"
            received += chunk
        assert trio.current_time() - begun >= 3 * UPDATE > LIFETIME
        assert feed.listeners == 1
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"GET /healthz " + head)
        begun = trio.current_time()
        assert (await receive_until_end(stream)).endswith(b"alive\n")
        assert trio.current_time() - begun <= LIFETIME
    assert feed.listeners == 0


def test_a_token_is_read_from_a_file_or_the_environment(tmp_path: Path) -> None:
    """The file comes first; white space around it is not of it; an empty variable is none."""
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o640)
    assert read_token(str(path), {VARIABLE: "x" * 20}) == TOKEN
    assert read_token(None, {VARIABLE: f" {TOKEN}"}) == TOKEN
    assert read_token(None, {VARIABLE: ""}) is None
    assert read_token(None, {}) is None


@pytest.mark.parametrize(
    ("text", "mode", "error"),
    [
        (b"\n", 0o600, r"is empty, and should have a token; make one with: \(umask 077; "),
        (b"short", 0o600, "has 5 characters, and should have 16 or more; make one with"),
        (b"correct horse battery", 0o600, "has spaces or other characters than ASCII's"),
        ("pässword-pässword".encode(), 0o600, "has spaces or other characters than ASCII's"),
        (b"x" * 5000, 0o600, "is too large for a token"),
        (TOKEN.encode(), 0o644, "anybody may read it; chmod o= FILE"),
    ],
)
def test_what_is_no_token_is_refused_with_the_remedy(
    text: bytes, mode: int, error: str, tmp_path: Path
) -> None:
    """The text names the file, and has nothing of what is in it."""
    path = tmp_path / "token"
    path.write_bytes(text)
    path.chmod(mode)
    with pytest.raises(ValueError, match=error) as caught:
        read_token(str(path), {})
    assert str(path) in str(caught.value)
    assert TOKEN not in str(caught.value)
    if mode == 0o600 and len(text) < 5000:
        with pytest.raises(ValueError, match=error):
            read_token(None, {VARIABLE: text.decode(errors="replace") or " "})


def test_a_token_can_come_by_a_pipe() -> None:
    """As from a shell's <(...), which has no permissions to speak of."""
    reader, writer = os.pipe()
    os.write(writer, TOKEN.encode())
    os.close(writer)
    try:
        assert read_token(f"/dev/fd/{reader}", {}) == TOKEN
    finally:
        os.close(reader)
