"""The session: one connection through a proxy, until both sides have ended."""

from __future__ import annotations

from typing import Final

import attrs
import trio

from techo._faults.plan import Plan
from techo._faults.transport import FaultEndedError, FaultyTransport
from techo._proxying.opening import begin
from techo._proxying.relay import Relay, Way, end_both, until_over
from techo._proxying.splicer import Pair, Splicer
from techo._proxying.target import Target, UnreachableError
from techo._pump import pump
from techo._server.connection import Connection, Outcome
from techo._server.limits import Limits
from techo._transport.transport import Transport

_FLUSH: Final = 1.0
"""Seconds for what a fault held back, when nothing comes after it."""

_GRACEFUL: Final = {Outcome.IDLE, Outcome.EXPIRED, Outcome.DRAINED, Outcome.FAULTED}
"""Outcomes after which both sides may still be listening, so that they get an end."""


class _TimeIsUpError(Exception):
    """The connection has had its time before anything was passed on."""


@attrs.define
class Plans:
    """What is planned for a connection, in both directions."""

    to_client: Plan
    to_target: Plan

    def go_wrong(self) -> bool:
        """Whether something is to go wrong."""
        return bool(self.to_client.chosen or self.to_target.chosen)


@attrs.define(eq=False)
class Session:
    """One connection through a proxy, once its client has been let in."""

    target: Target
    limits: Limits
    plans: Plans
    client: Transport
    connection: Connection
    receive_size: int
    _to_client: Way = attrs.field(init=False)
    _to_target: Way = attrs.field(init=False)
    _reached: Transport | None = None
    """The connection to the target, once there is one."""
    _sides: dict[Way, FaultyTransport] = attrs.field(factory=dict)
    """What sends to each side as is planned for it."""
    _pair: Pair | None = None
    """What the splicer has, while it does."""

    def __attrs_post_init__(self) -> None:
        self._to_client, self._to_target = Way.both(self.connection)

    def note_passed(self) -> None:
        """Count in the plans what the splicer has passed on, which it does not do."""
        if self._pair is not None:
            to_client, to_target = self.plans.to_client, self.plans.to_target
            sent = self.connection.bytes_out + self._pair.client.waiting
            to_client.offset = sent - to_client.sent_before
            to_target.offset = self.connection.bytes_in - to_target.sent_before

    def plan_anew(self, *, upstream: bool) -> None:
        """Let another plan, which is among the plans already, happen from now on."""
        way = self._to_target if upstream else self._to_client
        plan = self.plans.to_target if upstream else self.plans.to_client
        if way in self._sides:
            self._sides[way].plan_anew(plan)
        if plan.chosen and self._pair is not None:
            Splicer.of_this_run().remove(self._pair)
            self._pair.over.set()

    async def run(self) -> Outcome:
        """Connect to the target, pass on what comes, and end both sides.

        The client's transport stays open. Cancellation closes the target's at once. If a limit
        or cancellation ends it while something is on its way, both sides are reset, or it would
        look to one of them like all that the other has sent. Where faults are planned it is
        closed as an echo is.

        Raises:
            trio.BrokenResourceError: one side broke; so is the other now.
            trio.ClosedResourceError: our own program closed one of the transports.
        """
        connection = self.connection
        try:
            try:
                outcome = await self._pass()
            except FaultEndedError:
                outcome = await self._end_by_fault()
            except _TimeIsUpError:
                outcome = connection.timeout_outcome()
            except UnreachableError as error:
                connection.reason = f"target {self.target} cannot be reached: {error}"
                await self.client.reset()
                return Outcome.UNREACHABLE
            if outcome in _GRACEFUL and self._reached is not None:
                faulted = outcome is Outcome.FAULTED
                await self._end_gracefully(self._reached, flush=not faulted)
            elif outcome is Outcome.EOF and self._reached is not None:
                await self._close(self._reached)
        except trio.BrokenResourceError:
            await self._reset_both()  # noqa: ASYNC120  -- waits for nothing
            raise
        finally:
            if connection.send_pending and not self.plans.go_wrong():
                await self._reset_both()  # noqa: ASYNC102  -- waits for nothing
            elif self._reached is not None:
                await trio.aclose_forcefully(self._reached)  # noqa: ASYNC102  -- waits for nothing
        return outcome

    async def _reset_both(self) -> None:
        try:
            await self.client.reset()
        finally:  # also if that was cancelled
            if self._reached is not None:
                await self._reached.reset()  # noqa: ASYNC102  -- waits for nothing

    async def _pass(self) -> Outcome:
        """Pass on what comes, by the splicer if nothing is to go wrong and it can."""
        if self.plans.go_wrong():
            return await self._pass_by_tasks(None)
        reached = await self._connect()
        if not self.plans.go_wrong() and self._hand_to_splicer(reached):
            outcome = await self._until_over()
            if outcome is not None:
                return outcome
        return await self._pass_by_tasks(reached)

    async def _pass_by_tasks(self, reached: Transport | None) -> Outcome:
        """Pass on what comes as is planned, to a target that may have been `reached` before."""
        plans = self.plans
        client = self._side(self.client, plans.to_client, self._to_client)
        if reached is None:
            await self._begin(client)
            reached = await self._connect()
            early = await begin(plans.to_target, self.connection)
            if early is not None:
                return early
            target = self._side(reached, plans.to_target, self._to_target)
            await self._begin(target)
        else:
            target = self._side(reached, plans.to_target, self._to_target)
            client.plan_anew(plans.to_client)  # to begin behind what has passed
            target.plan_anew(plans.to_target)
        client.source, target.source = target, client
        ways = self._to_client, self._to_target
        return await Relay(client, target, *ways, self.receive_size).run()

    def _side(self, transport: Transport, plan: Plan, way: Way) -> FaultyTransport:
        self._sides[way] = FaultyTransport(transport, plan, way)
        return self._sides[way]

    def _hand_to_splicer(self, target: Transport) -> bool:
        """Let the splicer pass on what comes; return whether it can."""
        if not (pump.AVAILABLE and self.client.pumpable and target.pumpable):
            return False
        try:
            splicer, connection = Splicer.of_this_run(), self.connection
            self._pair = splicer.add(self.client, target, connection, self.receive_size)
        except (OSError, ValueError):  # there is no room for it, or one was closed
            return False
        return True

    async def _until_over(self) -> Outcome | None:
        """Wait while the splicer passes on what comes; return None if there is a new plan."""
        pair = self._pair
        assert pair is not None  # noqa: S101  -- see `_hand_to_splicer`
        try:
            outcome = await until_over(self.connection, pair.over)
        finally:
            Splicer.of_this_run().remove(pair)
            self._pair = None
        if pair.error is not None:
            raise pair.error
        if pair.finished or outcome is not Outcome.EOF:
            return outcome
        for way, end in ((self._to_client, pair.client), (self._to_target, pair.target)):
            way.rest, way.ended = bytes(end.unsent or b""), end.other.ended
        return None

    async def _begin(self, faulty: FaultyTransport) -> None:
        """Let a side misbehave from its first moment."""
        with self.connection.watch(resumable=True) as scope:
            await faulty.begin()
        if scope.cancelled_caught:
            raise _TimeIsUpError

    async def _connect(self) -> Transport:
        """Connect to the target.

        Raises:
            UnreachableError: it cannot be reached, or does not answer.
        """
        connection = self.connection
        timeout, most = connection.idle_timeout, self.limits.handshake_timeout
        connection.begin_conversation(most)
        with connection.watch() as scope:
            self._reached = await self.target.connect()
        if self._reached is None:
            if scope.cancelled_caught and connection.timeout_outcome() is Outcome.IDLE:
                raise UnreachableError(f"no answer for {most:g} s")
            raise _TimeIsUpError
        connection.begin_conversation(timeout)
        return self._reached

    async def _end_by_fault(self) -> Outcome:
        self._to_client.send_pending = self._to_target.send_pending = False
        with self.connection.watch():
            for faulty in self._sides.values():
                await faulty.finish()
        return Outcome.FAULTED

    async def _close(self, target: Transport) -> None:
        """Close a target that was not sent an end yet, because nothing comes after one."""
        if not target.half_closeable:
            self.connection.begin_closing(self.limits.close_timeout)
            with self.connection.watch():
                await target.aclose()

    async def _end_gracefully(self, target: Transport, *, flush: bool) -> None:
        """End both sides, unless one of them does not read what it should get first."""
        connection = self.connection
        if connection.send_pending:
            return
        if flush:
            with connection.watch() as scope:
                scope.deadline = min(scope.deadline, trio.current_time() + _FLUSH)
                for faulty in self._sides.values():
                    await faulty.flush()
        await end_both(self.client, target, connection, self.limits.close_timeout)
