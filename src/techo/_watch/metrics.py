"""Metrics of watch: what is known of each target as Prometheus reads it (extra "metrics").

A thousand targets are fifty thousand lines, which take a quarter of a second to write. So that
is done at most once a second, for all who ask meanwhile, and in a thread. What is done there
is in pieces of half a millisecond: more would hold up the loop, and be measured as a delay.
"""

from __future__ import annotations

import collections
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias, cast

import attrs
import trio
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from techo._operate.metrics import exposition
from techo._probing.failure_cause import FailureCause
from techo._watch.counts import Snapshot
from techo._watch.events import State

_MICROSECONDS: Final = (
    *(50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000),
    *(500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000),
)
"""Up to which each bucket counts; one more has the rest. From what loopback takes to more than
anybody waits, in steps as Prometheus' own clients have them."""

_SECOND: Final = 1e9
"""Nanoseconds."""

_BOUNDS: Final = [each * 1_000 for each in _MICROSECONDS]
"""In nanoseconds."""

_ENDS: Final = [*(str(each / _SECOND) for each in _BOUNDS), "+Inf"]

_PERIOD: Final = 1.0
"""Seconds between two texts."""

_PIECE: Final = 100
"""Samples that are written at a time, in half a millisecond."""

_PAUSE: Final = 5e-5
"""Seconds in which the loop can go on."""

_AT_ONCE: Final = 20
"""Targets that the loop looks at before it goes on."""

_MOST_FORMATS: Final = 8

Labels: TypeAlias = dict[str, str]

Found: TypeAlias = Iterator[tuple[str, Mapping[str, str], float]]
"""Ends of names, labels beside those that all have, and values."""

Samples: TypeAlias = Callable[[Snapshot], Found]

Family: TypeAlias = tuple[str, str, str, Samples]
"""Its type, its name, what it is about, and its samples of one target."""


@attrs.define(eq=False)
class WatchCollector(Collector):
    """Makes metric families of snapshots, each line when it is asked for."""

    snapshots: Callable[[], Iterable[Snapshot]]
    """Called for each collection. What it returns must not change."""
    version: str
    pause: Callable[[], object] = lambda: None
    """Called between pieces."""
    _lost: dict[str, collections.Counter[FailureCause]] = attrs.field(factory=dict, init=False)
    """By target, the most that were lost for each cause. What comes late after all is not lost
    any more, and to Prometheus a counter that falls has begun anew."""
    _sent: dict[str, int] = attrs.field(factory=dict, init=False)
    """By target; fewer are of a new one under the same name."""

    def collect(self) -> Iterator[Metric]:
        """Yield each family once."""
        found = [(each, _labels(each)) for each in self.snapshots()]
        self._count_lost(each for each, _ in found)
        yield InfoMetricFamily("techo_build", "What is running.", {"version": self.version})
        for kind, name, about, samples in (*_FAMILIES, *self._own_families()):
            yield self._family(kind, f"techo_watch_{name}", about, samples, found)

    def _own_families(self) -> Iterator[Family]:
        """Return those that depend on what was collected before."""
        yield "counter", "lost", "Probes that did not come back in time.", self._losses

    def _family(
        self,
        kind: str,
        name: str,
        about: str,
        samples: Samples,
        found: Sequence[tuple[Snapshot, Labels]],
    ) -> Metric:
        def each() -> Iterator[Sample]:
            number = 0
            for snapshot, labels in found:
                for suffix, also, value in samples(snapshot):
                    if number % _PIECE == 0:
                        self.pause()
                    number += 1
                    yield Sample(name + suffix, {**labels, **also} if also else labels, value)

        metric = Metric(name, about, kind)
        metric.samples = cast("list[Sample]", _Each(each))  # which is only iterated over
        return metric

    def _count_lost(self, snapshots: Iterable[Snapshot]) -> None:
        """Keep the most that each target has lost; forget targets that are gone."""
        lost, sent = {}, {}
        for each in snapshots:
            known = self._lost.get(each.target)
            if known is None or self._sent[each.target] > each.sent:
                known = collections.Counter()
            lost[each.target] = known | each.total.failures
            sent[each.target] = each.sent
        self._lost, self._sent = lost, sent

    def _losses(self, snapshot: Snapshot) -> Found:
        lost = self._lost[snapshot.target]
        for cause in FailureCause:
            yield "_total", _CAUSES[cause], lost[cause]


@attrs.frozen
class _Each:
    """What a function yields, each time anew."""

    make: Callable[[], Iterator[Sample]]

    def __iter__(self) -> Iterator[Sample]:
        return self.make()


def _labels(snapshot: Snapshot) -> Labels:
    return {"target": snapshot.target, "kind": snapshot.kind, "group": snapshot.group}


