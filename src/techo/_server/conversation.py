"""Both conversations: receive, reply, send, until the peer has finished; then the close.

The portable one works over any transport. The other is the pump's, over a socket, while the
connection's task waits; it has the same outcomes and counts.
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

import trio

from techo._kernel.ends import join_with_end
from techo._nursery import open_bare_nursery
from techo._pump.pump import Pump
from techo._pump.socket import PumpedSocket
from techo._server.connection import Connection, Outcome
from techo._transport.messages import LARGEST_PACKET
from techo._transport.transport import Transport
from techo.reply import Reply, raw, stamped

PIECE: Final = 2**15
"""Bytes sent between two signs of progress. Two TLS records; a peer that takes as little as
this within the idle timeout is slow, not stalled."""

_GRACEFUL: Final = {
    Outcome.EOF,
    Outcome.IDLE,
    Outcome.EXPIRED,
    Outcome.DRAINED,
    Outcome.FAULTED,
}
"""Outcomes after which the peer may still be listening, so that it is sent an end."""

_GONE: Final = contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError)
"""What a graceful close meets if the peer has left already."""

_HELD_BACK: Final = 2**16
"""Bytes of replies that a drain holds back while it waits for the peer to pause; and none of
them for longer than that pause and the time to the peer's next message."""

_FEW: Final = 2
"""Chunks after which a connection gets a task to watch its time: one trip needs none."""

Pieces: TypeAlias = Callable[[list[bytes]], Iterator[bytes | memoryview]]
"""Splits replies into what is sent at a time."""


async def converse(
    transport: Transport,
    reply: Reply,
    connection: Connection,
    receive_size: int,
    *,
    pending: bytes = b"",
    pieces: Pieces | None = None,
) -> Outcome:
    """Answer every chunk with `reply(chunk)` until end-of-file or until time is up.

    `pending` is the rest of a reply that is sent first. `pieces` replaces the way in which
    replies are split.

    While the server drains, replies are held back until the peer pauses: one that waits for
    its reply sends nothing meanwhile, one in mid-message sends on. So the connection ends
    between two messages, and not in the middle of one whose end nothing marks. A peer that
    never pauses gets its replies, a little late, until the drain's time is up.

    Leaves the transport open; after an outcome other than `Outcome.EOF` a reply may have been
    sent in part.

    Raises:
        trio.BrokenResourceError: the peer broke the connection.
        trio.ClosedResourceError: our own program closed the transport.
        Exception: whatever `reply` raised.
    """
    usual = pieces is None
    pieces = pieces or (_messages if transport.keeps_messages else _stretches)
    replies = [pending] if pending else []
    since = trio.current_time()
    look = late = False
    while True:
        if not _hold_back(replies, since, connection.quiet):
            sent = await _send(transport, pieces(replies), connection, look=late)
            if not sent or (connection.leaving and any(replies)):
                return Outcome.DRAINED if sent else connection.timeout_outcome()
            replies = []
            if usual and connection.interception is not None:
                return await connection.interception.converse(
                    transport, reply, connection, receive_size
                )
        ending = connection.draining or connection.leaving
        if usual and connection.chunks > _FEW and not (look or late or ending):
            ran_out, chunk, replies = await _exchange(
                transport, reply, connection, receive_size, pieces
            )
            if connection.send_pending and not replies:
                return connection.timeout_outcome()
        else:
            with connection.watch(look=look) as scope:
                chunk = await transport.receive(receive_size)
            ran_out = scope.cancelled_caught
        if ran_out and not connection.time_is_up():
            continue  # what arrived meanwhile has moved the deadline
        if ran_out and not look and is_late(transport, connection):
            look = True
            continue
        look = False
        if ran_out or chunk is None:
            sent = await _send_last(transport, pieces(replies), connection)
            return Outcome.EOF if sent and not ran_out else connection.timeout_outcome()
        connection.received(len(chunk), trio.current_time())
        late = connection.time_is_up()  # but what was received is answered
        since = since if replies else connection.progress
        replies.append(reply(bytes(chunk)))
        del chunk  # a peer that never reads should cost one reply, not the chunk as well


