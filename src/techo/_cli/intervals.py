"""Intervals of a load: a line or an object for each, while the load runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import attrs

from techo._cli.output import print_lines

if TYPE_CHECKING:
    from techo._load.interval import Interval
    from techo._load.report import LoadReport

DEFAULT: Final = 1.0
"""Seconds from one line to the next."""

LEAST: Final = 0.2
"""Seconds: there are no reports in shorter intervals."""

_COLUMNS: Final = ("s", "trips/s", "Mbit/s", "p50 ms", "p99 ms", "errors")
_CONNECTS: Final = "connects/s"
_WIDTHS: Final = (13, 10, 9, 9, 9, 8, 12)
"""Columns of each: 58 together, and the last with --reconnect-every."""


@attrs.define(eq=False)
class Intervals:
    """Takes the reports of a running load, and prints what is new in them now and then."""

    every: float
    """Seconds."""
    json: bool
    """Whether to print objects instead of lines."""
    _last: LoadReport | None = None
    """The report up to which all is printed."""

    def take(self, report: LoadReport) -> None:
        """Print what has come since the last line, if that is long enough ago."""
        begin = 0.0 if self._last is None else self._last.seconds
        # The end of an interval is a multiple of its length, unless reports are late.
        if report.seconds >= (begin // self.every + 1) * self.every:
            self._print(report)

    def finish(self, report: LoadReport) -> None:
        """Print the rest, if there was a line at all."""
        from techo._load.interval import until_given_up

        report = until_given_up(report)
        if self._last is not None and report.seconds > self._last.seconds:
            self._print(report)

    def _print(self, report: LoadReport) -> None:
        from techo._load.interval import Interval

        interval = Interval.between(self._last, report)
        if self.json:
            print_lines(json.dumps(interval.to_json()))
        else:
            if self._last is None:
                opened = () if interval.connects is None else (_CONNECTS,)
                print_lines(_row((*_COLUMNS, *opened)))
            print_lines(_row(_texts(interval)))
        self._last = report


def _row(texts: tuple[str, ...]) -> str:
    return "".join(f"{text:>{width}}" for text, width in zip(texts, _WIDTHS, strict=False))


def _texts(interval: Interval) -> tuple[str, ...]:
    from techo._probing.text import decimal, milliseconds

    opened = interval.connects_per_second
    return (
        f"{interval.begin:.1f}-{interval.begin + interval.seconds:.1f}",
        f"{interval.trips_per_second:,.0f}",
        decimal(interval.megabits_per_second),
        milliseconds(interval.percentile(50)),
        milliseconds(interval.percentile(99)),
        f"{interval.failed:,}",
        *(() if opened is None else (f"{opened:,.0f}",)),
    )