_NONE: Final[Mapping[str, str]] = {}
_CAUSES: Final = {cause: {"cause": str(cause)} for cause in FailureCause}
_STATES: Final = {str(state): {"state": str(state)} for state in State}
_BUCKETS: Final = [{"le": end} for end in _ENDS]

_CERTIFICATE: Final = "certificate_expiry_timestamp_seconds"

_STEPS: Final = {
    "lookup": "How long looking up its name took.",
    "connect": "How long connecting took, without that.",
    "handshake": "How long the handshake of TLS took.",
}

_TOTALS: Final = {
    "sent": "Probes that were due.",
    "received": "Probes that came back, late ones among them.",
    "late": "Probes that came back after their timeout.",
    "duplicate": "Replies beyond the first of a probe.",
    "corrupt": "Replies that were not what was sent.",
    "stray": "Messages that were no reply to anything.",
    "missed": "Probes that this program was too busy to send.",
}


def _up(snapshot: Snapshot) -> Found:
    if snapshot.state != State.UNKNOWN:
        yield "", _NONE, not snapshot.down


def _state(snapshot: Snapshot) -> Found:
    for state, label in _STATES.items():
        yield "", label, state == snapshot.state


def _round_trips(snapshot: Snapshot) -> Found:
    histogram = snapshot.total.latency
    counts = [*histogram.up_to(_BOUNDS), histogram.count]
    for label, count in zip(_BUCKETS, counts, strict=True):
        yield "_bucket", label, count
    yield "_count", _NONE, histogram.count
    yield "_sum", _NONE, histogram.sum / _SECOND


def _total_of(name: str) -> Samples:
    def samples(snapshot: Snapshot) -> Found:
        place = snapshot if name in {"sent", "missed"} else snapshot.total
        yield "_total", _NONE, getattr(place, name)

    return samples


def _down(snapshot: Snapshot) -> Found:
    yield "_total", _NONE, snapshot.total.down_seconds


def _certificate(snapshot: Snapshot) -> Found:
    if snapshot.certificate_end is not None:
        yield "", _NONE, snapshot.certificate_end


def _setup_of(step: str) -> Samples:
    def samples(snapshot: Snapshot) -> Found:
        found = snapshot.setup.get(step)
        if found is not None:
            yield "_count", _NONE, found.count
            yield "_sum", _NONE, found.sum / _SECOND

    return samples


_FAMILIES: Final[Sequence[Family]] = (
    ("gauge", "up", "Whether it answers; missing while that is not known.", _up),
    ("gauge", "state", "1 for the state that it is in.", _state),
    ("histogram", "round_trip_seconds", "How long probes took that came back.", _round_trips),
    *(("counter", name, about, _total_of(name)) for name, about in _TOTALS.items()),
    ("counter", "down_seconds", "How long it was down.", _down),
    ("gauge", _CERTIFICATE, "Until when its certificate is valid.", _certificate),
    *(("summary", f"{step}_seconds", _STEPS[step], _setup_of(step)) for step in _STEPS),
)


@attrs.define(eq=False)
class SharedExposition:
    """The text for all who ask: it is made anew when the latest one is a second old."""

    snapshots: Callable[[], Iterable[Snapshot]]
    """Called on the loop, and iterated over with pauses. What it yields must not change."""
    version: str
    _taken: Sequence[Snapshot] = ()
    _lock: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    _made: dict[str, tuple[float, bytes]] = attrs.field(factory=dict, init=False)
    """By content type, when each text was made."""
    _expose: Callable[[str], tuple[bytes, str]] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        collector = WatchCollector(lambda: self._taken, self.version, _let_others_go_on)
        self._expose = exposition(collector)

    async def __call__(self, accept: str) -> tuple[bytes, str]:
        """Return the text and its content type, for an Accept header.

        If it is cancelled, the next who waits makes the text.
        """
        _, content_type = choose_encoder(accept)
        async with self._lock:
            made, text = self._made.get(content_type, (-math.inf, b""))
            if trio.current_time() - made < _PERIOD:
                return text, content_type
            self._taken = await _look_at(self.snapshots())
            try:
                text, content_type = await trio.to_thread.run_sync(self._expose, accept)
            finally:
                self._taken = ()
            if len(self._made) >= _MOST_FORMATS:
                self._made.clear()
            self._made[content_type] = trio.current_time(), text
        return text, content_type


async def _look_at(snapshots: Iterable[Snapshot]) -> list[Snapshot]:
    """Return what is there, with a pause now and then: taking snapshots takes time."""
    found = []
    for number, each in enumerate(snapshots, 1):
        found.append(each)
        if number % _AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
    return found


def _let_others_go_on() -> None:
    """Let the loop have Python for a moment, in the thread that makes the text."""
    trio.from_thread.check_cancelled()
    time.sleep(_PAUSE)
