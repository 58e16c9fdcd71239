"""Parked conversations: how a connection's task waits while the pump talks for it."""

from __future__ import annotations

import trio

from techo._packets import LARGEST_PACKET, PacketStream
from techo._pump.pump import Pump, PumpedSocket
from techo._server import conversation
from techo._server.connection import Connection, Outcome
from techo.reply import Reply, raw


async def converse(
    stream: trio.SocketStream | PacketStream,
    reply: Reply,
    connection: Connection,
    receive_size: int,
) -> Outcome:
    """Do what `conversation.converse` does, for a socket, by way of the run's pump.

    When this returns or is cancelled, the pump has let go of the socket.

    Raises:
        trio.BrokenResourceError: the peer broke the connection.
        trio.ClosedResourceError: somebody in our own program closed the stream.
        BaseException: whatever `reply` raised.
    """
    pump = Pump.of_this_run()
    packets = isinstance(stream, PacketStream)
    pumped = PumpedSocket(
        stream.socket.fileno(),
        None if reply is raw and not packets else reply,
        connection,
        receive_size,
        pump.buffers(LARGEST_PACKET + 1 if packets else receive_size, packets=packets),
        packets,
    )
    pump.add(pumped)
    try:
        # Bytes that move do not move the deadline: it is looked at again when it is over.
        while True:
            with connection.watch(resumable=True):
                await pumped.wait()
            if pumped.over or connection.draining or connection.time_is_up():
                break
    finally:
        pump.remove(pumped)
    if pumped.error is not None:
        raise pumped.error
    if pumped.over:
        return Outcome.EOF
    if stream.socket.fileno() < 0:
        raise trio.ClosedResourceError("the stream was closed")
    if not connection.draining:
        return connection.verdict()
    # Letting go without tearing a message apart takes time, which is not the pump's to give.
    unsent = b"" if pumped.unsent is None else bytes(pumped.unsent)
    return await conversation.converse(stream, reply, connection, receive_size, unsent)
