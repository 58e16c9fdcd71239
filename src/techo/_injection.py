"""Fault injection: what is planned to go wrong happens to the connections of a service."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, NoReturn

import attrs
import trio

from techo._faults.certificates import check_certificates, shown_context
from techo._faults.datagrams import FaultySender, LostOnPurposeError
from techo._faults.plan import Plan, Planner, check_applicable
from techo._faults.transport import FaultEndedError, FaultyTransport, accept_slowly
from techo._faults.values import Fault, NeverHandshake, Refuse
from techo._kernel.datagram_sockets import DatagramSocket, Sender
from techo._nursery import open_bare_nursery
from techo._server.connection import Connection, Outcome
from techo._server.conversation import converse
from techo._server.interceptor import InterceptedError
from techo._transport.transport import Transport
from techo.reply import Reply

_FLUSH: Final = 1.0
"""Seconds for what a fault held back, when nothing comes after it."""


@attrs.frozen(eq=False)
class FaultInjector:
    """The `Interceptor` of a service with faults."""

    planner: Planner

    def check(self, transport: str, place: object, *, secure: bool) -> None:
        """Refuse a place to listen at where one of the faults cannot happen.

        Raises:
            ValueError: one cannot; the text names it.
        """
        self.planner.begin()
        _check(self.planner.faults, transport, place, secure=secure)

    def set_faults(
        self,
        faults: Sequence[Fault],
        places: Iterable[tuple[str, object, bool]],
        running: Iterable[Connection],
    ) -> None:
        """Replace the faults of what is accepted from now on, at places that were checked.

        Connections that are `running` are planned anew, the oldest first.

        Raises:
            ValueError: one cannot happen at one of them; the text names it, and the old ones
                stay.
        """
        for transport, place, secure in places:
            _check(faults, transport, place, secure=secure)
        self.planner.set_faults(faults)
        for connection in sorted(running, key=lambda each: each.id):
            self._plan_anew(connection)

    def _plan_anew(self, connection: Connection) -> None:
        found, opened = connection.interception, connection.opened
        if isinstance(found, FaultyConversation):
            number, sent = found.plan.number, connection.bytes_out
            found.plan_anew(self.planner.again(number, begun=found.plan.begun, sent=sent))
        elif (
            plan := self.planner.again(connection.id, begun=opened, sent=connection.bytes_out)
        ).chosen:
            connection.intercept(FaultyConversation(plan))

    def next(self) -> FaultyConversation | None:
        """Plan the next connection; return None if nothing goes wrong with it."""
        plan = self.planner.next()
        return FaultyConversation(plan) if plan.chosen else None

    async def serve_datagrams(
        self, place: DatagramSocket, serve: Callable[[DatagramSocket], Awaitable[NoReturn]]
    ) -> NoReturn:
        """Have a socket served, until cancelled, with a sender that loses and delays."""
        faulty = FaultySender(self.planner, place.later)

        def send(data: memoryview | bytes, peer: Sender) -> int:
            if not self.planner.faults:  # any more
                return place.send(data, peer)
            try:
                return faulty.send(data, peer)
            except LostOnPurposeError as error:
                raise InterceptedError(str(error)) from None

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(faulty.deliver)
                await serve(attrs.evolve(place, send=send))
        finally:
            faulty.flush()
        raise AssertionError("the loop ended without having been cancelled")


def _check(faults: Sequence[Fault], transport: str, place: object, *, secure: bool) -> None:
    check_applicable(faults, transport, place)
    check_certificates(faults, place, ours=not secure)


@attrs.define(eq=False)
class FaultyConversation:
    """The `Interception` of one connection."""

    plan: Plan
    _beginning: trio.CancelScope | None = None
    """What ends the wait before everything else."""
    _faulty: FaultyTransport | None = None
    """What misbehaves, once it does."""

    def plan_anew(self, plan: Plan) -> None:
        """Let another plan happen from now on."""
        self.plan = plan
        if self._beginning is not None:
            self._beginning.cancel(reason="planned anew")
        if self._faulty is not None:
            self._faulty.plan_anew(plan)

    def context(self, tls: ssl.SSLContext) -> ssl.SSLContext:
        """Return what is shown to a TLS client: a bad certificate, if one is planned."""
        return shown_context(tls, self.plan)

    async def begin(self, transport: Transport, connection: Connection) -> Outcome | None:
        """Do what is planned before anything else; return the outcome if that is the end."""
        plan = self.plan
        if (refuse := plan.first(Refuse)) is not None:
            plan.note(refuse)
            return Outcome.REFUSED
        self._beginning = trio.CancelScope()
        with connection.watch(resumable=True) as scope, self._beginning:
            await accept_slowly(plan)
            never = plan.first(NeverHandshake)
            if never is not None and not transport.handshake_done:
                plan.note(never)
                await trio.sleep_forever()
        return connection.timeout_outcome() if scope.cancelled_caught else None

    async def converse(
        self, transport: Transport, reply: Reply, connection: Connection, receive_size: int
    ) -> Outcome:
        """Do what `conversation.converse` does, with the faults that are planned.

        The limits stay in force: what never ends by itself is ended by them.

        Raises:
            Exception: as that.
        """
        self._faulty = faulty = FaultyTransport(transport, self.plan, connection)
        try:
            with connection.watch(resumable=True) as scope:
                await faulty.begin()
            if scope.cancelled_caught:
                return connection.timeout_outcome()
            async with open_bare_nursery() as nursery:
                nursery.start_soon(faulty.read_ahead, receive_size)
                outcome = await converse(
                    faulty, reply, connection, receive_size, pieces=faulty.pieces
                )
                nursery.cancel_scope.cancel(reason="the conversation is over")
            if not connection.send_pending:
                with connection.watch() as scope:
                    scope.deadline = min(scope.deadline, trio.current_time() + _FLUSH)
                    await faulty.flush()
        except FaultEndedError:
            connection.send_pending = False
            outcome = Outcome.FAULTED
        with connection.watch():
            await faulty.finish()
        return outcome
