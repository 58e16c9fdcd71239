"""The interceptor of a proxy: each connection of its service is passed on to the target."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, NoReturn

import attrs

from techo._faults.plan import Plan, Planner, check_applicable
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
from techo._proxying.session import Session, begin
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
        return ProxiedConnection(self.target, self.limits, plan, upstream_plan)

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


@attrs.frozen(eq=False)
class ProxiedConnection:
    """The `Interception` of one connection."""

    target: Target
    limits: Limits
    plan: Plan
    upstream_plan: Plan

    def context(self, tls: ssl.SSLContext) -> ssl.SSLContext:
        """Return the same: no TLS is the proxy's own."""
        return tls

    async def begin(self, transport: Transport, connection: Connection) -> Outcome | None:
        """Do what is planned for the client before anything else."""
        del transport
        return await begin(self.plan, connection)

    async def converse(
        self, transport: Transport, reply: Reply, connection: Connection, receive_size: int
    ) -> Outcome:
        """Connect to the target and pass bytes both ways, with the faults that are planned.

        What breaks on one side is reset on the other.

        Raises:
            Exception: as `conversation.converse`.
        """
        del reply
        session = Session(
            *(self.target, self.limits, self.plan, self.upstream_plan),
            *(transport, connection, receive_size),
        )
        return await session.run()
