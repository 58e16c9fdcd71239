"""The watch command: many targets, for as long as one likes; a line for each change."""

from __future__ import annotations

import argparse
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from techo._cli.endpoints import check_ports
from techo._cli.errors import fail, none_reached, refuse
from techo._cli.objects import OBJECT_OPTIONS, STANDARD_OUTPUT, Objects, taking_objects
from techo._cli.options import ANY, TLS, Command, Group, Option, flat, option, switch
from techo._cli.output import print_error, print_lines
from techo._cli.packets import PACKETS, check_privileges
from techo._cli.process import has_terminal, shortage
from techo._cli.readers import FILE, TIME, Form, count_form, size_form
from techo._cli.rules import names_of
from techo._cli.signals import held, stopping
from techo._cli.targets import TARGETS_FILE, endpoints_of, targets_of
from techo._cli.watching import Watching
from techo._cli.web import KEEPING, Web, keeping, web_of
from techo._probing.payloads import SIZE
from techo._rules import WATCH
from techo._schema import headed
from techo._validation import whole
from techo._watch.rules import parse_rule
from techo.endpoint import PING_FORMS, Endpoint

if TYPE_CHECKING:
    from techo._watch.counts import Snapshot
    from techo._watch.events import Change
    from techo._watch.targets import WatchTarget

_DESCRIPTION = """\
Probes each target again and again, over a connection that is kept, and says when it goes down,
comes back, is degraded or flaps: since when, for how long, and why. It is down after 3 probes
lost running, and up after 2 answered.

There is a line for each change and, on a terminal, a table of all targets below them."""

_EXAMPLES: Final = (
    ("techo watch a.example tls://b.example:443", "two of them, until Ctrl-C"),
    ("techo watch --config watch.toml --for 1h", "what a file names, for an hour"),
    ("techo watch --for 10m --fail-if 'loss>1%' 8009", "exit status 1 if one loses too much"),
)

_EXITS: Final = (
    ("0", "every target answered, and none broke a rule at the end"),
    ("1", "one never answered, or broke a rule"),
    ("2", "wrong usage, or none was ever reached"),
    ("130", "by SIGINT, after Ctrl-C, where it would have been 0"),
)

_NOTES = f"""\
{names_of(WATCH, "Each is of a target's last minute or so.")}

Ctrl-C and SIGTERM end it with the table; a second one does not wait for what runs on a change.
SIGHUP reads the --config again, if there is no terminal: targets that are the same go on
undisturbed, and a file that is wrong changes nothing."""


def _read_command(text: str) -> list[str]:
    from techo._cli.on_change import read_command  # which imports trio

    return read_command(text)


_COUNT: Final = count_form(whole(1, 1000))

_OF_NAMED: Final[Sequence[Option | Group]] = [
    option("-i --interval", TIME, "from one probe of a target to the next", default=1.0),
    option(
        "-W --timeout",
        TIME,
        "how long to wait for a reply, or for a connection",
        default=1.0,
    ),
    option("-s --size", size_form(SIZE), "of a probe", default=64),
    switch("--connect", "connect, and shake hands over tls, instead of echoing"),
    Group(
        "States",
        (
            option(
                "--fail-if",
                Form("RULE", parse_rule),
                "a target is degraded while this holds for its last minute or so: a figure, "
                "one of > >= < <= == !=, and a limit, such as 'p99>5ms'; exit with 1 if it "
                "holds in the end for all probes of one",
                repeatable=True,
                shown="none",
            ),
            option("--down-after", _COUNT, "probes lost running until it is down", default=3),
            option("--up-after", _COUNT, "probes answered running until it is up", default=2),
            option(
                "--flap-changes",
                _COUNT,
                "changes within --flap-time that are fine; more are flapping, one event "
                "until it was quiet for as long",
                default=3,
            ),
            option("--flap-time", TIME, "see --flap-changes", default=300.0),
        ),
    ),
    *TLS,
    PACKETS,
    ANY,
]
"""Options of targets that are named; a file has its own."""

_OPTIONS: Final[Sequence[Option | Group]] = [
    option(
        "target",
        Form("TARGET", Endpoint.parse, check=check_ports),
        f"what to watch: {PING_FORMS}",
        repeatable=True,
        shown="those of --targets and --config",
        named="",
    ),
    TARGETS_FILE,
    option(
        "--config",
        FILE,
        "a file in TOML of targets, each with options of its own; see the chapter watch",
        shown="none",
        named="",
    ),
    switch("--check-config", "say what is wrong in the --config, and watch nothing"),
    *_OF_NAMED,
    Group(
        "What becomes of it",
        (
            option(
                "--on-change",
                Form("COMMAND", _read_command),
                "run this for each change, with the change as JSON on its standard input; "
                "without a shell, one at a time for each target, for 10 s at most",
                shown="none",
            ),
            option("--for", TIME, "when to end, with ping's exit status", shown="no end"),
        ),
    ),
    KEEPING,
    switch("-q --quiet", "print the table at the end only"),
    *OBJECT_OPTIONS,
]


def watch(options: argparse.Namespace) -> int:
    """Watch until the end and return the exit code: minus the signal's number for SIGINT."""
    try:
        targets = _targets(options)
        places = [each.endpoint for each in targets]
        check_privileges(each for each in places if isinstance(each, Endpoint))
        web = web_of(options)
    except ValueError as error:
        return _refuse_all(error)
    if options.check_config:
        print_lines(f"{options.config}: {len(targets):,} targets")
        return 0
    if reason := shortage(len(targets)):
        print_error(f"techo: warning: {reason}")
    import trio

    from techo._cli.logs import printing

    with printing(), taking_objects(options.output, printed=options.json) as objects:
        command = _Watch(options, objects, web)
        heeded = stopping()
        with held(heeded):
            try:
                trio.run(command.run, heeded, targets)
            except ValueError as error:
                return refuse(str(error))
    return command.verdict()


