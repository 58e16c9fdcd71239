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

_PIECE: Final = 200
"""Lines that are written at a time, in less than half a millisecond."""

_AT_ONCE: Final = 20
"""Targets that are looked at at a time, likewise."""

Found: TypeAlias = Iterator[tuple[str, str, str, float]]
"""Ends of names, labels before those of all targets, labels between these, and values."""

Samples: TypeAlias = Callable[[Snapshot], Found]

Family: TypeAlias = tuple[str, str, str, Samples]
"""Its type, its name, what it is about, and its samples of one target."""


@attrs.define(eq=False)
class WatchExposition:
    """Makes the text about many targets."""

    version: str
    pause: Callable[[], object] = lambda: None
    """Called between pieces."""
    _lost: dict[str, collections.Counter[FailureCause]] = attrs.field(factory=dict, init=False)
    """By target, the most that were lost for each cause. What comes late after all is not lost
    any more, and to Prometheus a counter that falls has begun anew."""
    _sent: dict[str, int] = attrs.field(factory=dict, init=False)
    """By target; fewer are of a new one under the same name."""
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

    def expose(self, accept: str, snapshots: Sequence[Snapshot]) -> tuple[bytes, str]:
        """Return the text and its content type, for an Accept header."""
        labels = self._prepare(snapshots)
        frame, content_type = self._frame(accept)
        pieces: list[bytes] = []
        for line in frame.splitlines(keepends=True):
            pieces.append(line)
            if line.startswith(b"# TYPE techo_watch_"):
                # In one of the formats a counter's name has its ending here, too.
                name = line.split()[2].decode().removesuffix("_total")
                lines = _lines(name, self._families[name], snapshots, labels)
                while piece := "".join(itertools.islice(lines, _PIECE)):
                    pieces.append(piece.encode())
                    self.pause()
        return b"".join(pieces), content_type

    def _prepare(self, snapshots: Sequence[Snapshot]) -> list[tuple[str, str]]:
        """Keep the most that each target has lost, forget those that are gone, make labels."""
        lost, sent, labels = {}, {}, []
        for number, each in enumerate(snapshots, 1):
            known = self._lost.get(each.target)
            if known is None or self._sent[each.target] > each.sent:
                known = collections.Counter()
            lost[each.target] = known | each.total.failures
            sent[each.target] = each.sent
            labels.append(_labels_of(each))
            if number % _AT_ONCE == 0:
                self.pause()
        self._lost, self._sent = lost, sent
        return labels

    def _losses(self, snapshot: Snapshot) -> Found:
        lost = self._lost[snapshot.target]
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
    """Called on the loop, and iterated over with pauses. What it yields must not change."""
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
                found = await _look_at(self.snapshots())
                made = await trio.to_thread.run_sync(self._exposition.expose, accept, found)
                self._made[accept] = trio.current_time(), *made
            _, text, content_type = self._made[accept]
        return text, content_type


async def _look_at(snapshots: Iterable[Snapshot]) -> list[Snapshot]:
    """Return what is there, with a pause now and then: taking snapshots takes time."""
    found = []
    for number, each in enumerate(snapshots, 1):
        found.append(each)
        if number % _AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
    return found
