"""Connections: the record of one, its peer, its outcome, and the time it has left."""

from __future__ import annotations

import enum
import functools
import socket
import struct
from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Final

import attrs
import trio

from techo._addresses import peer_host, text_of
from techo._pump.last_reply import end_with_reply
from techo._pump.pump import Pump
from techo._pump.socket import PumpedSocket
from techo._transport.transport import Transport

if TYPE_CHECKING:
    from techo._server.interceptor import Interception

_GLANCE: Final = 1e-3
"""Seconds: enough for one look at what has already arrived."""

_LOOK: Final = 0.05
"""Seconds for the same where input is known to wait: time is only needed by a busy machine."""

_CREDENTIALS: Final = struct.Struct("=iII")
"""Process, user and group, as they were when it connected: SO_PEERCRED of unix(7)."""

UNKNOWN: Final = "unknown"
"""The name of a peer that had reset the connection before its address could be read."""


class Outcome(enum.StrEnum):
    """How a connection ended. Every accepted connection ends with exactly one."""

    EOF = "eof"
    """The peer finished, every byte was answered, both sides closed."""
    IDLE = "idle"
    """No byte moved for `Limits.idle_timeout` and no reply was pending, or the TLS handshake
    took longer than `Limits.handshake_timeout`."""
    STALLED = "stalled"
    """The same while a reply was waiting for the peer to read it."""
    EXPIRED = "expired"
    """`Limits.lifetime` was over."""
    REFUSED = "refused"
    """There were `max_connections` already, or `max_per_host` of its address, or its TLS
    handshake was the oldest of more than `max_handshakes`."""
    RESET = "reset"
    """The peer broke it: a reset, a TLS handshake that failed, or TLS that ended without its
    closing message."""
    DRAINED = "drained"
    """The server was draining, or leaving, and no reply was pending."""
    CRASHED = "crashed"
    """The reply function raised."""
    UNREACHABLE = "unreachable"
    """The target of a proxy could not be reached."""
    FAULTED = "faulted"
    """A fault has ended it, as was asked for."""
    ABORTED = "aborted"
    """Ended by cancellation, by our own program, because the drain took too long, or for lack
    of memory."""


@attrs.frozen
class Peer:
    """The other end of a connection."""

    name: str
    """What to call it in a log: ``ADDRESS:PORT``, the process behind a Unix socket, or what
    kind of stream it is."""
    host: str | None = None
    """The address to count its connections by; None where there is none."""

    @classmethod
    def of(cls, transport: Transport, otherwise: str) -> Peer:
        """Return who is at the other end; `otherwise` names it if there is no socket."""
        sock = transport.socket
        if sock is None:
            return cls(otherwise)
        try:
            address = sock.getpeername()
            if not isinstance(address, tuple):
                return cls(_unix_name(sock))
        except OSError:
            return cls(UNKNOWN)
        host = peer_host(address)
        return cls(text_of((host, address[1])), host)


def _unix_name(sock: trio.socket.SocketType) -> str:
    """Return a name for the process that connected: Unix peers seldom have an address."""
    if not hasattr(socket, "SO_PEERCRED"):
        return "unix"
    process, user, _ = _CREDENTIALS.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    return f"unix:pid={process},uid={user}"


