"""The ping command: prints what becomes of each probe, until it ends or is stopped."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from techo._cli.errors import fail, fell_short, never_reached, refuse
from techo._cli.figures import PING, figures_of_ping
from techo._cli.objects import OBJECT_OPTIONS, Objects, taking_objects
from techo._cli.options import CLIENT, Command, Group, Option, option, switch
from techo._cli.output import print_error, print_lines
from techo._cli.process import in_foreground, waiting
from techo._cli.readers import NUMBER, TIME, Form
from techo._cli.rules import any_fired, names_of, rules_about
from techo._cli.signals import stopping
from techo._cli.tls import client_context
from techo._ping.results import PingFailure, PingReply, PingResult
from techo._ping.statistics import PingStatistics
from techo._printable import quoted
from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import Histogram, nanoseconds
from techo._probing.text import (
    WIDTH,
    counted,
    fitted,
    milliseconds,
    number_of,
    outages_in_words,
    some,
    where,
)
from techo._quantities import read_sizes
from techo._schema import headed

if TYPE_CHECKING:
    import trio

    from techo._ping.ping import Ping

_REPORT: Final = tuple(getattr(signal, name) for name in ("SIGQUIT",) if hasattr(signal, name))
"""Windows has none."""

_PERCENTS: Final = (50, 90, 99)
"""Percentiles that are shown, as load shows them; a line has no room for all."""
_CELL: Final = 7
"""Characters of a time in the table, from which on it has fewer decimals."""
_TERMINAL: Final = 0
"""Standard input, if that is where the Enter key is."""
_BACKGROUND: Final = 1.0
"""Seconds between two looks at the terminal while another process reads it."""

_DESCRIPTION = """\
One line for each reply, or for the cause of its loss; any echo server will do. A probe carries
its number, the run's nonce and a pattern, and its reply must be the same bytes. When a stream
breaks, the probes in flight are lost, and the next probe connects again."""

_EXAMPLES: Final = (
    ("techo ping -n 3 localhost", "three probes, then the summary"),
    ("techo ping -i 0.1 -n 20 -q udp://8009", "20 datagrams, the summary only"),
    ("techo ping -i 0.1 -n 20 --fail-if 'loss>1%'", "exit status 1 if too much is lost"),
)

_EXITS: Final = (
    ("0", "a reply came, and no rule fired"),
    ("1", "no reply came, or a rule fired"),
    ("2", "wrong usage, or never reached, or this machine fell short (cause local)"),
    ("130", "by SIGINT, after Ctrl-C, where it would have been 0"),
)

_NOTES = f"""\
{names_of(PING)}

Ctrl-C ends it with the summary; Enter, or SIGQUIT, prints the statistics so far on standard
error. SIGTERM ends it like Ctrl-C, without changing the status; so does SIGHUP, unless it was
ignored at the start (nohup)."""


def _read_size(text: str) -> int | range:
    """Read a size, or a range of them; each is one byte at the least."""
    size = read_sizes(text)
    if (size if isinstance(size, int) else size[0]) < 1:
        raise ValueError(f"{quoted(text)} is not from 1 byte on")
    return size


_OPTIONS: Final[Sequence[Option | Group]] = [
    *CLIENT,
    option(
        "-n -c --count",
        NUMBER,
        "how many probes",
        shown="no end; of a range of sizes, each once",
    ),
    option("-i --interval", TIME, "from one probe to the next", default=1.0),
    option(
        "-W --timeout",
        TIME,
        "how long to wait for a reply, or for a connection",
        default=1.0,
    ),
    option(
        "-s --size",
        Form("SIZE", _read_size),
        "of a probe; a range, as 1k-64k or 100-1400/100, takes one after the other, and "
        "finds the largest that returns",
        default=64,
    ),
    switch("-D --timestamps", "print the Unix time before each line"),
    switch("-q --quiet", "print the summary only"),
    *OBJECT_OPTIONS,
    rules_about(PING),
]


def ping(options: argparse.Namespace) -> int:
    """Probe until the end and return the exit code: minus the signal's number for SIGINT."""
    import trio

    from techo._ping.ping import ping as start

    try:
        tls = client_context(options)
        pinging = start(
            options.endpoint,
            count=options.count,
            interval=options.interval,
            timeout=options.timeout,
            size=options.size,
            tls=tls,
            server_name=None if tls is None else options.tls_server_name,
        )
        with taking_objects(options.output, printed=options.json) as objects:
            command = _Ping(pinging, options, objects)
            # The handlers that come back in the end let late signals pass: the summary is
            # printed.
            heeded = (*stopping(), *_REPORT)
            for number in heeded:
                signal.signal(number, signal.SIG_IGN)
            trio.run(command.run, heeded)
    except ValueError as error:
        return refuse(str(error))
    return command.verdict()