def _refuse_all(error: ValueError) -> int:
    """Report every line of an error; return the exit code for that."""
    for line in str(error).splitlines():
        code = refuse(line)
    return code


def _targets(
    options: argparse.Namespace, pause: Callable[[], object] = lambda: None
) -> list[WatchTarget]:
    """Return the targets that are named, in a file of them, and in the --config.

    Raises:
        ValueError: there is none, or an option or a file is wrong; the text has every mistake.
    """
    from techo._cli.watch_config import check_config
    from techo._watch.targets import Thresholds

    if options.check_config and options.config is None:
        raise ValueError("--check-config: there is no --config FILE to check")
    found = [] if options.config is None else [*check_config(options.config, pause)]
    endpoints = endpoints_of(options, options.target)
    if options.targets == STANDARD_OUTPUT:
        options.target, options.targets = endpoints, None  # which can be read only once
    if not endpoints:
        if not found:
            raise ValueError("there is nothing to watch: name targets, or give --config FILE")
        for each in flat(_OF_NAMED):
            if each.dest in options.given:
                what = f"{each.names[-1]} is for targets that are named"
                raise ValueError(f"{what}; the --config has its own")
        return found
    if options.connect and "size" in options.given:
        raise ValueError("--size: --connect sends nothing")
    thresholds = Thresholds(
        down_after=options.down_after,
        up_after=options.up_after,
        flap_changes=options.flap_changes,
        flap_seconds=options.flap_time,
    )
    same = {name: getattr(options, name) for name in ("interval", "timeout", "size", "connect")}
    rules = tuple(options.fail_if)
    found += targets_of(options, endpoints, **same, rules=rules, thresholds=thresholds)
    return found


@attrs.define(eq=False)
class _Watch:
    """One watch, and what it shows."""

    options: argparse.Namespace
    objects: Objects
    web: Web | None
    _watching: Watching = attrs.field(init=False)
    _at_the_end: list[Snapshot] = attrs.field(factory=list, init=False)

    async def run(
        self, heeded: Sequence[signal.Signals], targets: Sequence[WatchTarget]
    ) -> None:
        from techo._watch.watch import watch as start

        options = self.options
        watch = start(targets)
        reloads = options.config is not None and not has_terminal()
        self._watching = Watching(
            watch,
            self._changed,
            options.on_change or (),
            getattr(options, "for"),
            self._put_all if options.json or options.output else None,
            self._reload if reloads else None,
            live=not (options.json or options.quiet),
        )
        path, web = options.history, self.web
        await self._watching.run(heeded, lambda nursery: keeping(path, web, watch, nursery))
        await self._put_all(printed=True)
        self._at_the_end = watch.snapshot()
        if not options.json:
            import shutil

            from techo._watch.text import counts_of, table_of

            width = shutil.get_terminal_size().columns
            print_lines(*table_of(self._at_the_end, time.time(), width))
            print_lines(counts_of(self._at_the_end))

    def _changed(self, change: Change) -> None:
        from techo._watch.text import line_of

        self.objects.put(change.to_json(), printed=not self.options.quiet)
        if not self.options.quiet and not self.options.json:
            print_lines(line_of(change))

    async def _put_all(self, *, printed: bool = False) -> None:
        from techo._watch.turns import in_turns

        async for each in in_turns(self._watching.watch.snapshots()):
            fields = headed("target", **each.to_json())
            self.objects.put(fields, printed=printed or not self.options.quiet)

    async def _reload(self) -> None:
        import trio

        from techo._watch.turns import let_the_loop_go_on

        try:
            targets = await trio.to_thread.run_sync(_targets, self.options, let_the_loop_go_on)
            began, ended = self._watching.watch.reload(targets)
        except ValueError as error:
            mistakes = str(error).splitlines()
            more = f" (and {len(mistakes) - 1:,} more)" if len(mistakes) > 1 else ""
            print_error(f"techo: not read again, what runs goes on: {mistakes[0]}{more}")
            return
        except RuntimeError:
            return  # it is over meanwhile, or has just begun
        print_error(f"techo: read again: {began:,} targets began, {ended:,} ended")

    def verdict(self) -> int:
        """Report what was bad, if anything was, and return the exit code."""
        found = self._at_the_end
        if not found:
            return 0
        if all(each.total.never_reached for each in found):
            causes = sum((each.total.failures for each in found), Counter())
            reasons = {each.cause: each.reason for each in found if each.cause is not None}
            return none_reached([each.endpoint for each in found], causes, reasons)
        silent = [each for each in found if not each.total.received]
        for each in silent:
            fail(f"{each.target} never answered")
        fired = self._fired()
        if silent or fired or not self.objects.complete:
            return 1
        return -signal.SIGINT if self._watching.stop == signal.SIGINT else 0

    def _fired(self) -> bool:
        """Report which targets broke which rule, of all their probes."""
        targets, at = self._watching.watch.targets, time.time()
        sentences = [
            f"{each.target}: {sentence}"
            for each in self._at_the_end
            for rule in targets[each.target].rules
            if (sentence := rule.judge(each.total, each.days_left(at)))
        ]
        for sentence in sentences:
            fail(sentence)
        return bool(sentences)


COMMAND: Final = Command(
    "watch",
    "watch [OPTION]... [TARGET]...",
    _DESCRIPTION,
    _OPTIONS,
    watch,
    variables="TECHO_INTERVAL=10 or TECHO_ON_CHANGE='mail-me --json'",
    examples=_EXAMPLES,
    exits=_EXITS,
    notes=_NOTES,
    chapters=("watch", "json"),
)