async def _exchange(
    transport: Transport, reply: Reply, connection: Connection, receive_size: int, split: Pieces
) -> tuple[bool, bytes | bytearray | None, list[bytes]]:
    """Answer what comes as long as there is time and no drain.

    Return whether a wait ran out, and if not, what was received last, which is not answered;
    and what is still to be sent, of which nothing was.

    A task of its own watches the time: to set a scope's deadline with every message costs a
    fifth of it, and to open a scope for every wait as much as all the rest.
    """
    left: tuple[bool, bytes | bytearray | None, list[bytes]] = True, None, []
    idle_timeout = connection.idle_timeout
    async with open_bare_nursery() as nursery:
        connection.exchange = nursery.cancel_scope
        nursery.start_soon(_keep_time, connection, nursery.cancel_scope)
        now = trio.lowlevel.current_clock().current_time  # without the search for the run
        while connection.quiet is None and connection.interception is None:
            chunk = await transport.receive(receive_size)
            came = now()
            # If the time ran out while these bytes were handed over, the next wait in this
            # scope would be cancelled, and their reply with it.
            late = came >= connection.progress + idle_timeout or came >= connection.expires
            ending = connection.leaving or connection.quiet is not None
            if chunk is None or late or ending or connection.interception is not None:
                left = False, chunk, []
                break
            connection.chunks += 1
            connection.bytes_in += len(chunk)
            connection.progress = came
            answer = reply(bytes(chunk))
            del chunk  # as in `converse`
            connection.send_pending = True
            if 0 < len(answer) <= PIECE:
                await transport.send(answer)
                connection.bytes_out += len(answer)
                connection.progress = now()
            else:
                pieces = split([answer])
                for piece in pieces:
                    await transport.send(piece)
                    connection.sent(len(piece))
                    if nursery.cancel_scope.cancel_called:
                        left = True, None, [bytes(each) for each in pieces]  # as above
            connection.send_pending = False
        nursery.cancel_scope.cancel(reason="the exchange is over")
    connection.exchange = None
    return left


async def _keep_time(connection: Connection, scope: trio.CancelScope) -> None:
    """Cancel `scope` when the connection has had its time."""
    while not connection.time_is_up() and connection.interception is None:
        with connection.watch():
            await trio.sleep_forever()
    scope.cancel(reason="the time is up")


def is_late(transport: Transport, connection: Connection) -> bool:
    """Return whether a wait that ran out is to be repeated: input waits, or has just come."""
    fed_at = transport.fed_at
    if fed_at is not None and fed_at > connection.progress:
        connection.progress = fed_at
        if not connection.time_is_up():
            return True
    return has_input(transport) and connection.may_look()


