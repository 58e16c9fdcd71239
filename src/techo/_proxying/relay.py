"""The relay: passes bytes or messages both ways between two transports until both end."""

from __future__ import annotations

import contextlib
from typing import Final

import attrs
import trio

from techo._faults.transport import FaultEndedError, FaultyTransport
from techo._nursery import open_bare_nursery
from techo._server.connection import Connection, Outcome
from techo._server.conversation import PIECE
from techo._transport.transport import Transport

_GONE: Final = contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError)
"""What a graceful end meets if the other side has left already."""

_QUIET: Final = 0.25
"""Seconds without a byte after which no more answers are expected, as in a drain."""

_TURNS: Final = 3
"""Turns of the run in which all that has arrived is received."""


@attrs.define(eq=False)
class Way:
    """The record of one direction, which moves those of the client's connection."""

    connection: Connection
    to_client: bool
    over: bool = False
    """Whether its end was passed on."""
    hopeless: bool = False
    """Whether a fault lets nothing more through."""
    rest: bytes = b""
    """What was received before, and is to be sent first."""
    ended: bool = False
    """Whether nothing comes after that."""
    _pending: bool = False
    _opposite: Way | None = None

    @classmethod
    def both(cls, connection: Connection) -> tuple[Way, Way]:
        """Return the way to the client and the way to the target."""
        to_client, to_target = cls(connection, to_client=True), cls(connection, to_client=False)
        to_client._opposite, to_target._opposite = to_target, to_client
        return to_client, to_target

    @property
    def send_pending(self) -> bool:
        """Whether something is on its way out."""
        return self._pending

    @send_pending.setter
    def send_pending(self, pending: bool) -> None:
        self._pending = pending
        opposite = self._opposite
        self.connection.send_pending = pending or bool(opposite and opposite.send_pending)

    def received(self, size: int) -> None:
        """Count `size` bytes that came from the source."""
        now = trio.current_time()
        if self.to_client:
            self.connection.progress = now
        else:
            self.connection.received(size, now)

    def sent(self, size: int) -> None:
        """Count `size` bytes that the sink took."""
        self.hopeless = False
        if self.to_client:
            self.connection.sent(size)
        else:
            self.connection.progress = trio.current_time()

    def end_wait_when_draining(self) -> None:
        """Let a drain end the connection at once, because nothing comes of its wait."""
        self.hopeless = True
        self.connection.end_wait_when_draining()


@attrs.define(eq=False)
class Relay:
    """Both directions between a client and a target, each a task of its own."""

    client: FaultyTransport
    target: FaultyTransport
    to_client: Way
    to_target: Way
    receive_size: int
    _over: trio.Event = attrs.field(factory=trio.Event)
    _failure: Exception | None = None

    async def run(self) -> Outcome:
        """Pass on what comes until both ends have finished, or time is up.

        Leaves both transports open. Cancellation can lose what was received and not sent yet.

        Raises:
            FaultEndedError: a fault has ended it.
            trio.BrokenResourceError: one of the ends broke.
            trio.ClosedResourceError: our own program closed one of the transports.
        """
        async with open_bare_nursery() as nursery:
            for sink, way in ((self.target, self.to_target), (self.client, self.to_client)):
                nursery.start_soon(self._pass, sink, way)
                nursery.start_soon(sink.read_ahead, self.receive_size)
            outcome = await until_over(
                self.to_client.connection, self._over, self.to_client, self.to_target
            )
            nursery.cancel_scope.cancel(reason="the connection is over")
        if (fault := self.client.ended_by or self.target.ended_by) is not None:
            raise FaultEndedError(fault)
        if isinstance(self._failure, OSError):  # a message that does not fit
            raise trio.BrokenResourceError(str(self._failure)) from self._failure
        if self._failure is not None:
            raise self._failure
        return outcome

    async def _pass(self, sink: FaultyTransport, way: Way) -> None:
        """Pass on all that comes from the source of `sink`, then its end."""
        try:
            await self._pass_bytes(sink, way)
            if sink.half_closeable:
                await sink.send_eof()
            else:
                await self._let_answers_come()
        except Exception as error:  # noqa: BLE001  -- raised by `run`
            self._failure = self._failure or error
            self._over.set()
        way.over = True
        # Where no end can be passed on alone, it is that of the connection.
        if (self.to_client.over and self.to_target.over) or not sink.half_closeable:
            self._over.set()

    async def _let_answers_come(self) -> None:
        """Wait until nothing has moved for a moment, because what ends then ends both ways."""
        connection = self.to_client.connection
        while (  # noqa: ASYNC110  -- every byte would have to set an event
            connection.send_pending or trio.current_time() < connection.progress + _QUIET
        ):
            await trio.sleep(_QUIET)

    async def _pass_bytes(self, sink: FaultyTransport, way: Way) -> None:
        way.send_pending = bool(way.rest)
        while way.rest:
            await sink.send(way.rest[:PIECE])
            way.sent(len(way.rest[:PIECE]))
            way.rest = way.rest[PIECE:]
        way.send_pending = False
        if way.ended:
            return
        while (data := await sink.receive(self.receive_size)) is not None:
            way.received(len(data))
            for piece in sink.pieces([bytes(data)]):
                way.send_pending = True
                await sink.send(piece)
                way.sent(len(piece))
            way.send_pending = False
        await sink.finish()


async def until_over(connection: Connection, over: trio.Event, *ways: Way) -> Outcome:
    """Wait until it is over or the connection has had its time; return the outcome."""
    while True:
        with connection.watch(resumable=True):
            await over.wait()
        if over.is_set():
            return Outcome.EOF
        if connection.draining and any(way.hopeless for way in ways):
            return connection.timeout_outcome()
        if connection.time_is_up():
            # If nobody ran us for a while, what came meanwhile is passed on first.
            for _ in range(_TURNS):
                await trio.lowlevel.checkpoint()
            if connection.time_is_up():
                return connection.timeout_outcome()


async def end_both(
    client: Transport, target: Transport, connection: Connection, close_timeout: float
) -> None:
    """Half-close both, and discard what still comes for `close_timeout` s at the most."""
    connection.begin_closing(close_timeout)
    with connection.watch():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_end_and_discard, client)
            nursery.start_soon(_end_and_discard, target)


async def _end_and_discard(transport: Transport) -> None:
    # Closing a socket that holds unread input would reset it, which can destroy what was sent.
    if not (transport.half_closeable or transport.secure):
        return
    with _GONE:
        await transport.send_eof()
        while await transport.receive() is not None:
            pass
