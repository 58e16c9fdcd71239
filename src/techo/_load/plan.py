"""The plan of a load: what it is to do, whatever to; a value that can go to other processes."""

from __future__ import annotations

import secrets
from typing import Final, Self

import attrs

from techo._probing.arrivals import Arrivals, arrivals_of
from techo._probing.payloads import SIZE
from techo._validation import (
    COUNT,
    NATURAL,
    PROBES_PER_SECOND,
    SECONDS_ABOVE_0,
    SECONDS_FROM_0,
    SHARE,
    TRIPS_PER_SECOND,
)
from techo.endpoint import Kind

SECONDS: Final = 10.0
"""How long trips begin by default."""

_TIMEOUT: Final = 10.0
_TIMEOUT_OF_DATAGRAMS: Final = 1.0
"""Seconds for a reply. A datagram that is longer on its way is lost."""

_SEED_BITS: Final = 32
"""Of a seed that nobody has chosen: short enough to be typed again."""

_DATAGRAMS: Final = (Kind.UDP, Kind.UNIXGRAM)


@attrs.frozen(kw_only=True)
class LoadPlan:
    """What `load` is asked for, but for where and how to connect; it explains the fields.

    Raises:
        ValueError: a value makes no sense; the text names it.
    """

    connections: int = attrs.field(default=10, validator=COUNT)
    seconds: float | None = attrs.field(default=None, validator=SECONDS_ABOVE_0.or_off())
    trips: int | None = attrs.field(default=None, validator=COUNT.or_off())
    rate: float | None = attrs.field(default=None, validator=TRIPS_PER_SECOND.or_off())
    size: int = attrs.field(default=64, validator=SIZE)
    pipeline: int = attrs.field(default=1, validator=COUNT)
    warm_up: float = attrs.field(default=0.0, validator=SECONDS_FROM_0)
    timeout: float | None = attrs.field(default=None, validator=SECONDS_ABOVE_0.or_off())
    reconnect_every: int | None = attrs.field(default=None, validator=COUNT.or_off())
    arrivals: Arrivals = attrs.field(default=Arrivals.UNIFORM, converter=arrivals_of)
    seed: int | None = attrs.field(default=None, validator=NATURAL.or_off())
    ramp: float | None = attrs.field(default=None, validator=SECONDS_ABOVE_0.or_off())
    probe: float | None = attrs.field(default=None, validator=PROBES_PER_SECOND.or_off())
    first: float = attrs.field(default=0.0, validator=SHARE)
    """Not of `load`: when an even rate that rises has its first trip, as a share of one; so
    that the trips of several such rates are due one after the other. Likewise all connections
    but the first that are opened within a ramp."""

    def __attrs_post_init__(self) -> None:
        if self.seconds is not None and self.trips is not None:
            raise ValueError(
                f"seconds {self.seconds!r} and trips {self.trips!r}: give one of them"
            )
        if self.arrivals is Arrivals.POISSON and self.rate is None:
            raise ValueError("arrivals poisson: give a rate, too, which is their mean")
        if self.arrivals is not Arrivals.POISSON and self.seed is not None:
            raise ValueError(f"seed {self.seed}: give arrivals poisson, which alone have one")

    @property
    def asked(self) -> float | None:
        """For how many seconds after the warm-up trips begin; None if their number is given."""
        return SECONDS if self.seconds is None and self.trips is None else self.seconds

    def seeded(self) -> Self:
        """Return the plan with a seed, a fresh one if it needs one and has none."""
        if self.arrivals is not Arrivals.POISSON or self.seed is not None:
            return self
        return attrs.evolve(self, seed=secrets.randbits(_SEED_BITS))

    def timeout_over(self, kind: Kind | None) -> float:
        """Return how many seconds a reply over such a transport is waited for."""
        if self.timeout is not None:
            return self.timeout
        return _TIMEOUT_OF_DATAGRAMS if kind in _DATAGRAMS else _TIMEOUT


def is_lossy(kind: Kind | None) -> bool:
    """Return whether a message may get lost over it, and the next come back over the same."""
    return kind in _DATAGRAMS or kind is Kind.UNIXPACKET
