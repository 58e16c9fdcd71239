"""TLS as a transport: tasks move the records between `TlsRecords` and the transport below.

Only the holder of the send lock takes records, so that they leave in the order in which they
were made. Receiving never waits for that lock: its holder may be waiting for the peer to read,
and the peer for us.
"""

from __future__ import annotations

import contextlib
import math
import ssl
from typing import Final

import trio

from techo._tls.gate import HandshakeGate
from techo._tls.records import ENDS, TlsRecords
from techo._transport.transport import RECEIVE_SIZE, Transport

_PIECE: Final = 2**16
"""Bytes encrypted at a time: four records, so that little of a long message is held twice."""

_ALERT_TIMEOUT: Final = 1.0
"""Seconds for an alert to leave: it is tens of bytes, and only waits for a peer that does not
read."""

_GONE: Final = contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError)
"""For last words, to a peer that may have left."""


class TlsTransport(Transport):
    """TLS over another transport, which belongs to it from now on.

    Raises:
        ValueError: `server_hostname` is no name that a certificate can have.
    """

    half_closeable = False
    secure = True
    records: TlsRecords

    def __init__(
        self,
        below: Transport,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        received: bytes = b"",  # by who looks at the beginning first, as nobody does yet
    ) -> None:
        self.records = TlsRecords.of(
            context,
            server_side=server_side,
            server_hostname=server_hostname,
            received=received,
        )
        self.handshake_done = False
        self.socket = below.socket
        self.pumpable = below.pumpable
        self.fed_at = -math.inf
        self._below = below
        self._sending = trio.Lock()
        self._unsendable = False
        """Whether a record may have left in part, so that no other can follow."""
        self._plain = bytearray()
        """What was decrypted and not yet received."""
        self._closed = False

    async def handshake(self) -> None:
        self._check_open()
        if self.handshake_done:
            await trio.lowlevel.checkpoint()
            return
        gate = HandshakeGate.of_this_run()
        fed_at, self.fed_at = self.fed_at, math.inf  # in the line, it is what came that waits
        try:
            # A server has nothing to say before the client's hello has come.
            listen = self.records.tls.server_side and not self.records.fed
            while listen or not await gate.step(self.records):
                listen, self.fed_at = False, fed_at
                if self.records.made:
                    await self._flush()
                await self._feed()
                fed_at, self.fed_at = self.fed_at, math.inf
            self.fed_at = fed_at
        except ssl.SSLError as error:
            await self._send_alert()  # noqa: ASYNC120  -- cancelled, nobody asks why
            if isinstance(error, ENDS):
                raise trio.BrokenResourceError(
                    "the connection ended in mid-handshake"
                ) from error
            raise
        if self.records.made:
            await self._flush()
        self.handshake_done = True

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`; see `Transport.send`.

        After cancellation, in which a record may have been sent in part, nothing more can be
        sent; receiving goes on.
        """
        self._check_ready()
        if self.records.failure is not None:
            await self._send_alert()
        rest = memoryview(data).cast("B")
        await (self._lock() if rest else self._sending.acquire())
        try:
            self._check_sendable()
            while True:
                self.records.encrypt(rest[:_PIECE])
                self._check_sendable()
                await self._send_made()
                if not (rest := rest[_PIECE:]):
                    return
        finally:
            self._sending.release()

    async def receive(self, most: int = RECEIVE_SIZE) -> bytes | bytearray | None:
        """Receive up to `most` bytes; None is the peer's close_notify.

        Raises:
            trio.BrokenResourceError: the connection broke or, from `ssl.SSLError`, TLS failed;
                from `ssl.SSLEOFError`, it ended without close_notify, maybe too early.
            trio.ClosedResourceError: this end was closed.
        """
        self._check_ready()
        await trio.lowlevel.checkpoint_if_cancelled()
        records = self.records
        if not self._plain:
            self._decrypt()
        if self._plain or records.peer_ended:
            await trio.lowlevel.cancel_shielded_checkpoint()
        while not self._plain and not records.peer_ended:
            if records.error is not None:
                await self._send_alert()
                raise records.error
            if records.made and not self._sending.locked():
                await self._flush()  # such as a certificate asked for late (RFC 8446, 4.6.2)
            await self._feed()
            self._decrypt()
        if len(self._plain) <= most:
            taken, self._plain = self._plain, bytearray()
        else:
            taken = self._plain[:most]
            del self._plain[:most]
        return taken or None

    async def send_eof(self) -> None:
        """Send close_notify and half-close what is below; see `Transport.send_eof`.

        What the peer still sends can be received, but most peers send nothing after that.
        """
        self._check_ready()
        await self._lock()
        try:
            if self.records.eof_sent:
                await trio.lowlevel.checkpoint()
                return
            self._check_sendable()
            await self._send_close_notify()
            await self._below.send_eof()
        finally:
            self._sending.release()

    async def aclose(self) -> None:
        """Send close_notify if that can be done, and close without waiting for the peer's."""
        records = self.records
        over = self._closed or self._unsendable or records.eof_sent
        over = over or records.failure is not None
        self._closed = True
        if self.handshake_done and not over and not self._sending.locked():
            try:
                async with self._sending:
                    with _GONE:
                        await self._send_close_notify()
            except BaseException:
                await trio.aclose_forcefully(self._below)
                raise
        await self._below.aclose()

    async def reset(self) -> None:
        self._closed = True
        await self._below.reset()

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this end was closed")

    def _check_ready(self) -> None:
        self._check_open()
        if not self.handshake_done:
            raise trio.NeedHandshakeError

    def _check_sendable(self) -> None:
        self._check_open()
        if self.records.eof_sent:
            raise trio.ClosedResourceError("nothing can be sent after send_eof")
        if self.records.error is not None:
            raise self.records.error
        if self._unsendable:
            raise trio.BrokenResourceError("sending was broken off in mid-record")

    def _decrypt(self) -> None:
        """Decrypt all that has arrived, up to its end or a failure."""
        room = memoryview(bytearray(RECEIVE_SIZE))
        while size := self.records.decrypt(room):
            self._plain += room[:size]
            if size < RECEIVE_SIZE:
                return

    async def _feed(self) -> None:
        """Receive from below once; cancellation loses nothing."""
        data = await self._below.receive(RECEIVE_SIZE)
        self.fed_at = trio.current_time()
        if data is None:
            self.records.feed_end()
        else:
            self.records.feed_framed(data)

    async def _lock(self) -> None:
        """Take the send lock; if it is free, without the checkpoint that sending is."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._sending.acquire_nowait()
        except trio.WouldBlock:
            await self._sending.acquire()

    async def _flush(self) -> None:
        await self._lock()
        try:
            if not self._unsendable and not self.records.eof_sent:
                await self._send_made()
        finally:
            self._sending.release()

    async def _send_made(self) -> None:
        """Send the records made so far, also by a receiver meanwhile; needs the send lock."""
        while made := self.records.take():
            try:
                await self._below.send(made)
            except BaseException:
                self._unsendable = True
                raise

    async def _send_alert(self) -> None:
        """Let the peer know what was wrong with it, if it reads (RFC 8446, 6.2)."""
        if self._sending.locked():
            return  # its holder sends the alert, if that is still possible
        with trio.move_on_after(_ALERT_TIMEOUT), _GONE:
            await self._flush()

    async def _send_close_notify(self) -> None:
        self._decrypt()
        self.records.end()
        await self._send_made()
