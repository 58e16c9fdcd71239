"""Conversations over any stream: receive, reply, send, until the peer has finished."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

import trio

from techo._faults.stream import FaultyStream
from techo._packets import PacketStream
from techo._server.connection import Connection, Outcome
from techo.reply import Reply

PIECE: Final = 2**15
"""Bytes sent between two signs of progress. Two TLS records; a peer that takes so little as
this within the idle timeout is slow, not stalled."""

_GENTLE: Final = {
    Outcome.EOF,
    Outcome.IDLE,
    Outcome.EXPIRED,
    Outcome.DRAINED,
    Outcome.FAULTED,
}
"""Outcomes after which the peer may still be listening, so one does not just vanish."""

_PAUSE: Final = 0.01
"""Seconds without anything from a TLS peer, after which it is told goodbye."""

_GONE: Final = contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError)
"""What a peer that has left already makes of a farewell."""

_HELD_BACK: Final = 2**16
"""Bytes of answers that a drain holds back while it waits for the peer to pause; and none of
them for longer than that pause and the time to the peer's next message."""


async def converse(
    stream: trio.abc.Stream,
    reply: Reply,
    connection: Connection,
    receive_size: int,
    answer: bytes = b"",
) -> Outcome:
    """Answer every chunk with `reply(chunk)` until end-of-file or until time is up.

    `answer` is what is owed already.

    While the server drains, answers are held back until the peer pauses: one that waits for
    its answer sends nothing meanwhile, one in mid-message sends on. So the connection is let
    go between two messages, and not in the middle of one that nothing marks the end of. One
    that never pauses gets its answers, a little late, until the drain's time is up.

    Leaves the stream open; after an outcome other than `Outcome.EOF` a reply may have been
    sent in part.

    Raises:
        trio.BrokenResourceError: the peer broke the connection.
        trio.ClosedResourceError: somebody in our own program closed the stream.
        Exception: whatever `reply` raised.
    """
    answers = [answer] if answer else []
    since = trio.current_time()
    while True:
        if not _hold_back(answers, since, connection.quiet):
            if not await _send(stream, answers, connection):
                return connection.verdict()
            answers = []
        with connection.watch() as scope:
            chunk = await stream.receive_some(receive_size)
        if scope.cancelled_caught or not chunk:
            sent = await _send(stream, answers, connection)
            return Outcome.EOF if sent and not scope.cancelled_caught else connection.verdict()
        connection.received(len(chunk))
        since = since if answers else connection.progress
        answers.append(reply(bytes(chunk)))
        del chunk  # a peer that never reads should cost one reply, not the chunk as well


def _hold_back(answers: list[bytes], since: float, quiet: float | None) -> bool:
    """Whether answers, the first of which was ready at `since`, wait for the peer to pause."""
    if quiet is None:
        return False
    return sum(map(len, answers)) < _HELD_BACK and trio.current_time() - since < quiet


async def _send(stream: trio.abc.Stream, answers: list[bytes], connection: Connection) -> bool:
    """Send in pieces and count each; whether there was time for all of them."""
    for piece in _pieces(stream, answers):
        connection.send_pending = True
        with connection.watch() as scope:
            await stream.send_all(piece)
        if scope.cancelled_caught:
            return False
        connection.sent(len(piece))
    connection.send_pending = False
    return True


def _pieces(stream: trio.abc.Stream, answers: list[bytes]) -> Iterator[bytes | memoryview]:
    """Give what is sent at a time: a message, where messages are kept apart."""
    if isinstance(stream, FaultyStream):
        yield from stream.pieces(answers)
        return
    if isinstance(stream, PacketStream):
        yield from filter(None, answers)
        return
    rest = memoryview(b"".join(answers))
    while rest:
        yield rest[:PIECE]
        rest = rest[PIECE:]


async def shake_hands(
    stream: trio.SSLStream[Any], connection: Connection, idle_timeout: float
) -> Outcome | None:
    """Go through the TLS handshake in the time there is for it; say why if that was too little.

    Raises:
        trio.BrokenResourceError: the peer broke the connection, or what it sent is no TLS that
            we take.
    """
    with connection.watch(resumable=True) as scope:
        await stream.do_handshake()
    if scope.cancelled_caught:
        return connection.verdict()
    connection.greet(idle_timeout)
    return None


async def say_goodbye(
    stream: trio.abc.Stream, connection: Connection, outcome: Outcome, close_timeout: float
) -> None:
    """Half-close, then discard what still arrives, for `close_timeout` seconds at the most.

    Closing a socket that holds unread input sends a reset, which can destroy the reply that
    was just sent (RFC 1122, 4.2.2.13); so the input is read first. Leaves the stream to be
    closed by whoever opened it; cancellation leaves it in no other state.
    """
    half_closeable = isinstance(stream, trio.abc.HalfCloseableStream)
    # Where the peer has finished, nothing can arrive any more: closing is half-closing. And TLS
    # without a handshake would begin one, just to say goodbye.
    finished = half_closeable and outcome is Outcome.EOF
    if outcome not in _GENTLE or finished or not connection.greeted:
        return
    connection.leave(close_timeout)
    with connection.watch():
        if isinstance(stream, trio.SSLStream):
            await _end_tls(stream)
        else:
            await _half_close(stream)


async def _end_tls(stream: trio.SSLStream[Any]) -> None:
    """Send close_notify, which is TLS's whole farewell, then half-close what carries it."""
    transport = stream.transport_stream
    try:
        with _GONE:
            # While there is something to decrypt, no farewell is sent.
            with trio.CancelScope(deadline=trio.current_time() + _PAUSE) as pause:
                while await stream.receive_some():
                    pause.deadline = trio.current_time() + _PAUSE
            await stream.unwrap()
        await _half_close(transport)
    finally:
        # Unwrapping has made it ours to close.
        await trio.aclose_forcefully(transport)  # noqa: ASYNC102  -- waits for nothing


async def _half_close(stream: trio.abc.Stream) -> None:
    with _GONE:
        if isinstance(stream, trio.abc.HalfCloseableStream):
            await stream.send_eof()
            while await stream.receive_some():
                pass


async def close_now(stream: trio.abc.Stream) -> None:
    """Close without waiting for anything."""
    if isinstance(stream, trio.SocketStream | PacketStream):
        stream.socket.close()  # what aclose does, less a turn of the run for every connection
    else:
        await trio.aclose_forcefully(stream)
