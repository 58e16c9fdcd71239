"""What reports of ping and load say in the same words, for people."""

from __future__ import annotations

import datetime as dt
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from techo._probing.failure_cause import FailureCause

if TYPE_CHECKING:
    from techo._kernel.mptcp import MptcpPaths
    from techo._kernel.tcp_info import TcpInfo
    from techo._probing.outages import Outage


WIDTH: Final = 60
"""Columns that a report takes: half of a screen has them."""

_MILLISECOND: Final = 1_000_000
_MEGA: Final = 1_000_000
_LONG: Final = 100
"""What is more needs no thousandths, be it milliseconds or megabits."""


def fitted(lines: Iterable[str]) -> Iterator[str]:
    """Return lines that are broken between words where they are too long."""
    for line in lines:
        yield from textwrap.wrap(
            line,
            WIDTH,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        ) or [line]


def some(*counts: tuple[int, str]) -> str:
    """Return counts with what they are of, without zeros; empty if there are no others."""
    return ", ".join(f"{count:,} {what}" for count, what in counts if count)


def milliseconds(nanoseconds: float | None) -> str:
    """Return a time as reports show it, without its unit."""
    if nanoseconds is None:
        return "-"
    return "lost" if nanoseconds == math.inf else decimal(nanoseconds / _MILLISECOND)


def decimal(amount: float) -> str:
    """Return an amount with as many decimals as say something."""
    return f"{amount:,.{3 if amount < _LONG else 1}f}"


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


def dropped_in_words(dropped: int, lost: int) -> str:
    """Return how much of the loss may be this program's own, as a line for people."""
    datagrams = number_of(dropped, "datagram")
    own = f"up to {min(dropped, lost):,} of {lost:,} lost" if lost else "none of them a reply"
    return f"dropped here: {datagrams}, as the socket's buffer was full; {own}"


def tcp_in_words(info: TcpInfo) -> str:
    """Return what TCP has measured, and had to do, as a line for people."""
    times = (("rtt", info.rtt_ns), ("var", info.rttvar_ns), ("min", info.min_rtt_ns))
    known = [f"{name} {milliseconds(each)}" for name, each in times if each is not None]
    counts = (info.retransmits, "resent"), (info.lost, "lost"), (info.reorderings, "reordered")
    rate, window = info.delivery_bytes_per_second, info.congestion_window
    parts = [
        " ".join(known) + " ms" * bool(known),
        *(f"{n:,} {what}" for n, what in counts if n or (n == 0 and what != "reordered")),
        f"cwnd {window:,}" if window is not None else "",
        f"{8 * rate / _MEGA:,.{0 if 8 * rate >= 10 * _MEGA else 3}f} Mbit/s"
        if rate is not None
        else "",
    ]
    return f"tcp: {', '.join(filter(None, parts))}"


def outages_in_words(count: int, seconds: float, longest: Outage) -> str:
    """Return outages as a line for people."""
    until = "the end" if longest.until is None else clock_time(longest.until)
    several = f"{count} outages of {seconds:.3f} s, the longest"
    probes = f" ({number_of(longest.probes, 'probe')})" if longest.probes else ""
    return (
        f"{'1 outage' if count == 1 else several} of {longest.seconds:.3f} s{probes}, "
        f"from {clock_time(longest.since)} to {until}"
    )


def mptcp_in_words(paths: MptcpPaths) -> str:
    """Return what connections have become that were to be MPTCP, as a line for people."""
    said = []
    if paths.connections:
        subflows = number_of(paths.subflows, "subflow") + " at the most" * (
            paths.connections > 1
        )
        said.append(f"{number_of(paths.connections, 'connection')} of MPTCP, {subflows}")
    if paths.plain:
        plain = number_of(paths.plain, "connection")
        said.append(f"{plain} of plain TCP: MPTCP was not agreed on")
    return "; ".join(said)


def clock_time(at: float) -> str:
    """Return a moment in Unix time as this machine's clock would show it, with its zone."""
    local = dt.datetime.fromtimestamp(at, tz=dt.UTC).astimezone()
    return local.isoformat(sep=" ", timespec="milliseconds")
