"""Buckets: so many datagrams a second from each source, in bounded memory."""

from __future__ import annotations

from typing import Final

import attrs

MOST_SOURCES: Final = 2**16
"""Sources remembered at once: what a bucket holds is back in a second, so more than these would
have to send in one second before one of them got more than its share."""

_BURST: Final = 1.0
"""Seconds' worth of datagrams that a source may send at once after a pause."""

_ROUNDING: Final = 1e-6
"""Seconds: adding up a second's worth of fractions does not make quite a second."""


@attrs.define(eq=False)
class Buckets:
    """A token bucket for each source, in bounded memory.

    What is kept of a bucket is when it will be full, from which the tokens in it follow (the
    generic cell rate algorithm of ITU-T I.371).
    """

    per_second: float
    """Datagrams that each source may send."""
    _full_at: dict[object, float] = attrs.field(factory=dict)
    """In the order in which they were last used, so that the first is the one to forget."""

    def admit(self, source: object, now: float) -> bool:
        """Take a token from the bucket of `source` at `now` s; return whether there was one."""
        full_at = max(self._full_at.pop(source, now), now)
        admitted = full_at + 1 / self.per_second <= now + _BURST + _ROUNDING
        if admitted:
            full_at += 1 / self.per_second
        self._full_at[source] = full_at
        if len(self._full_at) > MOST_SOURCES:
            del self._full_at[next(iter(self._full_at))]
        return admitted
