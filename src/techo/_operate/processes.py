"""Processes: children that end with their parent, and the channel between the two.

The channel is a socket pair that carries one JSON object a line. The end of it is how a child
sees that its parent is gone, however that went, and a parent that its child is.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

import attrs
import trio

_PIECE: Final = 2**16
"""Bytes that are received at once."""

_START: Final = "import sys; sys.path[:] = {path!r}; from {module} import main; main()"
"""The program of a child. Its modules are found where the parent found them, a zip file or the
present directory included; and where the parent did not look, neither does it."""

Message = Mapping[str, Any]


def program(module: str) -> list[str]:
    """Return the beginning of a command line that calls `main` of a module in this Python."""
    return [sys.executable, "-c", _START.format(path=sys.path, module=module)]


@attrs.define(eq=False)
class Channel:
    """One end: whole messages go in, and whole messages come out."""

    _stream: trio.SocketStream
    _received: bytes = b""
    _sending: trio.Lock = attrs.field(factory=trio.Lock)

    @classmethod
    def of(cls, sock: socket.socket) -> Channel:
        """Return the channel of a socket, which it owns from now on."""
        sock.setblocking(False)
        return cls(trio.SocketStream(trio.socket.from_stdlib_socket(sock)))

    async def send(self, message: Message) -> bool:
        """Send a message; return whether somebody is there who can receive it."""
        async with self._sending:  # a second task must wait for the end of the line
            try:
                await self._stream.send_all(json.dumps(message).encode() + b"\n")
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return False
        return True

    async def receive(self) -> Message | None:
        """Wait for a message; return None at the end. Cancellation loses nothing.

        What was not received whole when the other end died is dropped.
        """
        while b"\n" not in self._received:
            try:
                piece = await self._stream.receive_some(_PIECE)
            except trio.BrokenResourceError:
                piece = b""
            if not piece:
                return None
            self._received += piece
        line, _, self._received = self._received.partition(b"\n")
        message: Message = json.loads(line)
        return message

    def close(self) -> None:
        """Close this end, which the other end sees."""
        self._stream.socket.close()


@attrs.frozen(eq=False)
class Child:
    """A process that was started, and the channel to it."""

    process: trio.Process
    channel: Channel


@contextlib.asynccontextmanager
async def open_child(
    command: Callable[[int], Sequence[str]], descriptors: Sequence[int] = ()
) -> AsyncIterator[Child]:
    """Run a child for a block; what is left of it at the end is killed.

    `command` is called with the number of the descriptor that is the child's end of the
    channel; it and `descriptors` have the same numbers in the child. The child has a session
    of its own, so that what is typed on a terminal reaches the parent alone; no standard input
    or output, and the parent's standard error.

    Raises:
        OSError: no process can be started.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        channel = Channel.of(ours)
        try:
            process = await trio.lowlevel.open_process(
                command(theirs.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *descriptors),
                start_new_session=True,
            )
        except BaseException:
            channel.close()
            raise
    try:
        yield Child(process, channel)
    finally:
        channel.close()
        process.kill()  # which does nothing to one that is over
        with trio.CancelScope(shield=True):
            await process.wait()
