"""Metrics of watch: what Prometheus finds, how often it is made, and that the loop goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio
import trio.testing
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain_text
from prometheus_client.registry import Collector

from documents import chapter
from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import Histogram
from techo._watch.counts import Counts, Snapshot
from techo._watch.events import State
from techo._watch.metrics import SharedExposition, WatchExposition
from watches import snapshot

MS = 1_000_000
TLS = snapshot(
    r'sh"op\1',
    kind="tls",
    group="web",
    state=State.FLAPPING,
    down=True,
    sent=9,
    missed=2,
    total=Counts(
        Histogram.of([40_000, 60_000, 3 * MS, 20_000 * MS]),
        Counter({FailureCause.REFUSED: 3, FailureCause.TIMEOUT_REPLY: 1}),
        late=1,
        duplicate=4,
        corrupt=5,
        stray=6,
        down_seconds=7.5,
    ),
    setup={step: Histogram.of([2 * MS, MS]) for step in ("lookup", "connect", "handshake")},
    certificate_end=2e9,
)
FORMATS: list[tuple[str, Callable[[str], Any]]] = [
    ("text/plain", plain_text),
    ("application/openmetrics-text; version=1.0.0", openmetrics),
]
Values = dict[tuple[str, ...], float]


def values_of(text: str, parse: Callable[[str], Any] = plain_text) -> Values:
    """Return each sample by its name and its labels but for those of every target."""
    found: Values = {}
    for family in parse(text):
        for sample in family.samples:
            own = sorted(sample.labels.keys() - COMMON)
            found[(sample.name, *(sample.labels[each] for each in own))] = sample.value
    return found


COMMON = {"target", "kind", "group"}


def collected(*snapshots: Snapshot) -> Values:
    """Return what a collector that is new finds."""
    return values_of(WatchExposition("1.2").expose("", snapshots)[0].decode())


@pytest.mark.parametrize(("accept", "parse"), FORMATS, ids=["text", "openmetrics"])
def test_everything_known_is_a_metric(accept: str, parse: Callable[[str], Any]) -> None:
    """Prometheus' own parsers find it, in seconds, whatever is in a name."""
    text, content_type = WatchExposition("1.2").expose(accept, [TLS])
    assert content_type.startswith(accept.partition(";")[0])
    families = [*parse(text.decode())]
    ours = [each for each in families if each.name.startswith("techo_watch_")]
    assert {
        tuple(sample.labels[name] for name in ("target", "kind", "group"))
        for family in ours
        for sample in family.samples
    } == {(r'sh"op\1', "tls", "web")}
    assert sum(len(family.samples) for family in ours) == 54
    assert not {each.name for each in ours if f"`{each.name}" not in chapter("watch")}
    values = values_of(text.decode(), parse)
    assert values["techo_build_info", "1.2"] == 1
    assert values["process_open_fds",] > 3
    name = "techo_watch_round_trip_seconds"
    buckets = {key[1]: value for key, value in values.items() if key[0] == f"{name}_bucket"}
    assert len(buckets) == 18
    assert [buckets[end] for end in ("5e-05", "0.0001", "0.0025", "0.005", "10.0", "+Inf")] == [
        *(1, 2, 2, 3, 3, 4)
    ]
    expected: Values = {
        ("techo_watch_up",): 0,
        **{("techo_watch_state", state): state == "flapping" for state in State},
        (f"{name}_count",): 4,
        (f"{name}_sum",): 20.0031,
        **{("techo_watch_lost_total", cause): 0 for cause in FailureCause},
        ("techo_watch_lost_total", "refused"): 3,
        ("techo_watch_lost_total", "timeout-reply"): 1,
        ("techo_watch_sent_total",): 9,
        ("techo_watch_missed_total",): 2,
        ("techo_watch_received_total",): 4,
        ("techo_watch_late_total",): 1,
        ("techo_watch_duplicate_total",): 4,
        ("techo_watch_corrupt_total",): 5,
        ("techo_watch_stray_total",): 6,
        ("techo_watch_down_seconds_total",): 7.5,
        ("techo_watch_certificate_expiry_timestamp_seconds",): 2e9,
        **{
            (f"techo_watch_{step}_seconds_{end}",): value
            for step in TLS.setup
            for end, value in (("count", 2), ("sum", 0.003))
        },
    }
    assert expected == {
        key: value
        for key, value in values.items()
        if key[0].startswith("techo_watch") and "_bucket" not in key[0]
    }


