"""Conversations over any stream: receive, reply, send, until the peer has finished."""

from __future__ import annotations

import contextlib
import selectors
from typing import Final

import trio

from techo._server.connection import Connection, Outcome
from techo.reply import Reply

PIECE: Final = 2**15
"""Bytes sent between two signs of progress. Two TLS records; a peer that takes so little as
this within the idle timeout is slow, not stalled."""

# Of those that need no descriptor of their own, which may be what there is none left of.
_Selector: Final = getattr(selectors, "PollSelector", selectors.SelectSelector)


async def converse(
    stream: trio.abc.Stream, reply: Reply, connection: Connection, receive_size: int
) -> Outcome:
    """Answer every chunk with `reply(chunk)` until end-of-file or until time is up.

    Leaves the stream open; after an outcome other than `Outcome.EOF` a reply may have been
    sent in part.

    Raises:
        trio.BrokenResourceError: the peer broke the connection.
        Exception: whatever `reply` raised.
    """
    while True:
        with connection.watch() as scope:
            chunk = await stream.receive_some(receive_size)
        if scope.cancelled_caught:
            return connection.verdict()
        if not chunk:
            return Outcome.EOF
        connection.received(len(chunk))
        # Looked at before the reply leaves: afterwards the peer's next message is there sooner
        # than a busy server can look, and a peer that never pauses would never be let go.
        last = connection.quiet == 0 and not _may_have_input(stream)
        answer = memoryview(reply(bytes(chunk)))
        del chunk  # a peer that never reads should cost one reply, not the chunk as well
        for start in range(0, len(answer), PIECE):
            piece = answer[start : start + PIECE]
            with connection.watch() as scope:
                await stream.send_all(piece)
            if scope.cancelled_caught:
                return connection.verdict()
            connection.sent(len(piece))
        connection.owing = False
        if last:
            return connection.verdict()


def _may_have_input(stream: trio.abc.Stream) -> bool:
    """Whether bytes have arrived in the socket below; True where there is none to look at."""
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    if not isinstance(stream, trio.SocketStream):
        return True
    with _Selector() as selector:
        selector.register(stream.socket.fileno(), selectors.EVENT_READ)
        return bool(selector.select(0))


async def say_goodbye(
    stream: trio.abc.Stream, connection: Connection, close_timeout: float
) -> None:
    """Half-close, then discard what still arrives, for `close_timeout` seconds at the most.

    Closing a socket that holds unread input sends a reset, which can destroy the reply that
    was just sent (RFC 1122, 4.2.2.13); so the input is read first. Leaves the stream to be
    closed by whoever opened it; cancellation leaves it in no other state.
    """
    connection.leave(close_timeout)
    with connection.watch(), contextlib.suppress(trio.BrokenResourceError):
        if isinstance(stream, trio.abc.HalfCloseableStream):
            await stream.send_eof()
            while await stream.receive_some():
                pass
        else:
            # TLS knows no half-close: its farewell is to send close_notify and be gone.
            await stream.aclose()
