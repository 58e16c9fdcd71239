"""TLS as a transport: OpenSSL works in memory, and the transport below moves the records.

OpenSSL reads from one buffer and writes to another (`ssl.SSLObject`, two `MemoryBIO`), which
never waits. Only the holder of the send lock empties the outgoing buffer, so that records leave
in the order in which they were made. Receiving never waits for that lock: its holder may be
waiting for the peer to read, and the peer for us.
"""

from __future__ import annotations

import contextlib
import math
import ssl
from typing import Final, NoReturn

import trio

from techo._transport.transport import RECEIVE_SIZE, Transport

_PIECE: Final = 2**16
"""Bytes encrypted at a time: four records, so that little of a long message is held twice."""

_ALERT_TIMEOUT: Final = 1.0
"""Seconds for an alert to leave: it is tens of bytes, and only waits for a peer that does not
read."""

ENDS: Final = (ssl.SSLEOFError, ssl.SSLSyscallError)
"""What OpenSSL raises where a connection ends in mid-handshake, or without close_notify."""

_GONE: Final = contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError)
"""For last words, to a peer that may have left."""


class TlsTransport(Transport):
    """TLS over another transport, which belongs to it from now on.

    Raises:
        ValueError: `server_hostname` is no name that a certificate can have.
    """

    half_closeable = False
    secure = True

    def __init__(
        self,
        below: Transport,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        received: bytes = b"",  # by who looks at the beginning first, as nobody does yet
    ) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._incoming.write(received)
        self.tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side, server_hostname
        )
        """What was agreed on: version, cipher, the peer's certificate."""
        self.handshake_done = False
        self.socket = below.socket
        self.fed_at = -math.inf
        self._below = below
        self._sending = trio.Lock()
        self._unsendable = False
        """Whether a record may have left in part, so that no other can follow."""
        self._tickets = 0
        """Bytes of session tickets that wait for the first reply."""
        self._plain = bytearray()
        """What was decrypted and not yet received."""
        self._peer_ended = False
        """Whether close_notify has come."""
        self._eof_sent = False
        """Whether close_notify was sent, or as much of it as could be."""
        self._failure: ssl.SSLError | None = None
        """What the peer has done to TLS, after which nothing can be sent or received."""
        self._closed = False

    async def handshake(self) -> None:
        self._check_open()
        if self.handshake_done:
            await trio.lowlevel.checkpoint()
            return
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
            except ssl.SSLError as error:
                self._failure = error
                await self._send_alert()  # noqa: ASYNC120  -- cancelled, nobody asks why
                if isinstance(error, ENDS):
                    self._raise_broken(error)
                raise
        # Over TLS 1.3 only session tickets are left on a server's side. They leave with the
        # first reply, because a client that sends, closes and never reads would answer them
        # with a reset, which destroys what it has sent.
        if not (self.tls.server_side and self.tls.version() == "TLSv1.3"):
            await self._flush()
        self._tickets = self._outgoing.pending
        self.handshake_done = True

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`; see `Transport.send`.

        After cancellation, in which a record may have been sent in part, nothing more can be
        sent; receiving goes on.
        """
        self._check_ready()
        rest = memoryview(data).cast("B")
        async with self._sending:
            self._check_sendable()
            while True:
                if rest:
                    try:
                        rest = rest[self.tls.write(rest[:_PIECE]) :]
                    except ssl.SSLError as error:
                        self._failure = error
                        self._raise_broken(error)
                await self._send_made()
                if not rest:
                    return

    async def receive(self, most: int = RECEIVE_SIZE) -> bytes | bytearray | None:
        """Receive up to `most` bytes; None is the peer's close_notify.

        Raises:
            trio.BrokenResourceError: the connection broke or, from `ssl.SSLError`, TLS failed;
                from `ssl.SSLEOFError`, it ended without close_notify, maybe too early.
            trio.ClosedResourceError: this end was closed.
        """
        self._check_ready()
        await trio.lowlevel.checkpoint_if_cancelled()
        self._decrypt()
        if self._plain or self._peer_ended:
            await trio.lowlevel.cancel_shielded_checkpoint()
        while not self._plain and not self._peer_ended:
            if self._failure is not None:
                await self._send_alert()
                self._raise_broken(self._failure)
            if self._outgoing.pending > self._tickets and not self._sending.locked():
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
        async with self._sending:
            if self._eof_sent:
                return
            self._check_sendable()
            await self._send_close_notify()
            await self._below.send_eof()

    async def aclose(self) -> None:
        """Send close_notify if that can be done, and close without waiting for the peer's."""
        over = self._closed or self._unsendable or self._eof_sent or self._failure is not None
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
        if self._eof_sent:
            raise trio.ClosedResourceError("nothing can be sent after send_eof")
        if self._failure is not None:
            self._raise_broken(self._failure)
        if self._unsendable:
            raise trio.BrokenResourceError("sending was broken off in mid-record")

    def _raise_broken(self, error: ssl.SSLError) -> NoReturn:
        raise trio.BrokenResourceError(f"TLS failed: {error}") from error

    def _decrypt(self) -> None:
        """Decrypt all that has arrived, up to its end or a failure."""
        while not self._peer_ended and self._failure is None:
            try:
                data = self.tls.read(RECEIVE_SIZE)
            except ssl.SSLWantReadError:
                return
            except ssl.SSLZeroReturnError:  # instead of b"" once we have sent close_notify
                data = b""
            except ssl.SSLError as error:
                self._failure = error
                return
            self._plain += data
            self._peer_ended = not data
            if not self._incoming.pending and not self._incoming.eof:
                return  # without the exception that would say so

    async def _feed(self) -> None:
        """Receive from below once; cancellation loses nothing."""
        data = await self._below.receive(RECEIVE_SIZE)
        self.fed_at = trio.current_time()
        if data is None:
            self._incoming.write_eof()
        else:
            self._incoming.write(data)

    async def _flush(self) -> None:
        async with self._sending:
            if not self._unsendable and not self._eof_sent:
                await self._send_made()

    async def _send_made(self) -> None:
        """Send the records made so far, also by a receiver meanwhile; needs the send lock."""
        self._tickets = 0
        while made := self._outgoing.read():
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
        # OpenSSL looks for the peer's close_notify right away, and must find nothing before it.
        self._decrypt()
        with contextlib.suppress(ssl.SSLError):  # the peer's has not come, or it is too late
            self.tls.unwrap()
        await self._send_made()
        self._eof_sent = True
