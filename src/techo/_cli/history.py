"""The history command: reports what watch has written, for people and machines."""

from __future__ import annotations

import argparse
import math
import textwrap
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from techo._cli.errors import refuse
from techo._cli.objects import OBJECT_OPTIONS, Objects, taking_objects
from techo._cli.options import Command, option
from techo._cli.output import print_lines
from techo._cli.readers import FILE, TIME, choice
from techo._printable import did_you_mean, printable, quoted
from techo._probing.text import clock_time, counted, milliseconds, number_of

if TYPE_CHECKING:
    from techo._watch.counts import Counts, Span
    from techo._watch.events import Event
    from techo._watch.history_reader import Reader
    from techo._watch.history_report import TargetReport

_WIDTH: Final = 80
"""Columns of a report."""

_COLUMNS: Final = (11, 9, 8, 9, 9, 9)
"""Those of the figures: probes, lost, per cent lost, p50, p99, time down."""

_NAME: Final = _WIDTH - sum(_COLUMNS)
"""What is left for a name; a longer one has a line of its own."""

_HEADINGS: Final = ("probes", "lost", "loss %", "p50 ms", "p99 ms", "down")

_LENGTHS: Final = {"minute": 60, "hour": 3600, "day": 86400}

_UNITS: Final = (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1))
"""Of times, in seconds, each with the one that follows it."""

_SHOWN: Final = 10
"""Names that an error lists at the most."""

_SMALL: Final = 0.001
"""Per cent, below which a loss is not shown as none."""

_DESCRIPTION = """\
The file is one that techo watch --history FILE has written, or is writing now: to read it does
not disturb that. A minute is kept for 7 days, an hour for 100 days, a day and all events for
ever. Longer ones are the exact sum of shorter ones, so that percentiles are of all probes.
Where the shorter ones are gone, a report begins with the whole day or hour."""

_EXAMPLES: Final = (
    ("techo history watch.db", "all targets, and all of their events"),
    ("techo history watch.db web --since 24h", "one target, since yesterday"),
    ("techo history watch.db --every hour --json", "an object for each hour, too"),
)

_EXITS: Final = (
    ("0", "it was reported"),
    ("1", "the report could not be written"),
    ("2", "the file cannot be read, or has no such target, or wrong usage"),
)

_NOTES = """\
With a probe a second, a file has about 3 MB for each target, at most 10 MB, and 0.3 MB more
each year. With fewer probes it has less.

Percentiles count lost probes as slower than any. Of an event that has no end in the file, it is
not known how it went on: it may last until now, or the watching ended meanwhile."""

_OPTIONS: Final = [
    option(
        "files",
        FILE,
        "the history, and behind it the names of some targets, or none for all",
        repeatable=True,
        shown="",
        named="",
    ),
    option("--since", TIME, "how long ago the report begins", shown="all there is"),
    option(
        "--every",
        choice(*_LENGTHS),
        "show each minute, hour or day (UTC), too, as far as it is kept",
        shown="no",
    ),
    *OBJECT_OPTIONS,
]


def history(options: argparse.Namespace) -> int:
    """Report from a history, and return the exit code."""
    if not options.files:
        return refuse("history needs the file: FILE of techo watch --history FILE")
    from techo._watch.history_file import HistoryError, opened_to_read
    from techo._watch.history_reader import Reader

    path, *targets = options.files
    try:
        with (
            opened_to_read(path) as connection,
            taking_objects(options.output, printed=options.json) as objects,
        ):
            reader = Reader(connection)
            known = reader.targets()
            for name in targets:
                if name not in known:
                    return refuse(_no_target(name, path, known))
            wanted = [name for name in known if name in targets or not targets]
            lines = _report(reader, wanted, options, objects)
    except HistoryError as error:
        return refuse(str(error))
    if not options.json:
        print_lines(*_wrapped(f"{path}: {lines[0]}"), *lines[1:])
    return 0 if objects.complete else 1


def _report(
    reader: Reader, names: Sequence[str], options: argparse.Namespace, objects: Objects
) -> list[str]:
    """Report on targets as objects; return the lines for people, the first without the file."""
    from techo._watch.history_report import TargetReport, report_of

    since = 0 if options.since is None else time.time() - options.since
    reports, details = list[TargetReport](), list[str]()
    for name in names:
        report = report_of(reader, name, since)
        spans = _spans_of(reader, name, since, options.every)
        for span in spans:
            objects.put(span.to_json())
        for change in report.changes:
            objects.put(change.to_json())
        objects.put(report.to_json())
        reports.append(report)
        if not options.json:
            details += _details(report, spans)
    rows = [(report.target or "", report) for report in reports]
    if len(reports) > 1:
        rows.append(("all of them", TargetReport.added_up(reports)))
        objects.put(rows[-1][1].to_json())
    table = [line for name, report in rows for line in _row(name, _figures(report.counts))]
    return [_heading(reports), "", *_row("", _HEADINGS), *table, *details]


