"""One socket that the pump serves: its counters, its reply, its wait and what ends it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final, Protocol

import attrs
import trio

from techo._tls.records import TlsRecords
from techo.reply import Reply

_NOWHERE: Final = memoryview(b"")


class ConnectionRecord(Protocol):
    """The counters of one connection, which the pump keeps up to date."""

    chunks: int
    bytes_in: int
    bytes_out: int
    progress: float
    """When a byte last moved, in the run's clock."""
    send_pending: bool
    """Whether the socket has not taken all of what is to be sent."""


@attrs.define(eq=False)
class Traffic:
    """These counters and nothing else."""

    chunks: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    progress: float = 0.0
    send_pending: bool = False


@attrs.define(eq=False)
class PumpedSocket:
    """One socket, what the pump does with it, and how its task waits for the end."""

    fd: int
    reply: Reply | None
    """None for `raw`, whose answer is where the chunk is already."""
    connection: ConnectionRecord
    receive_size: int
    """Bytes to receive at once; of messages one more than any may have."""
    packets: bool
    """Whether each receive returns one whole message."""
    greedy: bool = False
    """Whether to go on receiving while a rest is unsent. A client must, or it and its server
    would wait for each other; its `reply` must return nothing while `send_pending`."""
    endless: bool = False
    """Whether nothing but an error is the end, and no bytes are a message: as of datagrams."""
    sock: trio.socket.SocketType | None = None
    """What our own program may close, which is noticed; None if nobody else has it."""
    run: Callable[..., bytes] | None = None
    """Calls `reply` in the context of the socket's task (`contextvars.Context.run`), where that
    can make a difference."""
    records: TlsRecords | None = None
    """The TLS between what is received and `reply`. Its handshake is done."""
    buffers: list[memoryview] = attrs.field(factory=list, init=False)
    """Where to receive: one buffer of the pump's, which many sockets share."""
    room: memoryview = attrs.field(default=_NOWHERE, init=False)
    """Where records are decrypted to: that buffer without what they add."""
    uncounted: int = 0
    """Bytes of replies in records that the socket has not taken."""
    unsent: memoryview | None = None
    """The rest of a reply, or of its records, while the socket takes no more."""
    task: trio.lowlevel.Task | None = None
    """What is to be woken at the end; None while it does not wait."""
    over: bool = False
    error: BaseException | None = None
    """Why it is over, unless the peer has finished."""

    async def wait(self) -> None:
        """Wait until the conversation is over; cancellation ends just the waiting."""
        if self.over:
            await trio.lowlevel.checkpoint()
        else:
            self.task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._wake_up)

    def count_sent(self, sent: int, unsent: int) -> None:
        """Count `sent` bytes that the socket took, and over TLS what they are the records of.

        A record is longer than its bytes, so that at most `unsent` of these have not left.
        """
        if self.records is not None:
            sent = self.uncounted - unsent if unsent < self.uncounted else 0
            self.uncounted -= sent
        self.connection.bytes_out += sent

    def _wake_up(self, _raise_cancel: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
        self.task = None
        return trio.lowlevel.Abort.SUCCEEDED


def closed() -> trio.ClosedResourceError:
    """Return what is raised where our own program has closed a socket."""
    return trio.ClosedResourceError("the stream was closed")


def broken(error: OSError) -> Exception:
    """Return what is raised because of `error`."""
    if error.errno == errno.EMSGSIZE:
        return error  # not the peer's fault: the reply is longer than a message may be
    ending = trio.BrokenResourceError(str(error))
    ending.__cause__ = error
    return ending