def has_input(transport: Transport) -> bool:
    """Return whether the kernel has something for us: bytes, an end or an error."""
    if transport.socket is None or transport.socket.fileno() < 0:
        return False
    if not hasattr(select, "poll"):  # Windows, where select has no limit on numbers
        return bool(select.select([transport.socket], [], [], 0)[0])
    poll = select.poll()
    poll.register(transport.socket.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _hold_back(replies: list[bytes], since: float, quiet: float | None) -> bool:
    """Return whether replies, the first of which was ready at `since`, wait for a pause."""
    if quiet is None:
        return False
    return sum(map(len, replies)) < _HELD_BACK and trio.current_time() - since < quiet


async def _send(
    transport: Transport,
    pieces: Iterator[bytes | memoryview],
    connection: Connection,
    *,
    look: bool = False,
) -> bool:
    """Send each piece and count it; return whether there was time for all of them."""
    if connection.leaving and transport.socket is not None:
        join_with_end(transport.socket)
    for piece in pieces:
        connection.send_pending = True
        with connection.watch(look=look) as scope:
            await transport.send(piece)
        if scope.cancelled_caught:
            return False
        connection.sent(len(piece))
    connection.send_pending = False
    return True


async def _send_last(
    transport: Transport, pieces: Iterator[bytes | memoryview], connection: Connection
) -> bool:
    """Do what `_send` does right before the end, which a drain lets come together with it."""
    if connection.draining and transport.socket is not None:
        join_with_end(transport.socket)
    return await _send(transport, pieces, connection)


def _messages(replies: list[bytes]) -> Iterator[bytes | memoryview]:
    """Yield each message that is to be sent; an empty one would be an end."""
    return filter(None, replies)


def _stretches(replies: list[bytes]) -> Iterator[bytes | memoryview]:
    """Yield replies in pieces of a limited size."""
    rest = memoryview(b"".join(replies))
    while rest:
        yield rest[:PIECE]
        rest = rest[PIECE:]


async def converse_pumped(
    transport: Transport,
    reply: Reply,
    connection: Connection,
    receive_size: int,
    close_timeout: float,
) -> Outcome:
    """Do what `converse` does, by the pump of the run, over a `pumpable` transport.

    The task waits meanwhile. When this returns or is cancelled, the pump has stopped
    serving the socket. Where the pump cannot serve it, `converse` does.

    Raises:
        trio.BrokenResourceError: the peer broke the connection.
        trio.ClosedResourceError: our own program closed the transport.
        BaseException: whatever `reply` raised.
    """
    try:
        pump = Pump.of_this_run()
        connection.pumped = pumped = _pumped(transport, reply, connection, receive_size)
        if connection.leaving:
            connection.leave(close_timeout)
        pump.add(pumped)
    except (OSError, ValueError):  # no room for it in the pump, or the socket was closed
        connection.pumped = None
        return await converse(transport, reply, connection, receive_size)
    try:
        await _until_over(pump, pumped, connection)
    finally:
        connection.pumped = None
        pump.remove(pumped)
    if connection.closing or connection.aborted:
        return connection.timeout_outcome()
    if pumped.error is not None:
        raise pumped.error
    if pumped.over:
        return Outcome.EOF
    if pumped.sock is None or pumped.sock.fileno() < 0:  # in a way that the pump cannot notice
        raise trio.ClosedResourceError("the stream was closed")
    if not connection.draining and connection.interception is None:
        return connection.timeout_outcome()
    # Ending between two messages takes time, for which a task waits and not the pump.
    unsent = b"" if pumped.unsent is None else bytes(pumped.unsent)
    if unsent and transport.records is not None:
        if not await _send(transport, transport.records.put_back(unsent, PIECE), connection):
            return connection.timeout_outcome()
        connection.sent(pumped.uncounted)
        unsent = b""
    return await converse(transport, reply, connection, receive_size, pending=unsent)


def _pumped(
    transport: Transport, reply: Reply, connection: Connection, receive_size: int
) -> PumpedSocket:
    assert transport.socket is not None  # noqa: S101  -- a pumpable transport has one
    packets = transport.keeps_messages
    ours = reply is raw or reply is stamped  # to which no context makes a difference
    return PumpedSocket(
        transport.socket.fileno(),
        None if reply is raw and not packets else reply,
        connection,
        LARGEST_PACKET + 1 if packets else receive_size,
        packets,
        sock=transport.socket,
        records=transport.records,
        run=None if ours else trio.lowlevel.current_task().context.run,
    )


async def _until_over(pump: Pump, pumped: PumpedSocket, connection: Connection) -> None:
    """Wait until the conversation is over, or its time is up, or a drain wants it to end."""
    while not pumped.over and not connection.draining and connection.interception is None:
        # Bytes that move do not move the deadline: it is looked at again when it is over.
        with connection.watch(resumable=True):
            await pumped.wait()
        if connection.time_is_up() and connection.may_look():
            pump.look(pumped)
        if connection.time_is_up():
            return


async def close_gracefully(
    transport: Transport, connection: Connection, close_timeout: float
) -> None:
    """Half-close, then discard what still arrives, for `close_timeout` seconds at the most.

    Closing a socket that holds unread input sends a reset, which can destroy the reply that
    was just sent (RFC 1122, 4.2.2.13); so the input is read first. Leaves the transport to be
    closed by its owner; cancellation leaves it in no other state.
    """
    # A peer that has finished sends nothing more, so closing is enough; but over TLS it still
    # waits for our close_notify, unless the pump has sent it.
    said = transport.records.eof_sent if transport.records else not transport.secure
    finished = connection.outcome is Outcome.EOF and said
    can_end = transport.half_closeable or (transport.secure and transport.handshake_done)
    over = connection.closing or connection.aborted or finished
    if over or not can_end or connection.outcome not in _GRACEFUL:
        return
    await end_and_discard(transport, connection, close_timeout)


async def end_and_discard(
    transport: Transport, connection: Connection, close_timeout: float
) -> None:
    """Do the graceful close, whatever the outcome is."""
    connection.begin_closing(close_timeout)
    for look in (False, True):
        with connection.watch(look=look) as scope, _GONE:
            await transport.send_eof()
            while await transport.receive() is not None:
                pass
        if not scope.cancelled_caught or connection.aborted or not has_input(transport):
            return


async def close_now(transport: Transport) -> None:
    """Close without waiting for anything.

    Raises:
        Exception: whatever an embedder's stream raises.
    """
    if transport.pumpable and transport.socket is not None:
        # What aclose does, less a turn of the run for every connection.
        transport.socket.close()
    else:
        await trio.aclose_forcefully(transport)
