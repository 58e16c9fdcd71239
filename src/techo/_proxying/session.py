"""The session: one connection through a proxy, until both sides have ended."""

from __future__ import annotations

from typing import Final

import attrs
import trio

from techo._faults.plan import Plan
from techo._faults.transport import FaultEndedError, FaultyTransport, accept_slowly
from techo._faults.values import Refuse
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


async def begin(plan: Plan, connection: Connection) -> Outcome | None:
    """Do what is planned to come first; return the outcome if that is the end."""
    if (refuse := plan.first(Refuse)) is not None:
        plan.note(refuse)
        return Outcome.REFUSED
    with connection.watch(resumable=True) as scope:
        await accept_slowly(plan)
    return connection.timeout_outcome() if scope.cancelled_caught else None


class _TimeIsUpError(Exception):
    """The connection has had its time before anything was passed on."""


@attrs.define(eq=False)
class Session:
    """One connection through a proxy."""

    target: Target
    limits: Limits
    plan: Plan
    upstream_plan: Plan
    client: Transport
    connection: Connection
    receive_size: int
    _to_client: Way = attrs.field(init=False)
    _to_target: Way = attrs.field(init=False)
    _reached: Transport | None = None
    """The connection to the target, once there is one."""
    _faulty: list[FaultyTransport] = attrs.field(factory=list)
    """Those sides that misbehave."""

    def __attrs_post_init__(self) -> None:
        self._to_client, self._to_target = Way.both(self.connection)

    async def run(self) -> Outcome:
        """Connect to the target, pass on what comes, and end both sides.

        The client's transport stays open. Cancellation closes the target's at once.

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
        except trio.BrokenResourceError:
            await self.client.reset()  # noqa: ASYNC120  -- waits for nothing
            if self._reached is not None:
                await self._reached.reset()  # noqa: ASYNC120  -- likewise
            raise
        finally:
            if self._reached is not None:
                await trio.aclose_forcefully(self._reached)  # noqa: ASYNC102  -- waits for nothing
        return outcome

    async def _pass(self) -> Outcome:
        if self.plan.chosen or self.upstream_plan.chosen:
            return await self._misbehave()
        client, target = self.client, await self._connect()
        if pump.AVAILABLE and client.pumpable and target.pumpable:
            try:
                splicer = Splicer.of_this_run()
                pair = splicer.add(client, target, self.connection, self.receive_size)
            except (OSError, ValueError):  # there is no room for it, or one was closed
                pass
            else:
                return await self._splice(splicer, pair)
        return await self._relay(client, target)

    async def _splice(self, splicer: Splicer, pair: Pair) -> Outcome:
        """Wait while the splicer passes on what comes."""
        try:
            outcome = await until_over(self.connection, pair.over)
        finally:
            splicer.remove(pair)
        if pair.error is not None:
            raise pair.error
        return outcome

    async def _misbehave(self) -> Outcome:
        """Do the same with what is planned to go wrong."""
        client = FaultyTransport(self.client, self.plan, self._to_client)
        await self._begin(client)
        target = FaultyTransport(await self._connect(), self.upstream_plan, self._to_target)
        if (early := await begin(self.upstream_plan, self.connection)) is not None:
            return early
        await self._begin(target)
        client.source, target.source = target, client
        return await self._relay(client, target)

    async def _relay(self, client: Transport, target: Transport) -> Outcome:
        ways = self._to_client, self._to_target
        return await Relay(client, target, *ways, self.receive_size).run()

    async def _begin(self, faulty: FaultyTransport) -> None:
        """Let a side misbehave from its first moment."""
        self._faulty.append(faulty)
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
            for faulty in self._faulty:
                await faulty.finish()
        return Outcome.FAULTED

    async def _end_gracefully(self, target: Transport, *, flush: bool) -> None:
        """End both sides, unless one of them does not read what it should get first."""
        connection = self.connection
        if connection.send_pending:
            return
        if flush:
            with connection.watch() as scope:
                scope.deadline = min(scope.deadline, trio.current_time() + _FLUSH)
                for faulty in self._faulty:
                    await faulty.flush()
        await end_both(self.client, target, connection, self.limits.close_timeout)
