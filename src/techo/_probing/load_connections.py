"""The connections of a load: kept open, opened again, and cut when a reply is overdue."""

from __future__ import annotations

import math
from typing import Final, NoReturn

import attrs
import trio

from techo._client.connecting import Line
from techo._client.datagram_socket import DatagramSocket
from techo._packets import PacketStream
from techo._probing.carrying import Carrier, carrier_for
from techo._probing.causes import FailureCause
from techo._probing.lane import Lane, Work
from techo._probing.opening import Opener, close_unless_fits

_LOOKS: Final = 100
"""How often replies are looked for that are overdue, at the most, within the time of one."""

_SILENCES: Final = 10
"""Times as long as one reply is waited for, messages may all have been lost by chance."""

_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 1.0
"""Seconds before connecting again after that failed; each pause is twice the one before."""


@attrs.define(eq=False)
class Connections:
    """Those of one load, or its sockets for datagrams."""

    count: int
    """How many there should be."""
    open: Opener
    work: Work
    patience: float
    """Seconds for connecting, and from sending to the reply."""
    carriers: dict[Lane, Carrier] = attrs.field(factory=dict)
    """Those there are."""
    tried: trio.Event = attrs.field(factory=trio.Event)
    """Set when each has tried once to connect, or there is no need to wait for that."""
    reached: bool = False
    """Whether there has been a connection."""
    refusal: ValueError | None = None
    """Why there can't be a load."""
    _waiting: int = attrs.field(
        default=attrs.Factory(lambda self: self.count, takes_self=True), init=False
    )
    """How many have not yet tried to connect."""
    _heard: float = 0.0
    """When a message came back last over a connection that is no more; 0 for never."""
    _failing_since: float = 0.0
    """When something failed for the first time since a message came back."""
    _messages: bool = False
    """Whether one may get lost, and the next come back over the same."""

    async def keep(self) -> NoReturn:
        """Have all of them until cancelled; that closes them and loses what is under way."""
        async with trio.open_nursery() as nursery:
            for _ in range(self.count):
                nursery.start_soon(self._keep_one)
            await self._give_up_overdue()

    def go_on(self) -> None:
        """Send what is due over all of them."""
        for carrier in tuple(self.carriers.values()):
            carrier.go_on()

    async def _keep_one(self) -> None:
        """Have a connection, one after the other."""
        pause = _FIRST_PAUSE
        again = False
        found = await self._connect()
        self._waiting -= 1
        if not self._waiting:
            self.tried.set()
        while True:
            if isinstance(found, FailureCause):
                cause, lane = found, None
            else:
                connection = not isinstance(found.line, DatagramSocket)
                self.work.tally.reconnects += again and connection and not self.work.warming_up
                again = True
                cause, lane = await self._carry(found), found.lane
            if (
                lane is None
                or lane.failed
                or cause is FailureCause.CORRUPT
                or self.work.overdue
            ):
                self._give_up_if_hopeless(cause)
            if lane is not None and lane.heard:
                pause = _FIRST_PAUSE
            else:
                # Nothing came of it, and nothing would of asking again at once, for ever.
                await trio.sleep(pause)
                # Whose answers are wrong should not be flooded, but each of them counts.
                answers = lane is not None and lane.failed and lane.traffic.chunks
                pause = pause if answers else min(2 * pause, _LONGEST_PAUSE)
            found = await self._connect()

    async def _connect(self) -> Carrier | FailureCause:
        """Connect, or count why that failed; in the warm-up too, or nobody would be told."""
        try:
            with trio.fail_after(self.patience):
                line, _ = await self.open()
        except trio.TooSlowError:
            cause = FailureCause.TIMEOUT_CONNECT
        except (OSError, trio.BrokenResourceError) as error:
            cause = self.work.tally.cause_of(error)
        else:
            if not self.reached:
                await self._end_unless_fits(line)
                self.reached = True
            self._messages = isinstance(line, DatagramSocket | PacketStream)
            try:
                return carrier_for(line, self.work)
            except OSError as error:  # the system has not what the pump needs
                cause = self.work.tally.cause_of(error)
                await trio.aclose_forcefully(line)
        self.work.tally.errors[cause] += 1
        return cause

    async def _end_unless_fits(self, line: Line) -> None:
        """End the run, of which there was nothing yet, if messages are too large for `line`."""
        try:
            await close_unless_fits(line, self.work.size)
        except ValueError as error:
            self.refusal = error
            self.tried.set()
            await trio.sleep_forever()

    def _give_up_if_hopeless(self, cause: FailureCause) -> None:
        """End the load if nothing has come back for long, and time alone won't end it.

        That is counted from the first failure, because nothing may have been due before.
        """
        now, schedule = self.work.clock(), self.work.schedule
        heard = max(self._heard, *(lane.heard for lane in self.carriers), 0.0)
        if heard > self._failing_since:
            self._failing_since = now
        if heard and schedule.trips is None:
            return
        silence = self.patience
        if self._messages and (heard or cause is FailureCause.TIMEOUT_REPLY):
            silence *= _SILENCES
        if now - max(self._failing_since, schedule.begin) > silence:
            if not self.work.tally.errors.total():
                # It was all in the warm-up, and yet it is what has been found out.
                self.work.tally.errors[cause] += 1
            self.work.stop_sending()

    async def _carry(self, carrier: Carrier) -> FailureCause:
        """Make trips over a connection until it breaks; say why it did."""
        self.carriers[carrier.lane] = carrier
        cause = FailureCause.TIMEOUT_REPLY
        try:
            if self.work.schedule.begin < math.inf:
                carrier.go_on()
            cause = await carrier.carry()
        finally:
            del self.carriers[carrier.lane]
            carrier.lane.broke(cause)
            self._heard = max(self._heard, carrier.lane.heard)
            await carrier.close()  # noqa: ASYNC102  -- shielded, and over in a second
        return cause

    async def _give_up_overdue(self) -> NoReturn:
        """Give up each reply that has not come, when its time is over."""
        while True:
            now = self.work.clock()
            for carrier in tuple(self.carriers.values()):
                lane, oldest = carrier.lane, carrier.lane.oldest
                overdue = oldest + self.patience <= now
                if not lane.messages:
                    if overdue:
                        carrier.cut()
                elif carrier.blocked_since + self.patience <= now:
                    carrier.cut()  # of what can't even send, another may make something
                elif overdue:
                    lane.give_up(max(oldest, now - self.patience))
                    self._give_up_if_hopeless(FailureCause.TIMEOUT_REPLY)
                    carrier.go_on()
                elif not lane.trips:
                    carrier.go_on()  # it could not send, and now it can
            oldest = min((each.lane.oldest for each in self.carriers.values()), default=now)
            soon = now + self.patience / _LOOKS
            await trio.sleep_until(max(soon, min(oldest, now) + self.patience))
