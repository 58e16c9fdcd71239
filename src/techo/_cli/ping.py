"""The ping command: prints what becomes of each probe, until it ends or is stopped."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from techo._cli.errors import fail, fell_short, never_reached, refuse
from techo._cli.objects import OBJECT_OPTIONS, Objects, taking_objects
from techo._cli.options import ANY, PINGED, TLS, Command, Group, Option, option, switch
from techo._cli.output import print_error, print_lines
from techo._cli.packets import PACKETS, socket_options
from techo._cli.process import in_foreground, waiting
from techo._cli.readers import NUMBER, TIME, Form, choice
from techo._cli.rules import any_fired, names_of, rules_about
from techo._cli.signals import held, release, stopping
from techo._cli.targets import TARGETS_FILE, endpoints_of
from techo._cli.tls import client_context
from techo._figures import figures_of_ping
from techo._ping.results import PingFailure, PingReply, PingResult
from techo._ping.text import counts_of, line_of, summary_of, table_of
from techo._printable import quoted
from techo._probing.failure_cause import FailureCause
from techo._probing.text import fitted, number_of
from techo._probing.trip import Clock
from techo._protocols import check_experimental
from techo._quantities import read_sizes, write_seconds
from techo._rules import PING
from techo.endpoint import Endpoint, Kind

if TYPE_CHECKING:
    import trio

    from techo._ping.ping import Ping
    from techo._ping.statistics import PingStatistics

_REPORT: Final = tuple(getattr(signal, name) for name in ("SIGQUIT",) if hasattr(signal, name))
"""Windows has none."""

_TERMINAL: Final = 0
"""Standard input, if that is where the Enter key is."""
_BACKGROUND: Final = 1.0
"""Seconds between two looks at the terminal while another process reads it."""

_HINT: Final = "; if that is no echo server, try --connect"
_OTHERS: Final = {
    FailureCause.CORRUPT,
    FailureCause.SHORT,
    FailureCause.EOF,
    FailureCause.RESET,
    FailureCause.TIMEOUT_REPLY,
}
"""What comes of other protocols: a greeting, an end at once, or waiting for the rest."""

_DESCRIPTION = """\
One line for each reply, or for the cause of its loss; any echo server will do. A probe carries
its number, the run's nonce and a pattern, and its reply must be the same bytes. When a stream
breaks, the probes in flight are lost, and the next probe connects again.

Several endpoints are probed at the same time, over a connection each; rules hold for each.

With --connect, a probe is a connection of its own, which sends nothing. Its time is that of
connecting and, over tls, of the handshake; the server may be any."""

_EXAMPLES: Final = (
    ("techo ping -n 3 localhost", "three probes, then the summary"),
    ("techo ping -qn 20 --fail-if 'loss>1%' udp://8009", "exit status 1 if too much is lost"),
    ("techo ping --connect tls://a.example:443 b.example:80", "connects only; two at once"),
)

_EXITS: Final = (
    ("0", "a reply came, and no rule fired"),
    ("1", "no reply came, or with -w fewer than -n, or a rule fired"),
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
    PINGED,
    TARGETS_FILE,
    *TLS,
    PACKETS,
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
        "-w --deadline",
        TIME,
        "when to end, whatever has come back; sooner after so many replies as -n says, or at "
        "an error after which nobody can answer",
        shown="none",
    ),
    option(
        "-s --size",
        Form("SIZE", _read_size),
        "of a probe; a range, as 1k-64k or 100-1400/100, takes one after the other, and "
        "finds the largest that returns",
        default=64,
    ),
    switch("--connect", "connect, and shake hands over tls, instead of echoing"),
    option(
        "--clock",
        choice(*Clock),
        "what times the round trips: the kernel's stamps of sending and receiving, or this "
        "program",
        shown="kernel where it can, which is not over Unix sockets",
    ),
    ANY,
    switch("-D --timestamps", "print the Unix time before each line"),
    switch("-v --verbose", "show what a reply's packet had: TTL, hops, DSCP, ECN"),
    switch("-q --quiet", "print the summary only"),
    *OBJECT_OPTIONS,
    rules_about(PING),
]


def ping(options: argparse.Namespace) -> int:
    """Probe until the end and return the exit code: minus the signal's number for SIGINT."""
    if options.connect and "size" in options.given:
        return refuse("--size: --connect sends nothing")
    try:
        endpoints = endpoints_of(options, options.endpoint)
    except ValueError as error:
        return refuse(str(error))
    if len(endpoints) > 1:
        from techo._cli.ping_many import ping_many

        return ping_many(options, endpoints)
    options.endpoint = endpoints[0] if endpoints else Endpoint()
    return _ping_one(options)


