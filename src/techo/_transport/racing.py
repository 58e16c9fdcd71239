"""Datagrams to a name with several addresses: the one that answers first is kept.

Connecting such a socket does not show whether a server is there; only an answer does. So what
is sent goes to one address after the other, as connections do (RFC 8305): while none has
answered, the next gets it too after 250 ms, or at once when one before refuses it.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import math
from collections.abc import Callable, Iterator
from typing import Final

import trio

from techo._transport.messages import DatagramTransport
from techo._transport.transport import RECEIVE_SIZE, Transport

ATTEMPT_DELAY: Final = 0.25
"""Seconds from one attempt to the next while none has failed (RFC 8305, section 5)."""

_MOST_COPIES: Final = 64
"""Datagrams that are kept for the addresses not tried yet; of more, the oldest go."""


class RacingTransport(Transport):
    """A socket for each address, of which all but one are closed when that has answered."""

    keeps_messages = True
    connectionless = True
    half_closeable = False

    def __init__(
        self, sockets: list[DatagramTransport], reopen: Callable[[], list[DatagramTransport]]
    ) -> None:
        self._first, self._untried = sockets[0], collections.deque(sockets)
        self._tried: list[DatagramTransport] = []
        self._kept: DatagramTransport | None = None
        self._reopen = reopen
        """Opens the sockets again; raises OSError if there is a way to no address."""
        self._copies = collections.deque[bytes](maxlen=_MOST_COPIES)
        """What was sent before all addresses were tried."""
        self._next_at = math.inf
        """When the next address is tried."""
        self._changed = trio.Event()
        """Set when a task that receives has something else to wait for."""
        self._answer: bytes | None = None
        """The first, until it is received."""
        self._failures: dict[DatagramTransport, OSError] = {}
        """Why addresses failed, in that order; emptied when the first of them is raised."""
        self._largest = min(each.largest for each in sockets)

    @property
    def largest(self) -> int:
        return self._largest

    @property
    def one(self) -> DatagramTransport:
        return self._kept or self._first

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        if (kept := self._kept) is not None:
            with self._dropped_if_it_fails(kept):
                await kept.send(data)
            return
        if not self._tried and not self._untried:
            self._untried.extend(self._reopen())
        if self._untried:
            self._copies.append(bytes(data))
        for each in tuple(self._tried):
            with self._noting_failure_of(each):
                await each.send(data)
        if self._untried and not self._tried:  # it may have been answered meanwhile
            await self._try_next()

    async def receive(self, most: int = RECEIVE_SIZE) -> bytes:  # noqa: ARG002  -- it comes whole
        while self._kept is None and self._answer is None:
            if self._failures and len(self._failures) == len(self._tried) + len(self._untried):
                failure = next(iter(self._failures.values()))
                self._failures.clear()
                raise failure
            self._changed = trio.Event()
            async with trio.open_nursery() as nursery:
                for each in self._tried:
                    nursery.start_soon(self._await_answer, each)
                with trio.move_on_at(self._next_at):
                    await self._changed.wait()
                nursery.cancel_scope.cancel(reason="something has changed")
            if self._next_at <= trio.current_time():
                await self._try_next()
        if self._answer is not None:
            await trio.lowlevel.checkpoint()
            answer, self._answer = self._answer, None
            return answer
        try:
            with self._dropped_if_it_fails(self.one):
                return await self.one.receive()
        except trio.ClosedResourceError:
            if self._kept is not None:
                raise
        return await self.receive()  # what was kept has failed to send, and others may answer

    async def send_eof(self) -> None:
        await self.one.send_eof()

    async def aclose(self) -> None:
        self._keep(self.one)  # which raises what a closed one does
        await self.one.aclose()

    async def _try_next(self) -> None:
        """Send the next address what those before have not answered."""
        each, copies = self._untried.popleft(), tuple(self._copies)
        self._tried.append(each)
        self._next_at = trio.current_time() + ATTEMPT_DELAY if self._untried else math.inf
        self._changed.set()
        for data in copies:
            with self._noting_failure_of(each):
                await each.send(data)

    async def _await_answer(self, each: DatagramTransport) -> None:
        with self._noting_failure_of(each):
            answer = await each.receive()
            if self._kept is None:
                self._keep(each)
                self._answer, self.address = answer, each.address

    @contextlib.contextmanager
    def _noting_failure_of(self, each: DatagramTransport) -> Iterator[None]:
        """Go on to the next address; this one may still answer what is sent later."""
        try:
            yield
        except trio.ClosedResourceError:
            return  # another has answered
        except OSError as error:
            if self._kept is None:
                self._failures.setdefault(each, error)
                self._next_at = trio.current_time() if self._untried else math.inf
                self._changed.set()

    def _keep(self, kept: DatagramTransport) -> None:
        for each in {*self._tried, *self._untried} - {kept}:
            each.socket.close()
        for them in (self._tried, self._untried, self._copies, self._failures):
            them.clear()
        self._next_at, self._kept = math.inf, kept
        self.socket, self.packet_format = kept.socket, kept.packet_format
        self._changed.set()

    @contextlib.contextmanager
    def _dropped_if_it_fails(self, kept: DatagramTransport) -> Iterator[None]:
        """Begin again with the next datagram, unless the last one was just too large."""
        try:
            yield
        except OSError as error:
            if self._kept is kept and error.errno != errno.EMSGSIZE:
                kept.socket.close()
                self._kept = self.socket = None
            raise
