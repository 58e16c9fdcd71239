"""A feed of targets that were made up: a week of them, plausible and the same each time."""

from __future__ import annotations

import collections
import contextlib
import math
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import attrs
import trio

import watches
from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import Histogram
from techo._watch.columns import Columns, Past, grade
from techo._watch.counts import Counts, Snapshot, Span
from techo._watch.events import Change, Event, EventKind, State
from techo._watch.history_file import HistoryError

WEEK = 7 * 86400

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "a&b &lt; c &amp; d",
    "\u202egnp.exe \u200f\u05d0\u05d1\u05d2",
    "two\nlines\tand\r\x1b[31m\x00more",
    "x" * 500,
    "</title></noscript></table><h1>mine</h1>",
    "'; DROP TABLE spans; --?target=%00#",
    "\U0001f4a9 {{7*7}} ${7*7}",
]
"""Names that would be something else than a name, somewhere."""


def snapshot(target: str, state: str = State.UP, **others: object) -> Snapshot:
    """Return a snapshot with little in it but what is given."""
    fields = {"endpoint": "tcp://192.0.2.1:8009", "since": 1e9, "down": state == State.DOWN}
    return watches.snapshot(target, state=state, **{**fields, **others})


def counts(durations: Sequence[int] = (), **lost: int) -> Counts:
    """Return counts of round trips in nanoseconds, and of what was lost for which cause."""
    failures = collections.Counter(
        {FailureCause(cause.replace("_", "-")): number for cause, number in lost.items()}
    )
    return Counts(latency=Histogram.of(durations), failures=failures)


@attrs.define(eq=False)
class FakeFeed:
    """What a test says there is; see `Feed`."""

    found: list[Snapshot] = attrs.field(factory=list)
    spans_of: dict[str, list[Span]] = attrs.field(factory=dict)
    changed: list[Change] = attrs.field(factory=list)
    since: float = 1e9
    broken: str = ""
    """Why what is remembered can't be read."""
    listeners: int = 0
    asked: list[int] = attrs.field(factory=list)
    """How long the spans were to be, each time."""
    _send: set[trio.MemorySendChannel[Change]] = attrs.field(factory=set, init=False)

    def snapshots(self) -> Sequence[Snapshot]:
        """See `Feed`."""
        return self.found

    async def spans(
        self, target: str, since: float, until: float, seconds: int
    ) -> Sequence[Span]:
        """See `Feed`; what is kept by the hour only stands for its minutes, too."""
        self.asked.append(seconds)
        self._check()
        await trio.lowlevel.checkpoint()
        return [
            each
            for each in self.spans_of.get(target, [])
            if each.start + each.seconds > since and each.start < until
        ]

    async def pasts(
        self, begins: Mapping[str, float], since: float, until: float, seconds: int
    ) -> dict[str, Past]:
        """See `Feed`."""
        found = dict[str, Past]()
        for target, begin in begins.items():
            columns = Columns(seconds)
            for span in await self.spans(target, since, until, grade(seconds)):
                columns.add(span)
            found[target] = Past(columns, await self.changes(target, begin, math.inf))
        return found

    async def changes(self, target: str | None, since: float, until: float) -> Sequence[Change]:
        """See `Feed`."""
        await trio.lowlevel.checkpoint()
        return [
            each
            for each in self.changed
            if target in (None, each.target) and since <= each.at <= until
        ]

    async def oldest(self) -> float | None:
        """See `Feed`."""
        await trio.lowlevel.checkpoint()
        self._check()
        return self.since

    def _check(self) -> None:
        if self.broken:
            raise HistoryError(self.broken)

    @contextlib.asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[Change]]:
        """See `Feed`."""
        send, receive = trio.open_memory_channel[Change](100)
        self._send.add(send)
        self.listeners += 1
        try:
            yield receive
        finally:
            self.listeners -= 1
            self._send.remove(send)

    def publish(self, change: Change) -> None:
        """Let all who listen have a change."""
        self.changed.append(change)
        for each in self._send:
            each.send_nowait(change)


