"""Handling: one connection from the moment it is accepted to its outcome."""

from __future__ import annotations

import logging
import ssl

import attrs
import trio

from techo._faults.certificates import bad_context
from techo._faults.plan import Plan, Planner
from techo._faults.values import ExpiredCertificate, WrongName
from techo._packets import PacketStream
from techo._pump import pump
from techo._server import parked
from techo._server.connection import Connection, Outcome
from techo._server.conversation import close_now, converse, say_goodbye, shake_hands
from techo._server.ledger import Ledger
from techo._server.limits import Limits
from techo._server.misbehaving import hesitate, misbehave
from techo._server.peer import Peer
from techo.reply import Reply

_log = logging.getLogger("techo.server")


@attrs.define(eq=False)
class Handling:
    """What a service does with each of its connections."""

    reply: Reply
    limits: Limits
    tls: ssl.SSLContext | None
    ledger: Ledger
    planner: Planner | None
    """Plans what goes wrong, if anything is to."""
    quiet: float | None = None
    """While draining: see `Connection.quiet`."""

    async def handle(self, stream: trio.abc.Stream) -> None:
        """Do what `EchoService.handle` says."""
        plan = None if self.planner is None else self.planner.next()
        await self._handle(stream, plan if plan is not None and plan.chosen else None)

    async def begin_tls(self, stream: trio.abc.Stream) -> None:
        """Handle a TLS connection which may show another certificate than it should."""
        assert self.planner is not None  # noqa: S101  -- otherwise trio does this
        plan, context = self.planner.next(), self.tls
        for bad in (plan.first(ExpiredCertificate), plan.first(WrongName)):
            if bad is not None:
                plan.note(bad)
                context = bad_context(bad)
        assert context is not None  # noqa: S101  -- `EchoService.serve` has seen to it
        await self._handle(trio.SSLStream(stream, context, server_side=True), plan)

    async def _handle(self, stream: trio.abc.Stream, plan: Plan | None) -> None:
        now = trio.current_time()
        limits, greeted = self.limits, not isinstance(stream, trio.SSLStream)
        connection = Connection(
            peer=Peer.of(stream),
            opened=now,
            idle_timeout=limits.idle_timeout if greeted else limits.handshake_timeout,
            expires=now + limits.lifetime,
            quiet=self.quiet,
            greeted=greeted,
        )
        if not self.ledger.open(connection):
            _log_closed(connection, Outcome.REFUSED)
            return await trio.aclose_forcefully(stream)
        if _log.isEnabledFor(logging.INFO):
            extra = {"event": "connected", "peer": connection.peer.name}
            _log.info("connected %s", connection.peer.name, extra=extra)
        outcome = Outcome.ABORTED  # which stands if a cancellation from outside ends this
        try:
            outcome = await self._converse(stream, connection, plan)
            if not connection.send_pending:
                await say_goodbye(stream, connection, outcome, limits.close_timeout)
        finally:
            try:
                await close_now(stream)  # noqa: ASYNC102  -- waits for nothing
            except Exception:  # noqa: BLE001  -- anybody's stream; it must not end the server
                _log.exception("closing %s failed", connection.peer.name)
            finally:
                self.ledger.close(connection, outcome)
                _log_closed(connection, outcome)
        return None

    async def _converse(
        self, stream: trio.abc.Stream, connection: Connection, plan: Plan | None
    ) -> Outcome:
        try:
            size = self.limits.receive_size
            if plan is not None and (early := await hesitate(connection, plan)) is not None:
                return early
            if isinstance(stream, trio.SSLStream):
                idle_timeout = self.limits.idle_timeout
                if (early := await shake_hands(stream, connection, idle_timeout)) is not None:
                    return early
            if plan is not None:
                return await misbehave(stream, self.reply, connection, size, plan)
            if pump.AVAILABLE and isinstance(stream, trio.SocketStream | PacketStream):
                return await parked.converse(stream, self.reply, connection, size)
            return await converse(stream, self.reply, connection, size)
        except trio.BrokenResourceError as error:
            _log.debug("%s broke the connection: %s", connection.peer.name, error)
            return Outcome.RESET
        except trio.ClosedResourceError:
            return Outcome.ABORTED  # somebody in our own program closed the stream
        except Exception:  # noqa: BLE001  -- anybody's function; it must not end the server
            _log.exception("the reply to %s failed", connection.peer.name)
            return Outcome.CRASHED


def _log_closed(connection: Connection, outcome: Outcome) -> None:
    if not _log.isEnabledFor(logging.INFO):
        return
    facts = {
        "outcome": str(outcome),
        "chunks": connection.chunks,
        "bytes_in": connection.bytes_in,
        "bytes_out": connection.bytes_out,
        "seconds": round(trio.current_time() - connection.opened, 6),
    }
    _log.info(
        "closed %s %s",
        connection.peer.name,
        " ".join(f"{name}={value}" for name, value in facts.items()),
        extra={"event": "closed", "peer": connection.peer.name, **facts},
    )
