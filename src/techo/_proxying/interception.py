"""The interceptor of a proxy: each connection of its service is passed on to the target."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, NoReturn

import attrs
import trio

from techo._faults.plan import Planner, check_applicable
from techo._faults.values import (
    ExpiredCertificate,
    Fault,
    NeverHandshake,
    NoCloseNotify,
    WrongName,
)
from techo._kernel.datagram_sockets import DatagramSocket
from techo._printable import printable
from techo._proxying.datagrams import Flows
from techo._proxying.kinds import check_passable
from techo._proxying.opening import begin
from techo._proxying.session import Plans, Session
from techo._proxying.target import Target
from techo._server.connection import Connection, Outcome
from techo._server.limits import Limits
from techo._transport.transport import Transport
from techo.endpoint import Kind
from techo.reply import Reply

_OF_TLS: Final = (NeverHandshake, ExpiredCertificate, WrongName, NoCloseNotify)


@attrs.define(eq=False)
class ProxyInterceptor:
    """The `Interceptor` of the service that a proxy is."""

    target: Target
    limits: Limits
    planner: Planner
    """Plans what the client sees."""
    upstream_planner: Planner
    """Plans what the target sees."""
    flows: Flows | None = None
    """What passes on datagrams, if the target takes some."""

    def check(self, transport: str, place: object, *, secure: bool) -> None:
        """Refuse a place to listen at that cannot be passed on to the target.

        Raises:
            ValueError: as said, or one of the faults cannot happen there; the text says why.
        """
        kind = Kind.TLS if secure else transport
        passed = self.target.transport
        check_passable(kind, place, self.target.place, passed)
        check_faults(self.planner.faults, transport, place)
        check_faults(self.upstream_planner.faults, passed, self.target)
        self.planner.begin()
        self.upstream_planner.begin()

    def next(self) -> ProxiedConnection:
        """Plan the next connection."""
        plan, upstream_plan = self.planner.next(), self.upstream_planner.next()
        return ProxiedConnection(self.target, self.limits, Plans(plan, upstream_plan))

    def set_faults(
        self,
        faults: Sequence[Fault],
        places: Iterable[tuple[str, object, bool]],
        running: Iterable[Connection],
        *,
        upstream: bool,
    ) -> None:
        """Replace the faults of one direction, at places that were checked.

        Connections that are `running` are planned anew, the oldest first.

        Raises:
            ValueError: one cannot happen there; the text names it, and the old ones stay.
        """
        for transport, place, _ in places:
            if upstream:
                check_faults(faults, self.target.transport, self.target)
            else:
                check_faults(faults, transport, place)
        planner = self.upstream_planner if upstream else self.planner
        planner.set_faults(faults)
        for connection in sorted(running, key=lambda each: each.id):
            if isinstance(connection.interception, ProxiedConnection):
                connection.interception.plan_anew(planner, upstream=upstream)

    async def serve_datagrams(
        self, place: DatagramSocket, serve: Callable[[DatagramSocket], Awaitable[NoReturn]]
    ) -> NoReturn:
        """Have a socket served, until cancelled, with what passes on each datagram."""
        assert self.flows is not None  # noqa: S101  -- `check` lets in no other target
        await self.flows.serve(place, serve)


def check_faults(faults: Iterable[Fault], transport: str, place: object) -> None:
    """Refuse faults that a proxy cannot bring about at a place.

    Raises:
        ValueError: one cannot; the text names it.
    """
    for fault in faults:
        if isinstance(fault, _OF_TLS):
            raise ValueError(  # noqa: TRY004  -- as every value that is refused
                f"fault {printable(str(fault))} is one of TLS, which a proxy passes through "
                "untouched: serve a tls endpoint with it instead"
            )
    check_applicable(faults, transport, place)


@attrs.define(eq=False)
class ProxiedConnection:
    """The `Interception` of one connection."""

    target: Target
    limits: Limits
    plans: Plans
    _opening: trio.CancelScope | None = None
    """What ends the wait before everything else."""
    _session: Session | None = None

    def plan_anew(self, planner: Planner, *, upstream: bool) -> None:
        """Let what is planned now happen from now on, in one direction."""
        plans, session = self.plans, self._session
        if session is not None:
            session.note_passed()
        old = plans.to_target if upstream else plans.to_client
        sent = old.sent_before + old.offset
        plan = planner.again(old.number, begun=old.begun, sent=sent)
        if upstream:
            plans.to_target = plan
        else:
            plans.to_client = plan
        if session is not None:
            session.plan_anew(upstream=upstream)
        elif self._opening is not None and not upstream:
            self._opening.cancel(reason="planned anew")

    def context(self, tls: ssl.SSLContext) -> ssl.SSLContext:
        """Return the same: no TLS is the proxy's own."""
        return tls

    async def begin(self, transport: Transport, connection: Connection) -> Outcome | None:
        """Do what is planned for the client before anything else."""
        del transport
        self._opening = trio.CancelScope()
        return await begin(self.plans.to_client, connection, self._opening)

    async def converse(
        self, transport: Transport, reply: Reply, connection: Connection, receive_size: int
    ) -> Outcome:
        """Connect to the target and pass bytes both ways, with the faults that are planned.

        What breaks on one side is reset on the other.

        Raises:
            Exception: as `conversation.converse`.
        """
        del reply
        self._session = Session(
            self.target, self.limits, self.plans, transport, connection, receive_size
        )
        return await self._session.run()
