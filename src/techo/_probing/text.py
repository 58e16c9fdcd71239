"""What reports of ping and load say in the same words, for people."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING

from techo._probing.failure_cause import FailureCause

if TYPE_CHECKING:
    from techo._probing.outages import Outage


def where(endpoint: str, address: str | None) -> str:
    """Return an endpoint and, if that is a name, its address, for people."""
    unknown = address is None or all(each in endpoint for each in address.split(", "))
    return endpoint if unknown else f"{endpoint} ({address})"


def counted(causes: Mapping[FailureCause, int]) -> str:
    """Return causes with their counts, for people."""
    return ", ".join(f"{cause} {count:,}" for cause, count in causes.items())


def number_of(count: int, what: str) -> str:
    """Return a number of things, in the singular where there is one."""
    return f"{count:,} {what}" + "s" * (count != 1)


def outages_in_words(count: int, seconds: float, longest: Outage) -> str:
    """Return outages as a line for people."""
    until = "the end" if longest.until is None else _clock_time(longest.until)
    several = f"{count} outages of {seconds:.3f} s, the longest"
    probes = f" ({number_of(longest.probes, 'probe')})" if longest.probes else ""
    return (
        f"{'1 outage' if count == 1 else several} of {longest.seconds:.3f} s{probes}, "
        f"from {_clock_time(longest.since)} to {until}"
    )


def _clock_time(at: float) -> str:
    local = dt.datetime.fromtimestamp(at, tz=dt.UTC).astimezone()
    return local.isoformat(sep=" ", timespec="milliseconds")
