"""Metrics of watch: what is known of each target as Prometheus reads it (extra "metrics").

prometheus-client writes all but the lines of targets: of a thousand, these are fifty thousand,
for which it takes a second. Here they take a tenth of that, at most once a second, for all who
ask meanwhile, and in a thread. It pauses often: else it would hold up the loop, and each
millisecond of that would be measured as a delay.
"""

from __future__ import annotations

import collections
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeAlias

import attrs
import trio
from prometheus_client.metrics_core import InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from techo._operate.metrics import exposition, format_of
from techo._probing.failure_cause import FailureCause
from techo._watch.counts import Snapshot
from techo._watch.events import State
from techo._watch.turns import let_the_loop_go_on

_SECOND: Final = 1e9
"""Nanoseconds."""

_MICROSECONDS: Final = (
    *(50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000),
    *(500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000),
)
"""Up to which each bucket counts; one more has the rest. From what loopback takes to more than
anybody waits, in steps as Prometheus' own clients have them."""

_BOUNDS: Final = [each * 1_000 for each in _MICROSECONDS]
"""In nanoseconds."""

_PERIOD: Final = 1.0
"""Seconds between two texts."""

_PIECE: Final = 3
"""Targets that are written at a time, in less than half a millisecond."""

_AT_ONCE: Final = 20
"""Targets that the loop looks at at a time, in less than a millisecond."""

Found: TypeAlias = Iterator[tuple[str, str, str, float]]
"""Ends of names, labels before those of all targets, labels between these, and values."""

Samples: TypeAlias = Callable[[Snapshot], Found]

Family: TypeAlias = tuple[str, str, str, Samples]
"""Its type, its name, what it is about, and its samples of one target."""


@attrs.frozen
class _Lost:
    """The most that a target has lost.

    What comes late after all is not lost any more, and to Prometheus a counter that falls has
    begun anew.
    """

    causes: collections.Counter[FailureCause]
    sent: int
    """How many were due by then; if fewer are, it is a new one under the same name."""


@attrs.define(eq=False)
class WatchExposition:
    """Makes the text about many targets."""

    version: str
    pause: Callable[[], object] = lambda: None
    """Called between pieces."""
    _lost: dict[str, _Lost] = attrs.field(factory=dict, init=False)
    """By target, of those that are there."""
    _frame: Callable[[str], tuple[bytes, str]] = attrs.field(init=False)
    _families: dict[str, Samples] = attrs.field(init=False)
    """By name, in the order of the text."""

    def __attrs_post_init__(self) -> None:
        about = "Probes that did not come back in time."
        families: list[Family] = [*_FAMILIES, ("counter", "lost", about, self._losses)]
        empty = [Metric(f"techo_watch_{name}", text, kind) for kind, name, text, _ in families]
        self._families = {
            each.name: family[-1] for each, family in zip(empty, families, strict=True)
        }
        self._frame = exposition(_Frame(self.version, empty))

    def expose(self, accept: str, snapshots: Iterable[Snapshot]) -> tuple[bytes, str]:
        """Return the text and its content type, for an Accept header."""
        lines: dict[str, list[bytes]] = {name: [] for name in self._families}
        before, self._lost = self._lost, {}
        try:
            remaining = iter(snapshots)
            while piece := [*itertools.islice(remaining, _PIECE)]:
                for each in piece:
                    self._count_lost(each, before.get(each.target))
                labels = [_labels_of(each) for each in piece]
                for name, samples in self._families.items():
                    lines[name].append("".join(_lines(name, samples, piece, labels)).encode())
                self.pause()
        except BaseException:
            self._lost = before | self._lost
            raise
        frame, content_type = self._frame(accept)
        text: list[bytes] = []
        for line in frame.splitlines(keepends=True):
            text.append(line)
            if line.startswith(b"# TYPE techo_watch_"):
                # In one of the formats a counter's name has its ending here, too.
                text += lines[line.split()[2].decode().removesuffix("_total")]
        return b"".join(text), content_type

    def _count_lost(self, snapshot: Snapshot, before: _Lost | None) -> None:
        """Keep the most that a target has lost."""
        known = collections.Counter[FailureCause]()
        if before is not None and before.sent <= snapshot.sent:
            known = before.causes
        known = known | snapshot.total.failures
        self._lost[snapshot.target] = _Lost(known, snapshot.sent)

    def _losses(self, snapshot: Snapshot) -> Found:
        lost = self._lost[snapshot.target].causes
        for cause, label in _CAUSES.items():
            yield "_total", label, "", lost[cause]