def _spans_of(reader: Reader, name: str, since: float, every: str | None) -> Sequence[Span]:
    """Return the spans of the length that was asked for, as far as there are."""
    if every is None:
        return ()
    spans = reader.spans(name, since, math.inf, _LENGTHS[every])
    return [each for each in spans if each.seconds == _LENGTHS[every]]


def _heading(reports: Sequence[TargetReport]) -> str:
    what = number_of(len(reports), "target")
    begin = min((each.since for each in reports if each.since is not None), default=None)
    end = max((each.until for each in reports if each.until is not None), default=None)
    if begin is None or end is None:
        return f"{what}, and no minute of that time"
    return f"{what}, from {_minute(begin)} to {_minute(end)}"


def _no_target(name: str, path: str, known: Sequence[str]) -> str:
    shown = ", ".join(known[:_SHOWN]) or "none"
    more = f" and {len(known) - _SHOWN:,} more" * (len(known) > _SHOWN)
    wrong = f"there is no target {quoted(name)} in {quoted(path)}"
    return f"{wrong}{did_you_mean(name, known)}; it has {shown}{more}"


def _details(report: TargetReport, spans: Sequence[Span]) -> Iterator[str]:
    """Return why a target's probes were lost, its events and its spans."""
    lost = {cause: n for cause, n in report.counts.failures.items() if n > 0}
    if not lost and not report.events and not spans:
        return
    yield ""
    yield from _wrapped(f"--- {report.target} ---")
    if lost:
        yield from _wrapped(f"lost: {counted(lost)}")
    for event in report.events:
        yield from _event(event)
    if spans:
        yield from _row("from", _HEADINGS)
        for span in spans:
            yield from _row(_minute(span.start), _figures(span.counts))


def _event(event: Event) -> Iterator[str]:
    """Return an event: how long and when, and below that why."""
    begin = clock_time(event.since)
    if event.seconds is None or event.until is None:
        yield f"{event.kind} from {begin} on, without an end in the file"
    else:
        yield f"{event.kind} {event.seconds:,.3f} s, {begin} to {clock_time(event.until)}"
    why = [
        number_of(event.probes, "probe") + " lost" if event.probes else "",
        str(event.cause or ""),
        "; then ".join(dict.fromkeys(filter(None, (event.first_error, event.last_error)))),
    ]
    if any(why):
        yield from _wrapped("  " + ", ".join(filter(None, why)))


def _row(name: str, figures: Sequence[str]) -> Iterator[str]:
    name = printable(name)
    if len(name) >= _NAME:
        yield name
        name = ""
    cells = (f"{each:>{width}}" for each, width in zip(figures, _COLUMNS, strict=True))
    yield f"{name:{_NAME}}" + "".join(cells)


def _figures(counts: Counts) -> tuple[str, ...]:
    loss = counts.loss
    return (
        f"{counts.received + counts.lost:,}",
        f"{counts.lost:,}",
        "-" if loss is None else f"<{_SMALL}" if 0 < loss < _SMALL else f"{loss:.3f}",
        milliseconds(counts.percentile(50)),
        milliseconds(counts.percentile(99)),
        _lasting(counts.down_seconds),
    )


def _lasting(seconds: float) -> str:
    """Return a time in two units, in nine columns."""
    if 0 < seconds < 60:  # noqa: PLR2004  -- a minute
        return f"{seconds:.3f}s"
    whole = round(seconds)
    for large, size, small, part in _UNITS:
        if whole >= size:
            return f"{whole // size:,}{large}{whole % size // part:02}{small}"
    return f"{whole}s"


def _minute(at: float) -> str:
    return clock_time(at)[:16]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        printable(text),
        _WIDTH,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


COMMAND: Final = Command(
    "history",
    "history [OPTION]... FILE [TARGET]...",
    _DESCRIPTION,
    _OPTIONS,
    history,
    variables="TECHO_SINCE=24h",
    examples=_EXAMPLES,
    exits=_EXITS,
    chapters=("watch", "json"),
    notes=_NOTES,
)