def _ping_one(options: argparse.Namespace) -> int:
    import trio

    from techo._ping.ping import ping as start

    try:
        if not options.any_protocol:
            check_experimental(options.endpoint.protocol, options.endpoint)
        tls = client_context(options)
        pinging = start(
            options.endpoint,
            count=options.count,
            interval=options.interval,
            timeout=options.timeout,
            size=options.size,
            tls=tls,
            server_name=None if tls is None else options.tls_server_name,
            options=socket_options(options),
            deadline=options.deadline,
            connect=options.connect,
            clock=options.clock,
        )
        with taking_objects(options.output, printed=options.json) as objects:
            command = _Ping(pinging, options, objects)
            heeded = (*stopping(), *_REPORT)
            with held(heeded):
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
    _clock: Clock | None = None
    """What timed the last reply."""

    async def run(self, heeded: Sequence[signal.Signals]) -> None:
        import trio

        from techo._nursery import open_bare_nursery

        with trio.open_signal_receiver(*heeded) as signals:
            release(heeded)
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
        self.objects.put(result.to_json(), printed=not self.options.quiet)
        if self.options.quiet or self.options.json:
            return
        endpoint, connect = str(self.options.endpoint), self.options.connect
        verbose = self.options.verbose
        line = line_of(endpoint, result, self._clock, connect=connect, verbose=verbose)
        if isinstance(result, PingReply):
            self._clock = result.clock
        if self.options.timestamps:
            line = f"[{result.at:.6f}] {line}"
        print_lines(line)

    def _print_so_far(self) -> None:
        statistics = self.ping.statistics()
        table = table_of(statistics, connect=self.options.connect)
        for line in (counts_of(statistics), *table):
            print_error(line)

    def _print_summary(self) -> None:
        statistics = self.ping.statistics()
        self.objects.put(statistics.to_json())
        if not self.options.json:
            connect = self.options.connect
            sweep = isinstance(self.options.size, range) and not connect
            lines = fitted(summary_of(statistics, sweep=sweep))
            print_lines(*lines, *table_of(statistics, connect=connect))

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
            hint = _HINT * self._is_no_echo(statistics)
            return fail(f"none of {number_of(statistics.sent, 'probe')} came back{hint}")
        deadline, count = self.options.deadline, self.options.count or 0
        if deadline is not None and statistics.received < count:
            within = write_seconds(deadline)
            return fail(f"{statistics.received:,} of {count:,} came back within {within}")
        if fired or not self.objects.complete:
            return 1
        return -signal.SIGINT if self._stop == signal.SIGINT else 0

    def _is_no_echo(self, statistics: PingStatistics) -> bool:
        """Return whether somebody has answered, and not as an echo server does."""
        connected = self.options.endpoint.kind in {Kind.TCP, Kind.TLS} and statistics.setup
        return bool(connected and not self.options.connect and _OTHERS & {*statistics.failures})


COMMAND: Final = Command(
    "ping",
    "ping [OPTION]... [ENDPOINT]...",
    _DESCRIPTION,
    _OPTIONS,
    ping,
    variables="TECHO_ENDPOINT=8009 or TECHO_INTERVAL=0.2",
    examples=_EXAMPLES,
    exits=_EXITS,
    chapters=("ping", "json"),
    notes=_NOTES,
)
