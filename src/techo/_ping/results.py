"""Results: what has come of a probe of ping."""

from __future__ import annotations

from typing import TypeAlias

import attrs

from techo._probing.failure_cause import FailureCause


@attrs.frozen
class PingReply:
    """A probe has come back, every byte of it."""

    seq: int
    """Which one, from 1."""
    size: int
    """Its bytes."""
    seconds: float
    """From sending it to the reply, by the monotonic clock."""
    at: float
    """When the reply came, in Unix time."""
    late: bool = False
    """Whether it had failed before, and now has not."""
    duplicate: bool = False
    """Whether it had come back before; counted apart."""


@attrs.frozen
class PingFailure:
    """A probe has failed, or the connection has between two probes."""

    seq: int | None
    """Which one; None if the failure cost no probe that was in flight."""
    cause: FailureCause
    """Why it has failed."""
    reason: str
    """The same in words."""
    at: float
    """When that became clear, in Unix time."""


PingResult: TypeAlias = PingReply | PingFailure