@attrs.define(eq=False)
class Connection:
    """The record of one connection, and the scope that can end its present wait.

    A scope that ran out while bytes were being handed over must not cost those bytes: see
    `watch`.
    """

    peer: Peer
    """Who is at the other end."""
    opened: float
    """In the run's clock, as all times here."""
    idle_timeout: float
    """Seconds without progress after which it ends; until the handshake is done, the
    handshake's."""
    expires: float
    """When its lifetime is over."""
    quiet: float | None = None
    """While draining: seconds without progress after which it ends if no reply is pending."""
    leaving: bool = False
    """Whether it is to end together with its next reply."""
    endpoint: str = ""
    """Where it was accepted, if that is known."""
    id: int = 0
    """How many its service had accepted with it; 0 until then."""
    counted_host: str | None = None
    """The address or network that its registry counts it by, once it is known and only if there
    is a limit for it."""
    outcome: Outcome = Outcome.ABORTED
    """How it has ended; as long as nothing else is known, by cancellation."""
    reason: str = ""
    """What the peer did to end it, where the outcome does not say so already; or why it was
    refused, if not on purpose."""
    chunks: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    carried_by: Mapping[str, str | int] = attrs.field(factory=dict)
    """What log lines say about it where it may have been MPTCP, or plain TCP after all."""
    progress: float = attrs.field(
        default=attrs.Factory(lambda self: self.opened, takes_self=True)
    )
    """When a byte last moved, in either direction."""
    send_pending: bool = False
    """Whether a reply is on its way out."""
    interception: Interception | None = None
    """What serves it in place of a plain conversation."""
    pumped: PumpedSocket | None = None
    """What the pump serves, while it does."""
    exchange: trio.CancelScope | None = None
    """What ends the exchange of messages that nothing watches one by one."""
    aborted: bool = False
    """Whether it is to end now, even if a reply is pending."""
    _aborted_as: Outcome = Outcome.ABORTED
    _close_by: float | None = None
    _resumable: bool = False
    _looked: bool = False
    """Whether there was a last look after its lifetime."""
    _scope: trio.CancelScope | None = None

    @property
    def draining(self) -> bool:
        """Whether it is to end as soon as no reply is pending."""
        return self.quiet is not None

    def begin_conversation(self, idle_timeout: float) -> None:
        """Note that the handshake is done: `idle_timeout` counts from now on."""
        self.idle_timeout = idle_timeout
        self.progress = trio.current_time()

    def received(self, size: int, now: float) -> None:
        """Count a chunk of `size` bytes that came `now`."""
        self.chunks += 1
        self.bytes_in += size
        self.progress = now

    def sent(self, size: int) -> None:
        """Count `size` bytes of a reply that the transport took."""
        self.bytes_out += size
        self.progress = trio.current_time()

    def watch(self, *, resumable: bool = False, look: bool = False) -> trio.CancelScope:
        """Return the scope for one wait, which ends when the connection has had its time.

        If the scope caught the cancellation, `timeout_outcome` is the outcome, unless input
        waits and `may_look`: then the wait is repeated as a `look`. If bytes were counted while
        it was open, ask `time_is_up` first. A `resumable` wait, which loses nothing by being
        interrupted, also ends when a drain begins.
        """
        self._resumable = resumable
        deadline = self.deadline()
        if look:
            deadline = max(deadline, trio.current_time() + _LOOK)
        if self.draining:
            # What has arrived already is still received, however late it is.
            deadline = max(deadline, trio.current_time() + _GLANCE)
        self._scope = scope = trio.CancelScope(deadline=deadline)
        if self.aborted:
            scope.cancel(reason="aborted")
        return scope

    def deadline(self) -> float:
        """Return when its time is up, unless bytes move before."""
        if self._close_by is not None:
            return self._close_by
        timeout = self.idle_timeout
        if self.quiet is not None and not self.send_pending:
            timeout = min(timeout, self.quiet)
        return min(self.progress + timeout, self.expires)

    def time_is_up(self) -> bool:
        """Return whether a wait that ended need not be tried again."""
        return self.aborted or trio.current_time() >= self.deadline()

    def may_look(self) -> bool:
        """Return whether input that waits may be received although the time is up.

        If nobody ran this process for a while, input may have waited since before the deadline,
        and to receive it is progress; after its lifetime that is allowed once.
        """
        if self.aborted or self.draining:
            return False
        if trio.current_time() < self.expires:
            return True
        looked, self._looked = self._looked, True
        return not looked

    def timeout_outcome(self) -> Outcome:
        """Return why the time is up, once `watch` has ended a wait."""
        if self.draining and not self.send_pending:
            return Outcome.DRAINED
        if self.aborted:
            return self._aborted_as
        if trio.current_time() >= self.expires:
            return Outcome.EXPIRED
        return Outcome.STALLED if self.send_pending else Outcome.IDLE

    @property
    def closing(self) -> bool:
        """Whether the graceful close has begun."""
        return self._close_by is not None

    def begin_closing(self, close_timeout: float) -> None:
        """From now on only the graceful close counts, which may take `close_timeout` s."""
        self._close_by = trio.current_time() + close_timeout

    def drain(
        self, quiet: float, *, close_timeout: float, now: float, waiting: Container[int]
    ) -> None:
        """End it as soon as no reply is pending and no byte moved for `quiet` seconds.

        What the pump serves and is quiet `now` is half-closed at once; `waiting` are the
        sockets that are not, because something waits there.
        """
        self.quiet = quiet
        pumped = None if self.pumped is None or self.pumped.over else self.pumped
        if pumped is not None and pumped.fd not in waiting and self._is_quiet(now):
            Pump.of_this_run().half_close(pumped)
            self._note_half_close(close_timeout)
        elif self._scope is not None:
            deadline = trio.current_time() if self._resumable else self.deadline()
            self._scope.deadline = min(self._scope.deadline, deadline)

    def _note_half_close(self, close_timeout: float) -> None:
        """Give the peer its time to close as well; the pump discards what still comes."""
        self.quiet = self.quiet or 0.0
        self.outcome = Outcome.DRAINED
        self.begin_closing(close_timeout)
        if self._scope is not None:
            self._scope.deadline = trio.current_time() + close_timeout

    def leave(self, close_timeout: float) -> None:
        """End it together with its next reply."""
        self.leaving = True
        if self.pumped is not None and not self.pumped.over and self.quiet is None:
            note = functools.partial(self._note_half_close, close_timeout)
            end_with_reply(self.pumped, note)

    def _is_quiet(self, now: float) -> bool:
        return not self.send_pending and now - self.progress >= (self.quiet or 0)

    def intercept(self, interception: Interception) -> None:
        """Have it served by something else, once its conversation has sent what is pending."""
        self.interception = interception
        if self.closing:
            return
        if self.pumped is not None:
            Pump.of_this_run().remove(self.pumped)
        elif self._resumable or self.send_pending:  # its conversation has not begun, or sends
            return
        for each in filter(None, (self._scope, self.exchange)):
            each.cancel(reason="intercepted")

    def end_wait_when_draining(self) -> None:
        """Let a drain end the present wait at once, because nothing comes of it."""
        self._resumable = True
        if self.draining and self._scope is not None:
            self._scope.deadline = trio.current_time()

    def abort(self, outcome: Outcome = Outcome.ABORTED) -> None:
        """End it now with this outcome, even if a reply is pending."""
        self.aborted, self._aborted_as = True, outcome
        if self.pumped is not None:
            Pump.of_this_run().end(self.pumped)  # which costs less than cancelling
        elif self._scope is not None:
            self._scope.cancel(reason="aborted")