@attrs.define(eq=False)
class _Frame(Collector):
    """Makes what is not about targets, and of the rest what it is about."""

    version: str
    empty: Sequence[Metric]

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("techo_build", "What is running.", {"version": self.version})
        yield from self.empty


def _lines(
    name: str,
    samples: Samples,
    snapshots: Sequence[Snapshot],
    labels: Sequence[tuple[str, str]],
) -> Iterator[str]:
    for snapshot, (first, last) in zip(snapshots, labels, strict=True):
        for end, before, between, value in samples(snapshot):
            yield f"{name}{end}{{{before}{first}{between}{last}}} {_written(value)}\n"


def _labels_of(snapshot: Snapshot) -> tuple[str, str]:
    """Return the labels of a target: these of which others may be between, and the last."""
    group, kind, target = map(_escaped, (snapshot.group, snapshot.kind, snapshot.target))
    return f'group="{group}",kind="{kind}",', f'target="{target}"'


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


@functools.lru_cache(maxsize=4096)
def _written(value: float) -> str:
    """Return a value as Prometheus has it; most are small numbers, again and again."""
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]  # theirs
    return text


_CAUSES: Final = {cause: f'cause="{cause}",' for cause in FailureCause}
_STATES: Final = {str(state): f'state="{state}",' for state in State}
_BUCKETS: Final = [*(f'le="{each / _SECOND}",' for each in _BOUNDS), 'le="+Inf",']

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
        yield "", "", "", not snapshot.down


def _state(snapshot: Snapshot) -> Found:
    for state, label in _STATES.items():
        yield "", "", label, state == snapshot.state


def _round_trips(snapshot: Snapshot) -> Found:
    histogram = snapshot.total.latency
    counts = [*histogram.up_to(_BOUNDS), histogram.count]
    for label, count in zip(_BUCKETS, counts, strict=True):
        yield "_bucket", "", label, count
    yield "_count", "", "", histogram.count
    yield "_sum", "", "", histogram.sum / _SECOND


def _total_of(name: str) -> Samples:
    def samples(snapshot: Snapshot) -> Found:
        place = snapshot if name in {"sent", "missed"} else snapshot.total
        yield "_total", "", "", getattr(place, name)

    return samples


def _down(snapshot: Snapshot) -> Found:
    yield "_total", "", "", snapshot.total.down_seconds


def _certificate(snapshot: Snapshot) -> Found:
    if snapshot.certificate_end is not None:
        yield "", "", "", snapshot.certificate_end


def _setup_of(step: str) -> Samples:
    def samples(snapshot: Snapshot) -> Found:
        found = snapshot.setup.get(step)
        if found is not None:
            yield "_count", "", "", found.count
            yield "_sum", "", "", found.sum / _SECOND

    return samples


_CERTIFICATE: Final = "certificate_expiry_timestamp_seconds"

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
    """Called and iterated over on the loop, with pauses. What it yields must not change."""
    version: str
    _exposition: WatchExposition = attrs.field(init=False)
    _lock: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    _made: dict[str, tuple[float, bytes, str]] = attrs.field(factory=dict, init=False)
    """By Accept header, when each text was made, the text, and its content type."""

    def __attrs_post_init__(self) -> None:
        self._exposition = WatchExposition(self.version, let_the_loop_go_on)

    async def __call__(self, accept: str) -> tuple[bytes, str]:
        """Return the text and its content type, for an Accept header.

        If it is cancelled, the next who waits makes the text.
        """
        accept = format_of(accept)
        async with self._lock:
            # A text may be 25 MB, so that none stays while it is made anew.
            fresh = trio.current_time() - _PERIOD
            self._made = {each: made for each, made in self._made.items() if made[0] > fresh}
            if accept not in self._made:
                made = await trio.to_thread.run_sync(self._make, accept)
                self._made[accept] = trio.current_time(), *made
            _, text, content_type = self._made[accept]
        return text, content_type

    def _make(self, accept: str) -> tuple[bytes, str]:
        """Make a text, in a thread."""
        return self._exposition.expose(accept, self._taken())

    def _taken(self) -> Iterator[Snapshot]:
        """Yield snapshots, which the loop takes a few at a time: all would be 50 MB."""
        remaining = trio.from_thread.run_sync(lambda: iter(self.snapshots()))
        while found := trio.from_thread.run_sync(
            lambda: [*itertools.islice(remaining, _AT_ONCE)]
        ):
            yield from found
