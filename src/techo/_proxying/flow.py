"""The flow: what one source of datagrams and the target say to each other, until it is over."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeAlias

import attrs
import trio

from techo._addresses import SOCKET_TYPES, Found, interleaved, unix_address
from techo._kernel.datagram_sockets import Sender
from techo._log import failure, shortage
from techo._proxying.poll import Poll
from techo._server.connection import Connection, Outcome
from techo._shortage import look_up
from techo.endpoint import Endpoint

_BATCH: Final = 32
"""Datagrams of the target that are passed on before other tasks get their turn."""

_KEPT: Final = 64
"""Datagrams that wait while a name is looked up, or in case that its next address is right."""

_NO_REFUSAL: Final = {errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EMSGSIZE}
"""Errors of sending that say nothing about who is at the other end."""

Key: TypeAlias = tuple[int, Sender, Hashable]
"""Which listening socket, who has sent, and to which of our addresses."""

_TURNED: Final = contextlib.suppress(trio.ClosedResourceError)
"""What a wait meets when the flow has turned to another address, or is over."""


def known_addresses(target: Endpoint) -> list[Found] | None:
    """Return the address of a target without waiting; None if it has a name to look up."""
    kind = SOCKET_TYPES[target.kind]
    if target.path:
        path: Any = unix_address(target.path)  # as of every family, what `connect` takes
        return [(socket.AF_UNIX, kind, 0, "", path)]
    try:
        found = socket.getaddrinfo(
            target.host, target.port, type=kind, flags=socket.AI_NUMERICHOST
        )
    except socket.gaierror:
        return None
    return [*found]


def open_towards(found: Found) -> socket.socket:
    """Return a socket that is connected to an address of a target.

    Raises:
        OSError: nobody is there, or there is no way to it, or no descriptor is left.
    """
    family, kind, _, _, address = found
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        if family == socket.AF_UNIX:
            sock.bind("")  # any free abstract name: who has none can't be answered
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


@attrs.define(eq=False)
class Flow:
    """One source and its socket towards the target; a connection of the proxy's registry."""

    key: Key
    """What its source is known by."""
    target: Endpoint
    connection: Connection
    answer: Callable[[memoryview], int]
    """Sends to the source, from the address that it has asked."""
    handshake_timeout: float
    """Seconds for looking up a name."""
    receive: Callable[[Flow, socket.socket], None]
    """Receives one datagram of the target, and passes it on to the source.

    Raises:
        OSError: there is none, or the target refuses what it was sent.
    """
    ended: Callable[[Flow], None]
    """Is called once, when its outcome is known."""
    poll: Poll | None = None
    """What waits for its socket; without one, its task does."""
    over: bool = False
    answered: bool = False
    """Whether the target has said anything."""
    _sock: socket.socket | None = None
    _others: list[Found] | None = None
    """Addresses that were not tried yet; None until there are any."""
    _kept: list[bytes] = attrs.field(factory=list)
    """What was sent and not answered, for the next address."""
    _scope: trio.CancelScope | None = None

    def begin(self, found: list[Found]) -> None:
        """Open the socket; with what waits, if there is anything.

        Raises:
            OSError: none of the addresses can be reached; that was the end.
        """
        self._others = found
        if (error := self._advance(None)) is not None:
            raise error

    def pass_on(self, data: bytes | memoryview) -> int:
        """Send a datagram to the target, or keep it until that is possible.

        Raises:
            OSError: it cannot be sent; if the target refuses it, that was the end.
        """
        if self._others is None or (self._others and not self.answered):
            if len(self._kept) < _KEPT:
                self._kept.append(bytes(data))
            elif self._sock is None:
                raise OSError(errno.ENOBUFS, "too many datagrams wait for a name")
        if self._sock is None:
            return len(data)
        try:
            return self._sock.send(data)
        except OSError as error:
            if error.errno in _NO_REFUSAL or self._advance(error) is not None:
                raise
        return len(data)

    def _advance(self, error: OSError | None) -> OSError | None:
        """Turn to the next address, with what was not answered.

        Without one that is the end; then return why the first could not be reached.
        """
        self._close()
        while self._others and not self.answered:
            try:
                self._sock = open_towards(self._others.pop(0))
                if self.poll is not None:
                    self.poll.add(self._sock.fileno(), self._receive)
                self._resend(self._sock)
            except OSError as another:
                error = error or another
                self._close()
            else:
                return None
        error = error or OSError(errno.EADDRNOTAVAIL, "it has no address")
        why = error.strerror or str(error)
        self.connection.reason = f"target {self.target} cannot be reached: {why}"
        self.end(Outcome.ABORTED if shortage(error) else Outcome.UNREACHABLE)
        return error

    def _resend(self, sock: socket.socket) -> None:
        for each in self._kept:
            try:
                sock.send(each)
            except OSError as error:
                if error.errno not in _NO_REFUSAL:
                    raise
        if not self._others:
            self._kept.clear()

    async def run(self) -> None:
        """Pass on what the target says until the time is up; only cancellation leaves this."""
        try:
            if self._others is None:
                await self._look_up()
            await self._pass_replies()
        except Exception as error:  # noqa: BLE001  -- it would end the proxy
            self._crash(error)
        finally:
            self.end(Outcome.ABORTED)

    def _crash(self, error: Exception) -> None:
        if not self.over and not shortage(error):
            failure("passing on to %s failed", self.connection.peer.name)
        self.end(Outcome.CRASHED)

    async def _pass_replies(self) -> None:
        connection = self.connection
        while not self.over:
            with connection.watch(resumable=True) as self._scope:
                if self.poll is not None:
                    await trio.sleep_forever()
                while self._sock is not None:
                    with _TURNED:
                        await trio.lowlevel.wait_readable(self._sock)
                    self._receive()
            if connection.time_is_up():
                self._receive()  # what came if nobody ran us for a while
                if connection.time_is_up():
                    self.end(connection.timeout_outcome())

    async def _look_up(self) -> None:
        """Begin once the target's name is looked up; end if that fails or takes too long."""
        connection, target = self.connection, self.target
        timeout, most = connection.idle_timeout, self.handshake_timeout
        connection.begin_conversation(most)
        try:
            with connection.watch() as self._scope:
                kind = SOCKET_TYPES[target.kind]
                found = await look_up(target.host, target.port, kind)
                connection.begin_conversation(timeout)
                self._others = interleaved(found)
                self._advance(None)
        except OSError as error:
            self._advance(error)
        if self._others is None:
            outcome = connection.timeout_outcome()
            if outcome is Outcome.IDLE:
                self._advance(OSError(errno.ETIMEDOUT, f"it was not found within {most:g} s"))
            self.end(outcome)  # unless it is over

    def _receive(self) -> None:
        # What polls is called again if there is more; to find out that there isn't costs more.
        for _ in range(_BATCH if self.poll is None else 1):
            if self._sock is None:
                return
            try:
                self.receive(self, self._sock)
            except BlockingIOError:
                return
            except OSError as error:
                if not shortage(error):
                    self._advance(error)
                return
            except Exception as error:  # noqa: BLE001  -- likewise
                self._crash(error)

    def end(self, outcome: Outcome) -> None:
        """Record how it ended, unless it has; its task ends then."""
        if self.over:
            return
        self.over = True
        self._close()
        if self._scope is not None:
            self._scope.cancel(reason="the flow is over")
        self.connection.outcome = outcome
        self.ended(self)

    def _close(self) -> None:
        if self._sock is not None:
            if self.poll is not None:
                self.poll.remove(self._sock.fileno())
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()
            self._sock = None