@attrs.define(eq=False)
class _Ping:
    """One ping, with the signals and the key that control it."""

    ping: Ping
    options: argparse.Namespace
    objects: Objects
    _stop: int = 0
    """The signal that asked for the end."""
    _reasons: dict[FailureCause, str] = attrs.field(factory=dict)
    """What was said last of each cause."""

    async def run(self, heeded: Sequence[signal.Signals]) -> None:
        import trio

        from techo._nursery import open_bare_nursery

        with trio.open_signal_receiver(*heeded) as signals:
            async with open_bare_nursery() as nursery, self.ping as results:
                nursery.start_soon(self._heed, signals, nursery.cancel_scope)
                if os.isatty(_TERMINAL):
                    nursery.start_soon(self._heed_enter)
                async for result in results:
                    self._print(result)
                nursery.cancel_scope.cancel(reason="no more probes")
        self._print_summary()

    async def _heed(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        async for number in signals:
            if number in _REPORT:
                self._print_so_far()
            else:
                self._stop = number
                scope.cancel(reason="a signal")

    async def _heed_enter(self) -> None:
        import trio

        while True:
            await trio.lowlevel.wait_readable(_TERMINAL)
            # To read a terminal from the background would stop this process (termios(3)).
            if not in_foreground(sys.stdin):
                await trio.sleep(_BACKGROUND)  # there is no event for the foreground
            elif waiting(sys.stdin) > 1:
                return  # lines typed or pasted ahead are for the shell, and cannot be put back
            elif os.read(_TERMINAL, 1024):  # and not just Ctrl-D
                self._print_so_far()

    def _print(self, result: PingResult) -> None:
        if isinstance(result, PingFailure):
            self._reasons[result.cause] = result.reason
        self.objects.put(_object_of(result), printed=not self.options.quiet)
        if self.options.quiet or self.options.json:
            return
        line = _line_of(str(self.options.endpoint), result)
        if self.options.timestamps:
            line = f"[{result.at:.6f}] {line}"
        print_lines(line)

    def _print_so_far(self) -> None:
        statistics = self.ping.statistics()
        for line in (_counts(statistics), *_table(statistics)):
            print_error(line)

    def _print_summary(self) -> None:
        statistics = self.ping.statistics()
        self.objects.put(statistics.to_json())
        if not self.options.json:
            sweep = isinstance(self.options.size, range)
            print_lines(*fitted(_summary(statistics, sweep=sweep)), *_table(statistics))

    def verdict(self) -> int:
        """Report what was bad, if anything was, and return the exit code."""
        statistics = self.ping.statistics()
        if short := statistics.failures.get(FailureCause.LOCAL):
            reason = self._reasons.get(FailureCause.LOCAL, "")
            return fell_short(self.options.endpoint, short, reason)
        if statistics.never_reached:
            return never_reached(self.options.endpoint, statistics.failures, self._reasons)
        fired = any_fired(self.options.fail_if, figures_of_ping(statistics))
        if not statistics.received:
            return fail(f"none of {number_of(statistics.sent, 'probe')} came back")
        if fired or not self.objects.complete:
            return 1
        return -signal.SIGINT if self._stop == signal.SIGINT else 0


def _line_of(endpoint: str, result: PingResult) -> str:
    """Return a result as a line for people."""
    if isinstance(result, PingReply):
        notes = " (late)" * result.late + " (duplicate)" * result.duplicate
        size, time_ms = number_of(result.size, "byte"), f"{result.seconds * 1000:.3f} ms"
        return f"{size} from {endpoint}: seq={result.seq} time={time_ms}{notes}"
    which = "between two probes" if result.seq is None else f"seq={result.seq}"
    return f"no reply from {endpoint}: {which} {result.cause} ({result.reason})"


def _object_of(result: PingResult) -> dict[str, object]:
    """Return a result as an object for machines."""
    at_ns = nanoseconds(result.at)
    if isinstance(result, PingFailure):
        return headed(
            "failure", seq=result.seq, cause=result.cause, reason=result.reason, at_ns=at_ns
        )
    return headed(
        "reply",
        seq=result.seq,
        size_bytes=result.size,
        latency_ns=nanoseconds(result.seconds),
        late=result.late,
        duplicate=result.duplicate,
        at_ns=at_ns,
    )


def _summary(statistics: PingStatistics, *, sweep: bool) -> Iterator[str]:
    """Return the statistics as lines for people."""
    yield f"--- {where(statistics.endpoint, statistics.address)} ---"
    yield _counts(statistics)
    names = ("late", "duplicate", "corrupt", "missed", "stray")
    reconnects = statistics.reconnects, "reconnect" + "s" * (statistics.reconnects != 1)
    if others := some(*((getattr(statistics, name), name) for name in names), reconnects):
        yield others
    if statistics.failures:
        yield f"failures: {counted(statistics.failures)}"
    if statistics.longest_outage is not None:
        outages = statistics.outages, statistics.outage_seconds
        yield outages_in_words(*outages, statistics.longest_outage)
    if statistics.setup:
        yield ", ".join(_step(name, each) for name, each in statistics.setup.items())
    if sweep:
        largest = (
            "none" if statistics.largest is None else number_of(statistics.largest, "byte")
        )
        yield f"largest that returned: {largest}"


def _counts(statistics: PingStatistics) -> str:
    loss = "" if statistics.loss is None else f" ({statistics.loss:.4g} %)"
    in_flight = f", {statistics.in_flight:,} in flight" if statistics.in_flight else ""
    return (
        f"{statistics.sent:,} sent, {statistics.received:,} received, "
        f"{statistics.lost:,} lost{loss}{in_flight}"
    )


def _table(statistics: PingStatistics) -> Iterator[str]:
    """Return the round trip times as a table of what there are enough of to tell."""
    times = statistics.latency
    if not times.count:
        yield "no round trip times"
        return
    figures = {
        "min": times.min,
        "mean": times.mean,
        **{f"p{each:g}": statistics.percentile(each) for each in _PERCENTS},
        "max": times.max,
        "mdev": statistics.mdev if times.count > 1 else None,
        "jitter": statistics.jitter,
    }
    cells = [(name, _short(each)) for name, each in figures.items() if each is not None]
    # One column between them if that is all there is room for.
    width = min(2 + max(len(text) for cell in cells for text in cell), WIDTH // len(cells))
    yield f"round trips in ms, n = {times.count:,}:"
    yield "".join(f"{name:>{width}}" for name, _ in cells)
    yield "".join(f"{text:>{width}}" for _, text in cells)


def _short(nanoseconds: float) -> str:
    """Return milliseconds in six characters, unless they are many."""
    text = milliseconds(nanoseconds)
    for decimals in (1, 0):
        if len(text) >= _CELL:
            text = f"{nanoseconds / 1e6:.{decimals}f}"
    return text


_STEPS: Final = {"lookup": "look-up", "connect": "connect", "handshake": "TLS handshake"}


def _step(name: str, durations: Histogram) -> str:
    what = f"{_STEPS[name]} {milliseconds(durations.mean)} ms"
    if durations.count == 1:
        return what
    return f"{what} (mean of {durations.count}, {milliseconds(durations.max)} at the most)"


COMMAND: Final = Command(
    "ping",
    "ping [OPTION]... [ENDPOINT]",
    _DESCRIPTION,
    _OPTIONS,
    ping,
    variables="TECHO_ENDPOINT=8009 or TECHO_INTERVAL=0.2",
    examples=_EXAMPLES,
    exits=_EXITS,
    chapters=("ping", "json"),
    notes=_NOTES,
)
