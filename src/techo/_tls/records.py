"""TLS without a connection: OpenSSL turns records into bytes and bytes into records, in memory.

OpenSSL reads from one buffer and writes to another (`ssl.SSLObject`, two `MemoryBIO`). Who has
the connection moves the records: a transport by a task, the pump in its turns.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs
import trio

from techo._tls import alerts
from techo._tls.framing import Framing

ENDS: Final = (ssl.SSLEOFError, ssl.SSLSyscallError)
"""What OpenSSL raises where a connection ends in mid-handshake, or without close_notify."""

OVERHEAD: Final = 2**12
"""Bytes: more than records add to what is received at once. With them in one read, a message
that fits needs no second one for its last record."""


@attrs.define(eq=False)
class TlsRecords:
    """One side of one TLS connection, from before its handshake to close_notify."""

    tls: ssl.SSLObject
    """What was agreed on: version, cipher, the peer's certificate."""
    _incoming: ssl.MemoryBIO
    _outgoing: ssl.MemoryBIO
    feed: Callable[[bytes | bytearray | memoryview], int] = attrs.field(init=False)
    """Takes in what was received. A method of OpenSSL's, as the next: with no call between,
    because there is one for every message."""
    _read: Callable[[int, memoryview], int] = attrs.field(init=False)
    _write: Callable[[bytes | memoryview], int] = attrs.field(init=False)
    framing: Framing = attrs.field(factory=Framing)
    """How far into a record all goes that came by `feed_framed`."""
    peer_ended: bool = False
    """Whether close_notify has come."""
    eof_sent: bool = False
    """Whether close_notify was made, or as much of it as could be."""
    failure: ssl.SSLError | None = None
    """What the peer has done to TLS, after which nothing can be sent or received."""
    _kept: bytes = b""
    """Records that were taken, and could not be sent yet."""
    _tickets: int = 0
    """Bytes of session tickets that wait for the first reply."""

    @classmethod
    def of(
        cls,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        received: bytes = b"",
    ) -> TlsRecords:
        """Return the records of a new connection, of which `received` has come already.

        Raises:
            ValueError: `server_hostname` is no name that a certificate can have.
        """
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        incoming.write(received)
        tls = context.wrap_bio(incoming, outgoing, server_side, server_hostname)
        return cls(tls, incoming, outgoing)

    @feed.default
    def _make_feed(self) -> Callable[[bytes | bytearray | memoryview], int]:
        return self._incoming.write

    @_read.default
    def _make_read(self) -> Any:  # its type depends on the arguments
        return self.tls.read

    @_write.default
    def _make_write(self) -> Callable[[bytes | memoryview], int]:
        return self.tls.write

    def feed_framed(self, data: bytes | bytearray) -> None:
        """Take in what was received, and how far into a record it goes."""
        self.feed(data)
        self.framing.feed(data)

    def feed_end(self) -> None:
        """Take in the end of the connection."""
        self._incoming.write_eof()

    @property
    def made(self) -> bool:
        """Whether there are records that are to be sent without waiting for a reply."""
        return self._outgoing.pending > self._tickets or bool(self._kept)

    @property
    def fed(self) -> bool:
        """Whether something was received that was not looked at yet."""
        return bool(self._incoming.pending) or self._incoming.eof

    def shake_hands(self) -> bool:
        """Go on with the handshake; return whether it is done, or more has to be received.

        Raises:
            ssl.SSLError: the peer and we cannot agree; an alert may be among the records.
        """
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            self._fail(error)
            raise
        # Over TLS 1.3 only session tickets are left on a server's side. They leave with the
        # first reply, because a client that sends, closes and never reads would answer them
        # with a reset, which destroys what it has sent.
        if self.tls.server_side and self.tls.version() == "TLSv1.3":
            self._tickets = self._outgoing.pending
        return True

    def decrypt(self, room: memoryview) -> int:
        """Decrypt into `room` and return how many bytes; fewer than fit are all there are."""
        filled, most = 0, len(room)
        try:
            while True:
                size = self._read(most, room[filled:] if filled else room)
                if not size:
                    self.peer_ended = True
                    return filled
                filled += size
                # Most often nothing is left, which is known without the exception.
                if filled == most or not (self._incoming.pending or self._incoming.eof):
                    return filled
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:  # instead of 0 once we have sent close_notify
            self.peer_ended = True
        except ssl.SSLError as error:
            self._fail(error)
        return filled

    def encrypt(self, data: bytes | memoryview) -> bool:
        """Make records of `data`; return whether that could be done, as after no failure."""
        if not data or self.failure is not None:
            return self.failure is None
        try:
            self._write(
                data
            )  # all of it: Python does not ask for SSL_MODE_ENABLE_PARTIAL_WRITE
        except ssl.SSLError as error:
            self._fail(error)
            return False
        return True

    def _fail(self, error: ssl.SSLError) -> None:
        if self.failure is not None:
            return  # the first is the cause of the others
        self.failure = error
        if self._outgoing.pending > self._tickets:
            made = self._outgoing.read()
            alerts.note_sent(error, made)
            self._kept += made

    def take(self) -> bytes:
        """Return all records that are to be sent."""
        self._tickets = 0
        made = self._outgoing.read()
        if self._kept:
            made, self._kept = self._kept + made, b""
        return made

    def put_back(self, records: bytes, size: int) -> Iterator[bytes]:
        """Keep records that were not sent, piece by piece; a `take` follows each yield.

        Nothing is yielded, which is what is to be encrypted for each.
        """
        for start in range(0, len(records), size):
            self._kept = records[start : start + size]
            yield b""

    def end(self) -> None:
        """Make close_notify, if that can be done; what is not decrypted by then is lost."""
        # OpenSSL looks for the peer's close_notify right away, which may not have come, or
        # finds it too late.
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        self.eof_sent = True

    @property
    def error(self) -> trio.BrokenResourceError | None:
        """What is to be raised because of the failure, if there was one."""
        if self.failure is None:
            return None
        error = trio.BrokenResourceError(f"TLS failed: {alerts.in_words(self.failure)}")
        error.__cause__ = self.failure
        return error