@pytest.mark.parametrize(
    ("found", "up"),
    [
        (snapshot(state=State.UNKNOWN), None),
        (snapshot(state=State.UP), 1),
        (snapshot(state=State.DEGRADED), 1),
        (snapshot(state=State.DOWN, down=True), 0),
        (snapshot(state=State.FLAPPING), 1),
        (snapshot(state=State.FLAPPING, down=True), 0),
    ],
    ids=["unknown", "up", "degraded", "down", "flapping-up", "flapping-down"],
)
def test_a_target_is_up_if_it_answers(found: Snapshot, up: float | None) -> None:
    """Slow or flapping, it does; while that is not known, nothing is claimed."""
    values = collected(found)
    assert values.get(("techo_watch_up",)) == up
    states = {key[1]: value for key, value in values.items() if key[0] == "techo_watch_state"}
    assert states == {each: each == found.state for each in State}


def test_what_there_is_not_is_left_out() -> None:
    """Over UDP to an address there is no certificate, and nothing to set up."""
    found = collected(snapshot())
    names = {key[0] for key in found}
    assert len([each for each in found if each[0].startswith("techo_watch")]) == 47
    assert not {each for each in names if "certificate" in each or "lookup" in each}
    assert "techo_watch_sent_total" in names


def test_a_counter_does_not_fall_when_what_was_lost_comes_late() -> None:
    """To Prometheus it would have begun anew, and all of it would count again."""

    def at(lost: int, sent: int) -> Snapshot:
        failures = Counter({FailureCause.TIMEOUT_REPLY: lost})
        return snapshot(sent=sent, total=Counts(failures=failures))

    exposition = WatchExposition("1.2")
    found = list[float]()
    for lost, sent in [(5, 10), (4, 11), (5, 12), (7, 14), (2, 3)]:
        text, _ = exposition.expose("", [at(lost, sent)])
        found.append(values_of(text.decode())["techo_watch_lost_total", "timeout-reply"])
    assert found == [5, 5, 5, 7, 2], "the last is of a new target under the same name"
    text, _ = exposition.expose("", [])
    assert b"techo_watch_lost_total{" not in text


def test_a_text_that_is_not_finished_leaves_counters_as_they_are() -> None:
    """What targets had lost before is still known of those that it did not come to."""
    exposition = WatchExposition("1.2")

    def lost(number: int) -> Snapshot:
        failures = Counter({FailureCause.EOF: number})
        return snapshot(sent=9, total=Counts(failures=failures))

    def cancelled() -> Iterator[Snapshot]:
        yield snapshot("other")
        raise KeyboardInterrupt

    exposition.expose("", [lost(5)])
    with pytest.raises(KeyboardInterrupt):
        exposition.expose("", cancelled())
    text, _ = exposition.expose("", [lost(4)])
    assert values_of(text.decode())["techo_watch_lost_total", "eof"] == 5


@pytest.mark.parametrize("accept", [each for each, _ in FORMATS])
def test_lines_are_those_that_the_library_writes(accept: str) -> None:
    """Its own writer makes the same bytes of what its parser has read."""
    targets = [TLS, snapshot(state=State.UNKNOWN, sent=12_345_678), snapshot("c\u00e9 d")]
    text, content_type = WatchExposition("1.2").expose(accept, targets)
    encode, theirs = choose_encoder(accept)
    parse = openmetrics if "openmetrics" in content_type else plain_text

    class Read(Collector):
        """What was read."""

        def collect(self) -> Iterator[Metric]:
            """Yield it."""
            yield from parse(text.decode())

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Read())
    ours, again = (
        [each for each in found.splitlines() if b"techo_watch" in each]
        for found in (text, encode(registry))
    )
    assert content_type == theirs
    assert ours == again


