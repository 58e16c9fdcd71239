"""The pumped conversation: the pump receives, replies and sends while the task is parked."""

from __future__ import annotations

import trio

from techo._pump.pump import Pump, PumpedSocket
from techo._server.connection import Connection, Outcome
from techo._server.conversation import converse
from techo._transport.messages import LARGEST_PACKET
from techo._transport.transport import Transport
from techo.reply import Reply, raw, stamped


async def converse_pumped(
    transport: Transport, reply: Reply, connection: Connection, receive_size: int
) -> Outcome:
    """Do what `converse` does, by the pump of the run, over a `direct` transport.

    The task is parked meanwhile. When this returns or is cancelled, the pump has stopped
    serving the socket. Where the pump cannot serve it, `converse` does.

    Raises:
        trio.BrokenResourceError: the peer broke the connection.
        trio.ClosedResourceError: our own program closed the transport.
        BaseException: whatever `reply` raised.
    """
    try:
        pump = Pump.of_this_run()
        pumped = _pumped(pump, transport, reply, connection, receive_size)
        pump.add(pumped)
    except (OSError, ValueError):  # no room for it in the pump, or the socket was closed
        return await converse(transport, reply, connection, receive_size)
    connection.pumped = pumped
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
    if not connection.draining:
        return connection.timeout_outcome()
    # Ending between two messages takes time, for which a task waits and not the pump.
    unsent = b"" if pumped.unsent is None else bytes(pumped.unsent)
    return await converse(transport, reply, connection, receive_size, pending=unsent)


def _pumped(
    pump: Pump, transport: Transport, reply: Reply, connection: Connection, receive_size: int
) -> PumpedSocket:
    assert transport.socket is not None  # noqa: S101  -- a direct transport has one
    packets = transport.keeps_messages
    ours = reply is raw or reply is stamped  # to which no context makes a difference
    return PumpedSocket(
        transport.socket.fileno(),
        None if reply is raw and not packets else reply,
        connection,
        receive_size,
        pump.buffers(LARGEST_PACKET + 1 if packets else receive_size, packets=packets),
        packets,
        sock=transport.socket,
        run=None if ours else trio.lowlevel.current_task().context.run,
    )


async def _until_over(pump: Pump, pumped: PumpedSocket, connection: Connection) -> None:
    """Wait until the conversation is over, or its time is up, or a drain wants it to end."""
    while not pumped.over and not connection.draining:
        # Bytes that move do not move the deadline: it is looked at again when it is over.
        with connection.watch(resumable=True):
            await pumped.wait()
        if connection.time_is_up() and connection.may_look():
            pump.look(pumped)
        if connection.time_is_up():
            return
