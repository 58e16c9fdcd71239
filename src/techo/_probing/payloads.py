"""Payloads: what is sent, so that every message of 8 bytes or more differs from every other."""

from __future__ import annotations

import random
import secrets
from typing import Final

import attrs

from techo._validation import whole

_STEPS: Final = 1021
"""A prime, so that the pattern does not come round together with anything."""

LARGEST: Final = 2**27
"""Bytes; some two times this is what Python can make of random bytes at once."""

SIZE: Final = whole(1, LARGEST)
"""What the size of a message has to be."""

HEADER: Final = 16
"""Bytes that tell which message it is: its number, low byte first, and the run's nonce. Of a
shorter message, as much of them as fits."""


@attrs.define(eq=False)
class Payloads:
    """The payloads of one run."""

    largest: int
    """Bytes that a payload may have."""
    nonce: bytes = attrs.field(factory=lambda: secrets.token_bytes(HEADER // 2))
    """What makes this run's messages differ from another's."""
    least: int = attrs.field(default=1, kw_only=True)
    """Bytes that it has at the least."""
    _last: int = attrs.field(default=0, init=False)
    """The number of the last that was made."""
    _pattern: bytes = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        seed = int.from_bytes(self.nonce, "little")
        self._pattern = random.Random(seed).randbytes(self.largest + _STEPS)  # noqa: S311  -- no secret

    def make(self, number: int, size: int) -> bytes:
        """Return the payload of message `number`, which has `size` bytes. Numbers go up."""
        self._last = number
        return self._payload(number, size)

    def made(self, payload: bytes) -> bool:
        """Return whether it is one of this run's and has a whole header."""
        number = int.from_bytes(payload[: HEADER // 2], "little")
        return (
            max(HEADER, self.least) <= len(payload)
            and 0 < number <= self._last
            and payload == self._payload(number, len(payload))
        )

    def _payload(self, number: int, size: int) -> bytes:
        start = number % _STEPS
        rest = self._pattern[start : start + size - HEADER] if size > HEADER else b""
        return (number.to_bytes(HEADER // 2, "little") + self.nonce + rest)[:size]