def test_there_is_a_pause_between_pieces() -> None:
    """A few targets are written at a time, so that a thread does not hold up the loop."""
    looked_at = [0]

    class Counting:
        """A target that knows how often something of it was wanted."""

        def __getattr__(self, name: str) -> Any:
            looked_at[-1] += 1
            return getattr(TLS, name)

    exposition = WatchExposition("1.2", lambda: looked_at.append(0))
    targets: Any = [Counting() for _ in range(250)]
    exposition.expose("", targets)
    assert max(looked_at) <= 300
    assert len(looked_at) >= 50


class Source:
    """Snapshots that are counted when they are taken."""

    def __init__(self, number: int = 3) -> None:
        self.taken = 0
        self.number = number

    def __call__(self) -> Iterator[Snapshot]:
        """Take them."""
        self.taken += 1
        return (snapshot(f"t{n}", sent=self.taken) for n in range(self.number))


async def sent_of(shared: SharedExposition, accept: str = "") -> float:
    """Return which time the snapshots were taken that a text is of."""
    text, content_type = await shared(accept)
    parse = openmetrics if "openmetrics" in content_type else plain_text
    return values_of(text.decode(), parse)["techo_watch_sent_total",]


async def test_a_text_is_made_once_a_second(autojump_clock: trio.testing.MockClock) -> None:
    """Who asks meanwhile shares it, and who asks later gets a new one; formats are apart."""
    shared = SharedExposition(source := Source(), "1.2")
    found = list[float]()

    async def ask(accept: str) -> None:
        found.append(await sent_of(shared, accept))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask, "")
    assert found == [1] * 10
    await trio.sleep(0.99)
    assert await sent_of(shared) == 1
    await trio.sleep(0.02)
    assert await sent_of(shared) == 2
    for version in ("1.0.0", "1.0.1"):
        assert await sent_of(shared, f"application/openmetrics-text; version={version}") == 3
    assert await sent_of(shared) == 2
    assert source.taken == 3


async def test_the_loop_goes_on_while_snapshots_are_taken() -> None:
    """Other tasks have their turns between."""
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    seen = list[int]()

    def take() -> Iterator[Snapshot]:
        for n in range(100):
            seen.append(turns)
            yield snapshot(f"t{n}")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_turns)
        await SharedExposition(take, "1.2")("")
        nursery.cancel_scope.cancel()
    # Of two tasks that take turns, one may have two running, by the luck of the loop's draw.
    assert len({*seen}) >= 3, seen


async def test_who_is_cancelled_leaves_it_to_the_next() -> None:
    """A scraper that gives up does not take the text from who waits behind it."""
    scope, found = trio.CancelScope(), list[float]()
    source = Source(50)

    def take() -> Iterator[Snapshot]:
        if not source.taken:
            scope.cancel()
        return source()

    shared = SharedExposition(take, "1.2")

    async def ask() -> None:
        found.append(await sent_of(shared))

    async with trio.open_nursery() as nursery:
        with scope:
            nursery.start_soon(ask)
            await shared("")
    assert scope.cancelled_caught
    assert found == [2]


async def test_the_thread_ends_when_the_watch_does() -> None:
    """A text that nobody waits for any more is not made to its end."""
    scope, looked_at = trio.CancelScope(), 0

    class Cancelling:
        """A target at whose sight the scraper gives up."""

        def __getattr__(self, name: str) -> Any:
            nonlocal looked_at
            if name == "target":
                looked_at += 1
            if looked_at == 1:
                trio.from_thread.run_sync(scope.cancel)
            return getattr(TLS, name)

    def take() -> Iterator[Snapshot]:
        yield from [Cancelling()] * 50  # type: ignore[misc]  # as good as one

    with scope:
        await SharedExposition(take, "1.2")("")
    assert scope.cancelled_caught
    assert looked_at < 300, "they are looked at again for each family"
