"""The handler: one connection from being accepted to its outcome."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Coroutine
from typing import Any

import attrs
import trio

from techo._embedded import transport_of
from techo._kernel import mptcp
from techo._log import failure, shortage
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
from techo._server.hook import RefusedError, ServiceHook
from techo._server.interceptor import Interceptor
from techo._server.limits import Limits
from techo._server.registry import Registry
from techo._tls.alerts import in_words
from techo._transport.tls import TlsTransport
from techo._transport.transport import Transport
from techo.reply import Reply


@attrs.define(eq=False)
class Handler:
    """What a service does with each of its connections."""

    reply: Reply
    limits: Limits
    tls: ssl.SSLContext | None
    registry: Registry
    interceptor: Interceptor | None
    hook: ServiceHook | None
    quiet: float | None = None
    """While draining: see `Connection.quiet`."""
    leaving: bool = False
    """Whether connections end together with their next reply."""

    def handle_tls(
        self, stream: trio.abc.Stream | Transport, endpoint: str
    ) -> Coroutine[Any, Any, None]:
        """Do the same for a connection of a tls endpoint, beginning before its handshake."""
        # Not async, or each idle connection would keep one frame more.
        return self.handle(stream, endpoint, self.tls)

    async def handle(
        self,
        stream: trio.abc.Stream | Transport,
        endpoint: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Serve one connection and close it; only a cancellation leaves this."""
        # Any other exception of a handler ends its nursery, and so the whole server.
        try:
            interception = None if self.interceptor is None else self.interceptor.next()
            transport = transport_of(stream)
            peer = Peer.of(transport, otherwise=type(stream).__name__)
            early = tls is not None or not transport.handshake_done
            connection = self._record(peer, endpoint, early=early)
            connection.interception = interception
        except Exception as error:  # noqa: BLE001  -- no stream, or no memory
            if not shortage(error):
                failure("serving a %s failed", type(stream).__name__)
            with contextlib.suppress(Exception):
                await trio.aclose_forcefully(stream)
            return
        opened = self.registry.open(connection)
        try:
            if opened and await self._has_place(connection):
                await self._serve(transport, connection, tls)
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
            leaving=self.leaving,
        )

    async def _has_place(self, connection: Connection) -> bool:
        """Return whether there is a place for a connection, once there is if it is parked."""
        if not self.registry.is_parked(connection):
            return True
        timeout, connection.idle_timeout = (
            connection.idle_timeout,
            self.limits.handshake_timeout,
        )
        with connection.watch(resumable=True) as scope:
            await self.registry.wait_for_place(connection)
        if scope.cancelled_caught:
            connection.outcome = connection.timeout_outcome()
            if connection.outcome is Outcome.IDLE:
                connection.outcome = Outcome.REFUSED
                connection.reason = f"max-connections {self.limits.max_connections} reached"
            return False
        connection.begin_conversation(timeout)
        return True

    async def _serve(
        self,
        transport: Transport,
        connection: Connection,
        tls: ssl.SSLContext | None,
    ) -> None:
        """Serve a connection until its outcome is known, then close it gracefully."""
        below, doing = transport, "the hook for"
        try:
            if (early := await self._admit(transport, connection)) is not None:
                connection.outcome = early
                return
            events.connected(connection)
            doing = "the reply to"
            if tls is not None:
                shown = connection.interception
                context = tls if shown is None else shown.context(tls)
                transport = TlsTransport(transport, context, server_side=True)
            connection.outcome = await self._converse(transport, connection)
        except trio.ClosedResourceError:
            connection.outcome = Outcome.ABORTED  # our own program closed it
        except Exception as error:  # noqa: BLE001  -- user code may raise anything
            if shortage(error):
                connection.outcome = Outcome.ABORTED
            elif isinstance(error, _HandshakeError | trio.BrokenResourceError):
                connection.outcome, connection.reason = Outcome.RESET, _reason(error)
                if isinstance(error.__cause__, ssl.SSLError) and below is not transport:
                    # What comes unread would become a reset, which destroys our alert.
                    await end_and_discard(below, connection, self.limits.close_timeout)
            else:
                connection.outcome = Outcome.CRASHED
                _note_failure(f"{doing} %s failed", connection, error)
        if below.socket is not None:
            connection.carried_by = mptcp.facts_of(below.socket)
        if not connection.send_pending:
            await close_gracefully(transport, connection, self.limits.close_timeout)

    async def _admit(self, transport: Transport, connection: Connection) -> Outcome | None:
        """Find out who is at the other end; return the outcome if it may not have more."""
        if self.hook is not None:
            if transport.socket is not None:
                self.hook.socket_opened(transport.socket, listening=False)
            with connection.watch(resumable=True) as scope:
                try:
                    connection.peer = await self.hook.identify(transport, connection.peer)
                except RefusedError as error:
                    connection.reason = str(error)
                    return Outcome.REFUSED
            if scope.cancelled_caught:
                return connection.timeout_outcome()
        return None if self.registry.admit(connection) else Outcome.REFUSED

    async def _converse(self, transport: Transport, connection: Connection) -> Outcome:
        size, secure = self.limits.receive_size, not transport.handshake_done
        if connection.interception is not None:
            early = await connection.interception.begin(transport, connection)
            if early is not None:
                return early
        if secure:
            with self.registry.handshaking(connection):
                early = await _shake_hands(transport, connection)
            if early is not None:
                return early
        if secure or self.hook is not None:
            connection.begin_conversation(self.limits.idle_timeout)
        if (interception := connection.interception) is not None:
            return await interception.converse(transport, self.reply, connection, size)
        if pump.AVAILABLE and transport.pumpable:
            close_timeout = self.limits.close_timeout
            return await converse_pumped(transport, self.reply, connection, size, close_timeout)
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


def _reason(error: Exception) -> str:
    """Return what an error says, or what is behind it where a stream of trio's says nothing."""
    below = error.__cause__
    if not str(error) and isinstance(below, ssl.SSLError):
        return f"TLS failed: {in_words(below)}"
    return str(error)


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
        raise _HandshakeError(f"no TLS handshake: {in_words(error)}") from error


def _was_late(transport: Transport, connection: Connection) -> bool:
    """Return whether a part of a handshake has waited for us, and not we for it."""
    if transport.fed_at is None:  # it cannot be gone on with
        return False
    in_time = transport.fed_at < connection.progress + connection.idle_timeout
    return connection.may_look() and (not in_time or has_input(transport))
