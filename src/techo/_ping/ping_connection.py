"""The connection of ping: it is opened for a probe, carries it, and may break at any time."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import time
from typing import Final

import attrs
import trio

from techo._client.client import RECEIVE_SIZE
from techo._client.comparison import EchoMismatch
from techo._client.connecting import Line
from techo._client.datagram_socket import DatagramSocket
from techo._nursery import open_bare_nursery
from techo._packets import PacketStream
from techo._ping.ping_records import Probe, Records
from techo._ping.results import PingFailure
from techo._probing.causes import FailureCause, cause_of, words_of
from techo._probing.matching import InOrder, OneByOne, State
from techo._probing.opening import Opener, close_unless_fits
from techo._probing.payloads import Payloads

_BROKEN: Final = (OSError, trio.BrokenResourceError)
"""What the network and the server do to a connection; everything else is a bug."""

_MOST_UNANSWERED: Final = 10_000
_MOST_UNANSWERED_BYTES: Final = 2**24
"""Probes that a stream may owe, and how many bytes they may have, before it is given up: all of
them have to be kept, because any of them may still come back."""


@attrs.define(eq=False)
class PingConnection:
    """One connection after another, or one socket for datagrams, and what comes back."""

    _open: Opener
    _timeout: float
    """Seconds for connecting, and from sending to the reply."""
    _records: Records
    _payloads: Payloads
    _size: int | None
    """Bytes of every probe; None if they differ."""
    _line: Line | None = attrs.field(default=None, init=False)
    _connected: bool = attrs.field(default=False, init=False)
    """Whether there has been one."""
    _matching: InOrder[Probe] | OneByOne[Probe] = attrs.field(factory=InOrder, init=False)
    """What comes back over this one."""
    _sent: trio.Event = attrs.field(factory=trio.Event, init=False)
    """That the last probe was sent, or could not be."""
    _reset: bool = attrs.field(default=False, init=False)
    """Whether sending over this one has met a reset."""
    _waiting: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    unsent: Probe | None = attrs.field(default=None, init=False)
    """The probe of which nothing was sent when whoever asked for a result was cancelled."""
    in_vain: PingFailure | None = attrs.field(default=None, init=False)
    """What has become of the last probe, if all its time went by without a way to send it."""

    async def carry(self, probe: Probe, until: float) -> None:
        """Send a probe, connecting first if need be, and receive once, or until `until`."""
        self.unsent, self.in_vain = probe, None
        line = self._line or await self._connect(probe)
        if line is not None:
            await self._exchange(line, probe, until)

    async def aclose(self) -> None:
        """Close; over TLS with a farewell, which may take as long as a reply."""
        line, self._line = self._line, None
        if line is None:
            await trio.lowlevel.checkpoint()
            return
        with trio.move_on_after(self._timeout), contextlib.suppress(trio.BrokenResourceError):
            await line.aclose()

    async def _connect(self, probe: Probe) -> Line | None:
        """Open a connection; that there is none fails the probe."""
        try:
            with trio.fail_at(probe.sent + self._timeout):
                line, setup = await self._open()
        except trio.TooSlowError:
            self.in_vain = self._fail_overdue(probe)
            return None
        except _BROKEN as error:
            self.in_vain = self._fail(probe, cause_of(error), words_of(error))
            return None
        if self._size is not None:
            await close_unless_fits(line, self._size)
        self._line, self._reset = line, False
        self._matching = (
            OneByOne(self._payloads)
            if isinstance(line, DatagramSocket | PacketStream)
            else InOrder()
        )
        again = self._connected and not isinstance(line, DatagramSocket)
        self._records.connected(setup, again=again)
        self._connected = True
        return line

    async def _exchange(self, line: Line, probe: Probe, until: float) -> None:
        """Send a probe, and receive meanwhile: what is long may come back before it is sent."""
        probe.sent, probe.connected = trio.current_time(), True
        sent = self._sent = trio.Event()
        try:
            async with open_bare_nursery() as nursery:
                # By another task, so that this one waits already when the reply comes.
                nursery.start_soon(self._send, line, probe, sent)
                await self.receive(until)
                if not sent.is_set():
                    nursery.start_soon(self._receive_on, line)
                    with trio.move_on_at(probe.sent + self._timeout):
                        await sent.wait()
                nursery.cancel_scope.cancel(reason="the probe was sent, or will not be")
        finally:
            if not sent.is_set() and self._line is line and self.unsent is None:
                await self._break_off(line, probe)  # noqa: ASYNC102  -- does not wait

    async def _send(self, line: Line, probe: Probe, sent: trio.Event) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()  # from here on, some of it may be sent
        self.unsent = None
        self._matching.expect(probe)
        probe.sent, probe.sent_at = trio.current_time(), time.time()
        try:
            if isinstance(line, DatagramSocket):
                await line.send(probe.payload)
            else:
                await line.send_all(probe.payload)
        except OSError as error:  # which costs this message; a stream breaks as a whole
            if probe in self._records.in_flight:
                self._fail(probe, cause_of(error), words_of(error))
            self._waiting.cancel(reason="the probe could not be sent")
            if isinstance(line, DatagramSocket):
                await self._let_go(line)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            # The receiving side tells, and what had come back before. But of a reset the system
            # tells only one side; to the other it looks like an end.
            # Sending once more over the same meets a broken pipe, which tells nothing new.
            self._reset = self._reset or isinstance(error.__cause__, ConnectionResetError)
        sent.set()

    async def _break_off(self, line: Line, probe: Probe) -> None:
        """Fail a probe that was not sent whole, and close what carries nothing behind it."""
        slow = trio.current_time() >= probe.sent + self._timeout
        reason = f"not sent within {self._timeout:g} s" if slow else "not sent: cancelled"
        if not isinstance(line, DatagramSocket):
            failure = await self._hang_up(FailureCause.TIMEOUT_REPLY, reason)
            self.in_vain = failure if slow else None
            return
        if probe in self._records.in_flight:  # it alone: others are on their way
            failure = self._fail(probe, FailureCause.TIMEOUT_REPLY, reason)
            self.in_vain = failure if slow else None
        await self._let_go(line)

    async def _receive_on(self, line: Line) -> None:
        while self._line is line:
            await self.receive(math.inf)

    async def receive(self, until: float) -> None:
        """Take in what comes next, but wait no longer than `until`."""
        line = self._line
        with trio.CancelScope(deadline=until) as self._waiting:
            try:
                if line is None:
                    await trio.sleep_forever()
                elif isinstance(line, DatagramSocket):
                    self._take_in(await line.receive())
                elif chunk := await line.receive_some(RECEIVE_SIZE):
                    self._take_in(chunk)
                else:
                    await self._ended()
            except EchoMismatch as error:
                self._records.count_corrupt()
                await self._hang_up(FailureCause.CORRUPT, str(error))
            except _BROKEN as error:
                if (
                    cause := cause_of(error)
                ) is FailureCause.EOF:  # over TLS, without its farewell
                    await self._ended()
                else:
                    await self._hang_up(cause, words_of(error))

    def _take_in(self, chunk: bytes | bytearray) -> None:
        """Note which probes have come back.

        Raises:
            EchoMismatch: over a stream, something else has.
        """
        now = trio.current_time()
        for state, probe in self._matching.feed(chunk):
            if state is State.FORGOTTEN:  # no harm, and too late to tell which probe it was
                continue
            if probe is None:
                self._records.count_corrupt()
                self._records.fail(
                    None, FailureCause.CORRUPT, "what came back was not sent", now
                )
            elif state is State.SHORT:
                self._fail(
                    probe, FailureCause.SHORT, f"{len(chunk)} of {len(probe.payload)} bytes"
                )
            elif state is State.CORRUPT:
                self._records.count_corrupt()
                self._fail(probe, FailureCause.CORRUPT, "it came back altered")
            else:
                self._records.answer(probe, now)

    def lose(self, probe: Probe, like: PingFailure) -> None:
        """Fail a probe that was due while another was carried in vain, for the same reason."""
        self._fail(probe, like.cause, like.reason)

    def _fail(self, probe: Probe, cause: FailureCause, reason: str) -> PingFailure:
        if isinstance(self._matching, OneByOne):
            self._matching.give_up(probe)
        return self._records.fail(probe, cause, reason, trio.current_time())

    async def _ended(self) -> None:
        try:
            await self._let_go(self._line)
            await self._sent.wait()  # which closing makes short; then that side has told
        finally:
            await self._hang_up(*self._end())  # noqa: ASYNC102  -- does not wait

    def _end(self) -> tuple[FailureCause, str]:
        """Say what kind of end it was."""
        if self._reset:
            return FailureCause.RESET, os.strerror(errno.ECONNRESET).lower()
        if isinstance(self._matching, InOrder) and self._matching.midway:
            return FailureCause.SHORT, "the server ended the connection in mid-reply"
        return FailureCause.EOF, "the server ended the connection"

    async def _hang_up(self, cause: FailureCause, reason: str) -> PingFailure:
        """Fail what is under way, and close what can carry no more; the next probe connects.

        An error over datagrams is about one that was sent before; the others may come back.
        """
        line, probes = self._line, tuple(self._records.in_flight)
        if isinstance(line, DatagramSocket):
            probes = probes[:1]
        failures = [self._fail(probe, cause, reason) for probe in probes]
        if not probes:
            failures.append(self._records.fail(None, cause, reason, trio.current_time()))
        await self._let_go(line)
        return failures[-1]

    async def _let_go(self, line: Line | None) -> None:
        """Close a connection, but of what carries datagrams only if none is under way."""
        if line is None or (isinstance(line, DatagramSocket) and self._records.in_flight):
            return
        self._line = None
        await trio.aclose_forcefully(line)

    async def give_up_overdue(self, now: float) -> None:
        """Fail the probes whose time is up; they are still recognised if they come.

        Not for ever: a connection that owes too many is closed.
        """
        overdue = None
        for probe in tuple(self._records.in_flight):
            if probe is self.unsent and probe.connected:
                continue
            if probe.sent + self._timeout > now:
                break
            self._fail_overdue(probe)
            overdue = probe
        if overdue and self._line is not None and isinstance(self._matching, InOrder):
            unanswered = self._matching.owed - len(self._records.in_flight)
            most = min(_MOST_UNANSWERED, _MOST_UNANSWERED_BYTES // len(overdue.payload))
            if unanswered >= max(1, most):
                await self._hang_up(
                    FailureCause.TIMEOUT_REPLY, f"{unanswered} probes not answered"
                )

    def _fail_overdue(self, probe: Probe) -> PingFailure:
        cause, what = FailureCause.TIMEOUT_REPLY, "reply"
        if not probe.connected:
            cause, what = FailureCause.TIMEOUT_CONNECT, "connection"
        return self._fail(probe, cause, f"no {what} within {self._timeout:g} s")
