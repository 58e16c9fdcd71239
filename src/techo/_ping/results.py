"""Results: what has come of a probe of ping."""

from __future__ import annotations

from typing import Any, TypeAlias

import attrs

from techo._kernel.packets import hops_of
from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import nanoseconds
from techo._probing.trip import Clock
from techo._schema import headed


@attrs.frozen
class PingReply:
    """A probe has come back, every byte of it."""

    seq: int
    """Which one, from 1."""
    size: int
    """Its bytes."""
    seconds: float
    """From sending it to the reply, by `clock`."""
    at: float
    """When the reply came, in Unix time."""
    late: bool = False
    """Whether it had failed before, and now has not."""
    duplicate: bool = False
    """Whether it had come back before; counted apart."""
    clock: Clock = Clock.USER
    """Which clock timed it: the kernel's, or this program's."""
    client: float | None = None
    """Seconds that this program needed besides, until it had sent and received it; None if it
    was not timed by the kernel."""
    ttl: int | None = None
    """How many hops its packet had left, of datagrams; None if that is not known."""
    dscp: int | None = None
    """Its packet's class of service, likewise."""
    ecn: int | None = None
    """Whether its packet takes part in ECN, 0 to 3 (RFC 3168), likewise; 3 is congestion."""

    @property
    def hops(self) -> int | None:
        """How many routers its packet has passed, as its TTL suggests; None if it does not."""
        return None if self.ttl is None else hops_of(self.ttl)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it: whole nanoseconds where the name ends in _ns."""
        return headed(
            "reply",
            seq=self.seq,
            size_bytes=self.size,
            latency_ns=nanoseconds(self.seconds),
            late=self.late,
            duplicate=self.duplicate,
            clock=self.clock,
            client_ns=None if self.client is None else nanoseconds(self.client),
            ttl=self.ttl,
            hops=self.hops,
            dscp=self.dscp,
            ecn=self.ecn,
            at_ns=nanoseconds(self.at),
        )


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

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it: whole nanoseconds where the name ends in _ns."""
        return headed(
            "failure",
            seq=self.seq,
            cause=self.cause,
            reason=self.reason,
            at_ns=nanoseconds(self.at),
        )


PingResult: TypeAlias = PingReply | PingFailure
