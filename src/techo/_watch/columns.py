"""Columns: spans of time as the page draws them, and the events that fall into a range."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import attrs

from techo._watch.coarse import Coarse
from techo._watch.counts import DAY, HOUR, MINUTE, Counts, Span
from techo._watch.events import Change, Event, EventKind
from techo._watch.history_encoding import decode_coarse
from techo._watch.table import Row


def grade(seconds: int) -> int:
    """Return the length of the spans that columns of so many seconds can be merged from."""
    return next(each for each in (DAY, HOUR, MINUTE) if seconds % each == 0)


MOST_TEXTS: Final = 2**15
"""Of spans, which are kept: a week of hours of 190 targets, in some 16 MB."""


@attrs.define(eq=False)
class Texts:
    """What was made of spans before, by what they are made of, so that it is never outdated."""

    _found: dict[bytes, str] = attrs.field(factory=dict)

    def of(self, data: bytes) -> str:
        """Return what JSON has of counts that are encoded; see `Coarse.to_text`.

        Raises:
            ValueError: they are something else.
        """
        key = hashlib.blake2b(data, digest_size=16).digest()
        text = self._found.get(key)
        if text is None:
            text = decode_coarse(data).to_text()
            if len(self._found) >= MOST_TEXTS:
                del self._found[next(iter(self._found))]
            self._found[key] = text
        return text


@attrs.define
class Column:
    """What became of a target's probes in the time that one column of its strip stands for."""

    start: int
    """In Unix time."""
    seconds: int
    counts: Coarse | bytes
    """These are encoded while they are all there is."""
    text: str = ""
    """Of counts that are encoded."""

    def add(self, more: Coarse) -> None:
        """Count others, too."""
        if isinstance(self.counts, bytes):
            self.counts = decode_coarse(self.counts)
        self.counts.add(more)

    def to_text(self) -> str:
        """Return it as JSON."""
        text = self.text if isinstance(self.counts, bytes) else self.counts.to_text()
        return f'{{"start":{self.start},"seconds":{self.seconds},{text}}}'


def flat(buckets: Mapping[int, int]) -> list[int]:
    """Return coarse buckets as JSON has them: number and count take turns."""
    return [each for pair in sorted(buckets.items()) for each in pair]


@attrs.define
class Columns:
    """Spans merged into columns of so many seconds; a longer span is one of its own."""

    seconds: int
    _texts: Texts = attrs.field(factory=Texts)
    _found: dict[int, Column] = attrs.field(factory=dict, init=False)

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, span: Span) -> None:
        """Count a span in its column."""
        start, width = self._place(span.start, span.seconds)
        self._add(start, width, Coarse.of(span.counts))

    def add_encoded(self, start: int, seconds: int, data: bytes) -> None:
        """Count a span, of which there may be parts, in its column.

        Raises:
            ValueError: its counts are no such.
        """
        start, width = self._place(start, seconds)
        if seconds == width and start not in self._found:
            self._found[start] = Column(start, width, data, self._texts.of(data))
        else:
            self._add(start, width, decode_coarse(data))

    def _place(self, start: int, seconds: int) -> tuple[int, int]:
        """Return the start and the length of the column that a span belongs to."""
        width = max(self.seconds, seconds)
        return start // width * width, width

    def _add(self, start: int, width: int, counts: Coarse) -> None:
        if start in self._found:
            self._found[start].add(counts)
        else:
            self._found[start] = Column(start, width, counts)

    def to_text(self) -> str:
        """Return them as JSON, in order of time."""
        return f"[{','.join(self._found[start].to_text() for start in sorted(self._found))}]"


@attrs.frozen
class Past:
    """What a strip shows of a target."""

    columns: Columns
    changes: Sequence[Change]


def merged(spans: Iterable[Span], start: int, end: int) -> Counts:
    """Return the counts of all spans that begin in a range of time."""
    counts = Counts()
    for span in spans:
        if start <= span.start < end:
            counts.add(span.counts)
    return counts


def look_back(row: Row | None, since: float) -> float:
    """Return from when on to read changes, so that what began before a range is found, too."""
    return since if row is None else min(since, row.since)


def events(
    changes: Iterable[Change], row: Row | None, since: float, until: float
) -> list[Event]:
    """Return what lasted in a range of time, of one target's changes up to now, as it began.

    What goes on is known from its beginning, or else from the state of the target.
    """
    found = list[Event]()
    going_on = dict[EventKind, Event]()
    for change in changes:
        if change.ended is not None:
            going_on.pop(change.ended.kind, None)
            found.append(change.ended)
        if change.began is not None:
            going_on[change.began.kind] = change.began
    if row is not None and row.state in set(EventKind):
        kind = EventKind(row.state)
        going_on.setdefault(kind, Event(kind=kind, since=row.since))
    found += going_on.values()
    return sorted(
        (
            each
            for each in found
            if each.since < until and (each.until is None or each.until > since)
        ),
        key=lambda event: event.since,
    )
