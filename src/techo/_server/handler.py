"""The handler: one connection from being accepted to its outcome, faults included."""

from __future__ import annotations

import contextlib
import ssl
from typing import Final

import attrs
import trio

from techo._embedded import transport_of
from techo._faults.certificates import bad_context
from techo._faults.plan import Plan, Planner
from techo._faults.transport import FaultEndedError, FaultyTransport
from techo._faults.values import (
    ExpiredCertificate,
    NeverHandshake,
    Refuse,
    SlowAccept,
    WrongName,
)
from techo._log import failure, shortage
from techo._nursery import open_bare_nursery
from techo._pump import pump
from techo._server import events
from techo._server.connection import Connection, Outcome, Peer
from techo._server.conversation import (
    close_gracefully,
    close_now,
    converse,
    converse_pumped,
    end_and_discard,
    has_input,
)
from techo._server.hook import ServiceHook
from techo._server.limits import Limits
from techo._server.registry import Registry
from techo._transport.tls import TlsTransport
from techo._transport.transport import Transport
from techo.reply import Reply

_FLUSH: Final = 1.0
"""Seconds for what a fault held back, when nothing comes after it."""


@attrs.define(eq=False)
class Handler:
    """What a service does with each of its connections."""

    reply: Reply
    limits: Limits
    tls: ssl.SSLContext | None
    registry: Registry
    planner: Planner | None
    """Plans what goes wrong, if anything is to."""
    hook: ServiceHook | None
    quiet: float | None = None
    """While draining: see `Connection.quiet`."""

    async def handle_tls(self, stream: trio.abc.Stream | Transport, endpoint: str) -> None:
        """Do the same for a connection of a tls endpoint, beginning before its handshake."""
        await self.handle(stream, endpoint, self.tls)

    async def handle(
        self,
        stream: trio.abc.Stream | Transport,
        endpoint: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Do what `EchoService.handle` does."""
        # Only a cancellation may leave by here: any other exception of a handler ends its
        # nursery, and so the whole server.
        try:
            plan = None if self.planner is None else self.planner.next()
            transport = transport_of(stream)
            peer = Peer.of(transport, otherwise=type(stream).__name__)
            early = tls is not None or not transport.handshake_done
            connection = self._record(peer, endpoint, early=early)
        except Exception as error:  # noqa: BLE001  -- no stream, or no memory
            if not shortage(error):
                failure("serving a %s failed", type(stream).__name__)
            with contextlib.suppress(Exception):
                await trio.aclose_forcefully(stream)
            return
        opened = self.registry.open(connection)
        try:
            if opened:
                await self._serve(transport, connection, tls, plan)
        except Exception as error:  # noqa: BLE001  -- as said above
            _note_failure("serving %s failed", connection, error)
        finally:
            try:
                await close_now(transport)  # noqa: ASYNC102  -- waits for nothing
            except Exception as error:  # noqa: BLE001  -- user code may raise anything
                _note_failure("closing %s failed", connection, error)
            finally:
                if opened:
                    self.registry.close(connection)
                self._report(connection)

    def _record(self, peer: Peer, endpoint: str, *, early: bool) -> Connection:
        """Return the record of a connection; `early` is one whose handshake is not done yet."""
        limits, now = self.limits, trio.current_time()
        early = early or self.hook is not None
        return Connection(
            peer=peer,
            endpoint=endpoint,
            opened=now,
            idle_timeout=limits.handshake_timeout if early else limits.idle_timeout,
            expires=now + limits.lifetime,
            quiet=self.quiet,
        )

    async def _serve(
        self,
        transport: Transport,
        connection: Connection,
        tls: ssl.SSLContext | None,
        plan: Plan | None,
    ) -> None:
        """Serve a connection until its outcome is known, then close it gracefully."""
        plan = plan if plan is not None and plan.chosen else None
        below, doing = transport, "the hook for"
        try:
            if (early := await self._admit(transport, connection)) is not None:
                connection.outcome = early
                return
            events.connected(connection)
            doing = "the reply to"
            if tls is not None:
                transport = TlsTransport(transport, _context(tls, plan), server_side=True)
            connection.outcome = await self._converse(transport, connection, plan)
        except trio.ClosedResourceError:
            connection.outcome = Outcome.ABORTED  # our own program closed it
        except Exception as error:  # noqa: BLE001  -- user code may raise anything
            if shortage(error):
                connection.outcome = Outcome.ABORTED
            elif isinstance(error, _HandshakeError | trio.BrokenResourceError):
                connection.outcome, connection.reason = Outcome.RESET, str(error)
                if isinstance(error.__cause__, ssl.SSLError) and below is not transport:
                    # What comes unread would become a reset, which destroys our alert.
                    await end_and_discard(below, connection, self.limits.close_timeout)
            else:
                connection.outcome = Outcome.CRASHED
                _note_failure(f"{doing} %s failed", connection, error)
        if not connection.send_pending:
            await close_gracefully(transport, connection, self.limits.close_timeout)

    async def _admit(self, transport: Transport, connection: Connection) -> Outcome | None:
        """Find out who is at the other end; return the outcome if it may not have more."""
        if self.hook is not None:
            if transport.socket is not None:
                self.hook.socket_opened(transport.socket, listening=False)
            with connection.watch(resumable=True) as scope:
                peer = await self.hook.identify(transport, connection.peer)
            if scope.cancelled_caught:
                return connection.timeout_outcome()
            if peer is None:
                connection.reason = "not allowed by the hook"
                return Outcome.REFUSED
            connection.peer = peer
        return None if self.registry.admit(connection) else Outcome.REFUSED

    async def _converse(
        self, transport: Transport, connection: Connection, plan: Plan | None
    ) -> Outcome:
        size, secure = self.limits.receive_size, not transport.handshake_done
        if plan is not None:
            early = await _hesitate(transport, connection, plan)
            if early is not None:
                return early
        if secure:
            early = await _shake_hands(transport, connection)
            if early is not None:
                return early
        if secure or self.hook is not None:
            connection.begin_conversation(self.limits.idle_timeout)
        if plan is not None:
            return await _misbehave(transport, self.reply, connection, size, plan)
        if pump.AVAILABLE and transport.direct:
            return await converse_pumped(transport, self.reply, connection, size)
        return await converse(transport, self.reply, connection, size)

    def _report(self, connection: Connection) -> None:
        """Report to the hook and the log that a connection is over."""
        try:
            if self.hook is not None:
                self.hook.connection_ended(connection)
        except Exception as error:  # noqa: BLE001  -- as in `_handle`
            _note_failure("reporting the end of %s failed", connection, error)
        events.closed(connection, self.registry.throttle)


class _HandshakeError(Exception):
    """The peer and we cannot agree on TLS; the peer was sent an alert."""


def _note_failure(text: str, connection: Connection, error: Exception) -> None:
    if not shortage(error):
        failure(text, connection.peer.name, **events.about(connection))


async def _shake_hands(transport: Transport, connection: Connection) -> Outcome | None:
    """Do the handshake; return the outcome if that took too long.

    Raises:
        _HandshakeError: it failed; the text has the reason.
    """
    begun = connection.progress
    try:
        while True:
            with connection.watch(resumable=True) as scope:
                await transport.handshake()
            if not scope.cancelled_caught:
                return None
            if connection.progress > begun or not _was_late(transport, connection):
                return connection.timeout_outcome()
            connection.progress = trio.current_time()  # as much time again, but only once
    except ssl.SSLError as error:
        raise _HandshakeError(f"no TLS handshake: {error}") from error


def _was_late(transport: Transport, connection: Connection) -> bool:
    """Return whether a part of a handshake has waited for us, and not we for it."""
    if transport.fed_at is None:  # it cannot be gone on with
        return False
    in_time = transport.fed_at < connection.progress + connection.idle_timeout
    return connection.may_look() and (not in_time or has_input(transport))


def _context(tls: ssl.SSLContext, plan: Plan | None) -> ssl.SSLContext:
    """Return what to show to a TLS client, which may be another certificate than it should."""
    if plan is not None:
        for bad in (plan.first(ExpiredCertificate), plan.first(WrongName)):
            if bad is not None:
                plan.note(bad)
                tls = bad_context(bad)
    return tls


async def _hesitate(transport: Transport, connection: Connection, plan: Plan) -> Outcome | None:
    """Do what is planned before anything else; return the outcome if that is the end."""
    if (refuse := plan.first(Refuse)) is not None:
        plan.note(refuse)
        return Outcome.REFUSED
    with connection.watch(resumable=True) as scope:
        await trio.lowlevel.checkpoint()
        if (slow := plan.first(SlowAccept)) is not None:
            plan.note(slow)
            await trio.sleep(slow.seconds)
        never = plan.first(NeverHandshake)
        if never is not None and not transport.handshake_done:
            plan.note(never)
            await trio.sleep_forever()
    return connection.timeout_outcome() if scope.cancelled_caught else None


async def _misbehave(
    transport: Transport,
    reply: Reply,
    connection: Connection,
    receive_size: int,
    plan: Plan,
) -> Outcome:
    """Do what `converse` does, with the faults that are planned.

    The limits stay in force: what never ends by itself is ended by them.

    Raises:
        Exception: as `converse`.
    """
    faulty = FaultyTransport(transport, plan, connection)
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
