"""Framing: where one TLS record ends and the next begins (RFC 8446, 5.1). Bytes only, no I/O.

Who wants to know when the last byte of a record came must not receive more than that record.
"""

from __future__ import annotations

from typing import Final

import attrs

_HEADER: Final = 5
"""Bytes before the body of a record: its type, a version and, in two bytes, its length."""


@attrs.define(eq=False)
class Framing:
    """How far into a record all bytes go that were received so far."""

    _header: bytes = b""
    """What has come of the header, while it is not whole."""
    _body: int = 0
    """Bytes of the body that are missing, behind a whole header."""

    @property
    def missing(self) -> int:
        """How many bytes can be received without one of the next record, or of this body."""
        return self._body or _HEADER - len(self._header)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take in what was received."""
        start = 0
        while start < len(data):
            size = min(self.missing, len(data) - start)
            if self._body:
                self._body -= size  # counted and not copied, since this is most of it
            else:
                self._header += bytes(data[start : start + size])
                if len(self._header) == _HEADER:
                    self._body, self._header = int.from_bytes(self._header[3:], "big"), b""
            start += size
