"""Connections: the record of one, its outcome, and the time it has left."""

from __future__ import annotations

import enum
from typing import Final

import attrs
import trio

from techo._server.peer import Peer

_GLANCE: Final = 1e-3
"""Seconds: enough for one look at what has already arrived."""


class Outcome(enum.StrEnum):
    """How a connection ended. Every accepted connection ends with exactly one."""

    EOF = "eof"
    """The peer finished, every byte was answered, both sides closed."""
    IDLE = "idle"
    """No byte moved for `Limits.idle_timeout` and nothing was owed, or the TLS handshake took
    longer than `Limits.handshake_timeout`."""
    STALLED = "stalled"
    """The same while a reply was waiting for the peer to read it."""
    EXPIRED = "expired"
    """`Limits.lifetime` was over."""
    REFUSED = "refused"
    """There were `max_connections` already, or `max_per_host` of its address."""
    RESET = "reset"
    """The peer broke it: a reset, a TLS handshake that failed, or TLS that ended without its
    closing message."""
    DRAINED = "drained"
    """The server was draining and owed nothing."""
    CRASHED = "crashed"
    """The reply function raised."""
    FAULTED = "faulted"
    """A fault has ended it, as was asked for."""
    ABORTED = "aborted"
    """Cut by cancellation or by the end of the drain time."""


@attrs.define(eq=False)
class Connection:
    """What is known of one connection, and the scope that can end its present wait.

    A conversation opens a new scope for every wait, because a scope that ran out while
    bytes were being handed over must not cost those bytes: see `watch`.
    """

    peer: Peer
    """Who is at the other end."""
    opened: float
    """In the run's clock, as all times here."""
    idle_timeout: float
    """Seconds without progress after which it ends."""
    expires: float
    """When its lifetime is over."""
    quiet: float | None = None
    """While draining: seconds without progress after which it is let go if nothing is owed."""
    greeted: bool = True
    """Whether there has been a TLS handshake if there has to be one; if not, the time without
    progress is the handshake's."""
    chunks: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    progress: float = attrs.field(
        default=attrs.Factory(lambda self: self.opened, takes_self=True)
    )
    """When a byte last moved, in either direction."""
    send_pending: bool = False
    """Whether a reply is on its way out."""
    _farewell: float | None = None
    _was_cut: bool = False
    _resumable: bool = False
    _scope: trio.CancelScope | None = None

    @property
    def draining(self) -> bool:
        """Whether it is to end as soon as nothing is owed."""
        return self.quiet is not None

    def greet(self, idle_timeout: float) -> None:
        """Note that the handshake is over: from now on this is the time without progress."""
        self.greeted = True
        self.idle_timeout = idle_timeout
        self.progress = trio.current_time()

    def received(self, size: int) -> None:
        """Count a chunk of `size` bytes."""
        self.chunks += 1
        self.bytes_in += size
        self.progress = trio.current_time()

    def sent(self, size: int) -> None:
        """Count `size` bytes of a reply that the kernel or the stream took."""
        self.bytes_out += size
        self.progress = trio.current_time()

    def watch(self, *, resumable: bool = False) -> trio.CancelScope:
        """Make the scope for one wait, which ends when the connection has had its time.

        If the scope caught the cancellation, `verdict` says why. If bytes were counted while
        it was open, ask `time_is_up` first. A `resumable` wait, which loses nothing by being
        interrupted, also ends when a drain begins.
        """
        self._resumable = resumable
        deadline = self._deadline()
        if self.draining:
            # What has arrived already is still received, however late it is.
            deadline = max(deadline, trio.current_time() + _GLANCE)
        self._scope = scope = trio.CancelScope(deadline=deadline)
        if self._was_cut:
            scope.cancel(reason="cut off")
        return scope

    def _deadline(self) -> float:
        if self._farewell is not None:
            return self._farewell
        patience = self.idle_timeout
        if self.quiet is not None and not self.send_pending:
            patience = min(patience, self.quiet)
        return min(self.progress + patience, self.expires)

    def time_is_up(self) -> bool:
        """Whether a wait that ended need not be tried again."""
        return self._was_cut or trio.current_time() >= self._deadline()

    def verdict(self) -> Outcome:
        """Say why the time is up, once `watch` has ended a wait."""
        if self.draining and not self.send_pending:
            return Outcome.DRAINED
        if self._was_cut:
            return Outcome.ABORTED
        if trio.current_time() >= self.expires:
            return Outcome.EXPIRED
        return Outcome.STALLED if self.send_pending else Outcome.IDLE

    def leave(self, close_timeout: float) -> None:
        """From now on only the farewell counts, which may take `close_timeout` seconds."""
        self._farewell = trio.current_time() + close_timeout

    def hurry(self, quiet: float) -> None:
        """Let it go as soon as nothing is owed and no byte moved for `quiet` seconds."""
        self.quiet = quiet
        if self._scope is not None:
            deadline = trio.current_time() if self._resumable else self._deadline()
            self._scope.deadline = min(self._scope.deadline, deadline)

    def let_go_when_draining(self) -> None:
        """Make the present wait one that a drain ends at once, because nothing comes of it."""
        self._resumable = True
        if self.draining and self._scope is not None:
            self._scope.deadline = trio.current_time()

    def cut(self) -> None:
        """End it now, whatever it owes."""
        self._was_cut = True
        if self._scope is not None:
            self._scope.cancel(reason="cut off")