GROUPS = ("web", "database", "branch offices", "")
STATES = [*[State.UP] * 16, State.DEGRADED, State.DOWN, State.FLAPPING, State.UNKNOWN]


def week_of(number: int, *, names: Sequence[str] = ()) -> FakeFeed:
    """Return a feed of so many targets, with rows for each hour of a week up to now."""
    feed = FakeFeed(since=time.time() - WEEK)
    for index in range(number):
        name = names[index] if index < len(names) else f"host-{index:03}.example"
        _add(feed, name, index)
    feed.changed.sort(key=lambda change: change.at)
    return feed


def _add(feed: FakeFeed, name: str, index: int) -> None:
    dice = random.Random(index)  # noqa: S311  -- nobody should guess wrong
    state = STATES[index % len(STATES)]
    base = 10 ** dice.uniform(5, 8)
    shapes = [_some_hour(dice, base) for _ in range(6)]
    now = int(time.time())
    first = now // 3600 * 3600 - WEEK
    spans = [Span(name, at, 3600, dice.choice(shapes)) for at in range(first, now, 3600)]
    for _ in range(dice.randrange(3)):
        at = dice.randrange(len(spans) - 9)
        length = dice.randrange(1, 4)
        for each in range(at, at + length):
            spans[each] = attrs.evolve(spans[each], counts=_hour_down())
        _outage(feed, name, spans[at].start, 3600 * length)
    since = now - dice.randrange(600, 90000)
    if state.value in set(map(str, EventKind)):
        began = Event(
            kind=EventKind(state),
            since=since,
            probes=17,
            cause=FailureCause.TIMEOUT_REPLY,
            first_error="no reply within 1 s",
        )
        feed.changed.append(change(name, since + 3, before=State.UP, state=state, began=began))
        for number, span in enumerate(spans):
            if state == State.DOWN and span.start + 3600 > since:
                spans[number] = attrs.evolve(span, counts=_hour_down())
    total = Counts()
    for span in spans:
        total.add(span.counts)
    known = state != State.UNKNOWN
    feed.spans_of[name] = spans if known else []
    feed.found.append(
        snapshot(
            name,
            state,
            endpoint=f"tcp://{name}:8009" if name.isidentifier() else "tcp://192.0.2.7:8009",
            group=GROUPS[index % len(GROUPS)],
            since=since,
            last_ns=None if state == State.DOWN or not known else round(base),
            cause=FailureCause.TIMEOUT_REPLY if total.lost and known else None,
            reason="no reply within 1 s" if total.lost and known else "",
            total=total if known else Counts(),
        )
    )


def _some_hour(dice: random.Random, base: float) -> Counts:
    slow = dice.random() < 0.2
    times = [round(base * dice.lognormvariate(0, 0.15 + slow * 0.4)) for _ in range(360)]
    lost = dice.choice([0, 0, 0, 1, 40])
    return counts(times, timeout_reply=lost) if lost else counts(times)


def _hour_down() -> Counts:
    return attrs.evolve(counts(timeout_reply=240, reset=120), down_seconds=3600.0)


def _outage(feed: FakeFeed, name: str, at: int, seconds: int) -> None:
    event = Event(kind=EventKind.DOWN, since=at, probes=3)
    feed.changed.append(change(name, at + 3, before=State.UP, state=State.DOWN, began=event))
    ended = attrs.evolve(
        event,
        seconds=float(seconds),
        probes=seconds // 10,
        cause=FailureCause.RESET,
        first_error="no reply within 1 s",
        last_error="the connection broke",
    )
    over = change(name, at + seconds + 2, before=State.DOWN, state=State.UP, ended=ended)
    feed.changed.append(over)


def change(target: str, at: float, **fields: Any) -> Change:
    """Return a change, to being down if nothing else is given."""
    rest: dict[str, Any] = {"group": "", "labels": {}, "before": State.UP, "state": State.DOWN}
    return Change(target=target, at=at, **{**rest, **fields})
