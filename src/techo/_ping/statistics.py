"""The statistics of ping: what has become of all probes, and how JSON has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from techo._kernel.mptcp import MptcpPaths
from techo._kernel.tcp_info import TcpInfo
from techo._probing.failure_cause import NEVER_REACHED, FailureCause
from techo._probing.histogram import Histogram, figures_to_json, nanoseconds
from techo._probing.outages import Outage, outages_to_json
from techo._probing.trip import Clock
from techo._reprs import brief
from techo._schema import headed

_COUNTS: Final = (
    "endpoint",
    "address",
    "sent",
    "received",
    "lost",
    "in_flight",
    "missed",
    "late",
    "duplicate",
    "corrupt",
    "stray",
    "dropped_here",
    "reconnects",
)


@attrs.frozen(kw_only=True)
class PingStatistics:
    """What has become of the probes so far: ``sent == received + lost + in_flight``."""

    endpoint: str
    """What was probed, as text."""
    address: str | None
    """Where the connection led, or that has answered of several to a udp name; several if it
    led to more than one in turn, the latest last; None if that is not known."""
    sent: int
    """Probes that were due, sent or not."""
    received: int
    """Of these, how many came back, late ones included."""
    lost: int
    """How many have failed: the sum of `failures`."""
    in_flight: int
    """How many are still waited for."""
    missed: int
    """Probes that were not sent when they were due, because the program was busy or too many
    results waited; not in `sent`."""
    late: int
    """How many came back after they had failed, and are not lost."""
    duplicate: int
    """Replies to what had been answered before; not in `received`."""
    corrupt: int
    """Replies that were not what was sent."""
    stray: int
    """Datagrams and messages that belong to no probe, and harm none."""
    failures: Mapping[FailureCause, int]
    """How many were lost for which cause."""
    reconnects: int
    """Times that the connection was opened again."""
    largest: int | None
    """Bytes of the largest probe that came back; None if none did."""
    latency: Histogram
    """From sending to the reply, of all that came back."""
    clocks: Mapping[Clock, int]
    """How many of these were timed by which clock."""
    client: Histogram
    """What this program needed besides, until it had sent and received: the user's time less
    the kernel's, of all that the kernel timed."""
    mdev: int | None
    """Standard deviation of `latency`, in nanoseconds; None if nothing came back."""
    jitter: int | None
    """By how much one of `latency` differs from the one before, on average, in nanoseconds."""
    outages: int
    """How often nothing came back for a while."""
    outage_seconds: float
    """Of all outages together."""
    longest_outage: Outage | None
    """The longest of these; None if there was none."""
    setup: Mapping[str, Histogram]
    """How long each ``lookup`` of the name, ``connect`` and TLS ``handshake`` took, where
    there was one."""
    path_mtu: int | None = None
    """Bytes of the largest packet on the way; None unless something was too large."""
    path_mtu_from: str | None = None
    """The address of the router that has said so; None if this machine knew it already."""
    certificate_end: float | None = None
    """Until when the server's certificate is valid, in Unix time; None if there is none."""
    certificate_days: int | None = None
    """Whole days from now until then; below 0 if it has expired."""
    mptcp: MptcpPaths | None = None
    """What the connections have become, if they were to be MPTCP; None if they were not."""
    tcp: TcpInfo | None = None
    """What TCP says of the latest connection, with the `retransmits`, the `lost` segments and
    the `reorderings` of all; None without TCP."""
    dropped_here: int = 0
    """Datagrams that this program's own socket had no room for, which `lost` includes."""

    def __repr__(self) -> str:
        return brief(self)

    @property
    def loss(self) -> float | None:
        """The share that was lost of what is no longer in flight, in per cent."""
        over = self.received + self.lost
        return 100 * self.lost / over if over else None

    @property
    def failed(self) -> int:
        """How many failures there were: what is lost, since nothing else can fail."""
        return sum(self.failures.values())

    @property
    def clock(self) -> Clock | None:
        """Which clock timed the most; None if nothing came back."""
        return max(self.clocks, key=self.clocks.__getitem__, default=None)

    def percentile(self, percent: float) -> float | None:
        """Return the round trip time that `percent` of the probes do not exceed.

        In nanoseconds; what was lost is slower than anything: see `Histogram.percentile`.
        """
        return self.latency.percentile(percent, lost=self.lost)

    @property
    def never_reached(self) -> bool:
        """Whether nobody was there to answer."""
        return not self.received and self.lost > 0 and self.failures.keys() <= NEVER_REACHED

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it: whole nanoseconds where the name ends in _ns."""
        return headed(
            "summary",
            **{name: getattr(self, name) for name in _COUNTS},
            loss_percent=self.loss,
            failures={str(cause): count for cause, count in self.failures.items()},
            largest_bytes=self.largest,
            latency_ns={
                **figures_to_json(self.latency, lost=self.lost),
                "mdev": self.mdev,
                "jitter": self.jitter,
            },
            clock=self.clock,
            samples={str(clock): self.clocks.get(clock, 0) for clock in Clock},
            client_ns=figures_to_json(self.client, lost=0),
            outages=outages_to_json(self.outages, self.outage_seconds, self.longest_outage),
            path_mtu=None
            if self.path_mtu is None
            else {"mtu_bytes": self.path_mtu, "reported_by": self.path_mtu_from},
            certificate=None
            if self.certificate_end is None
            else {
                "end_ns": nanoseconds(self.certificate_end),
                "days_left": self.certificate_days,
            },
            setup_ns={name: each.figures() for name, each in self.setup.items()},
            mptcp=None if self.mptcp is None else attrs.asdict(self.mptcp),
            tcp=None if self.tcp is None else attrs.asdict(self.tcp),
        )
