"""The report of a load: through JSON and back, added up, and refused where it is none."""

from __future__ import annotations

import io
import json
import math
import re
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import techo
from techo._load.text import show

COUNTS = st.integers(0, 2**40)
AMOUNTS = st.floats(0, 10**9).map(lambda amount: round(amount, 9))
"""No clock tells less than a nanosecond."""

CAUSES = st.dictionaries(st.sampled_from(techo.FailureCause), st.integers(1, 10**6))
REASONS = st.dictionaries(
    st.sampled_from(techo.FailureCause), st.text(st.characters(categories=("L", "N", "P", "S")))
)


def histograms(count: int) -> st.SearchStrategy[techo.Histogram]:
    """Of so many durations."""
    durations = st.lists(st.integers(0, 2**45), min_size=count, max_size=count)
    return durations.map(techo.Histogram.of)


NANOSECONDS = st.integers(0, 10**15).map(lambda count: count / 1e9)
OUTAGES = st.builds(
    techo.Outage, NANOSECONDS, st.none() | NANOSECONDS, NANOSECONDS, st.integers(0, 99)
)


PARTS = st.builds(
    techo.LoadPart,
    name=st.sampled_from(["process 1", "10.0.0.2"]),
    received=COUNTS,
    lost=COUNTS,
    unsent=COUNTS,
    p50=st.none() | COUNTS,
    p99=st.none() | COUNTS,
    client_cpu_percent=st.none() | AMOUNTS,
    client_was_limit=st.booleans(),
    died=st.sampled_from([None, "it was ended by signal 9"]),
    clock_offset=st.none() | st.floats(-(10**9), 10**9),
    clock_error=st.none() | AMOUNTS,
)


@st.composite
def reports(draw: st.DrawFn, *, scheduled: bool | None = None) -> techo.LoadReport:
    """Any report, with a rate or without."""
    if scheduled is None:
        scheduled = draw(st.booleans())
    count, failures = draw(st.integers(0, 20)), draw(CAUSES)
    return techo.LoadReport(
        endpoint=draw(
            st.sampled_from(["tcp://127.0.0.1:8009", "unix:/tmp/s", "udp://[::1]:7"])
        ),
        address=draw(st.sampled_from([None, "127.0.0.1:8009", "127.0.0.1:7, [::1]:7"])),
        connections=draw(COUNTS),
        size=draw(COUNTS),
        pipeline=draw(COUNTS),
        rate=draw(AMOUNTS) if scheduled else None,
        arrivals=draw(st.sampled_from(techo.Arrivals)) if scheduled else None,
        seeds=draw(st.lists(st.integers(0, 2**40), max_size=2)),
        ramp_seconds=draw(st.none() | AMOUNTS),
        seconds=draw(AMOUNTS),
        received=count,
        received_bytes=draw(COUNTS),
        lost=draw(st.integers(0, sum(failures.values()))),
        in_flight=draw(COUNTS),
        failures=failures,
        reasons=draw(REASONS),
        reconnects=draw(COUNTS),
        late=draw(COUNTS),
        duplicate=draw(COUNTS),
        stray=draw(COUNTS),
        outages=draw(COUNTS),
        outage_seconds=draw(NANOSECONDS),
        longest_outage=draw(st.none() | OUTAGES),
        unsent=draw(COUNTS),
        service=draw(histograms(count)),
        response=draw(histograms(count)) if scheduled else None,
        send_lag=draw(histograms(count)) if scheduled else None,
        connect=draw(st.integers(0, 20).flatmap(histograms)),
        gave_up_after_seconds=draw(st.none() | AMOUNTS),
        client_cpu_seconds=draw(AMOUNTS),
        client_cpu_percent=draw(st.none() | AMOUNTS),
        client_was_limit=draw(st.booleans()),
        parts=draw(st.lists(PARTS, max_size=2)),
    )


def report(**changes: Any) -> techo.LoadReport:
    """A report of an ordinary load, but for some fields."""
    ordinary: dict[str, Any] = {
        **dict.fromkeys(("lost", "in_flight", "reconnects", "late", "duplicate", "unsent"), 0),
        **dict.fromkeys(("stray", "outages", "outage_seconds"), 0),
        "longest_outage": None,
        "address": None,
        "endpoint": "tcp://127.0.0.1:8009",
        "connections": 10,
        "size": 64,
        "pipeline": 1,
        "rate": None,
        "seconds": 2.0,
        "gave_up_after_seconds": None,
        "received": 4,
        "received_bytes": 256,
        "failures": {},
        "reasons": {},
        "service": techo.Histogram.of([1, 2, 3, 4]),
        "response": None,
        "send_lag": None,
        "client_cpu_seconds": 0.5,
        "client_cpu_percent": 25.0,
        "client_was_limit": False,
    }
    return techo.LoadReport(**ordinary | changes)


@settings(max_examples=40)  # each with some sixty values
@given(reports())
def test_it_goes_through_json_unharmed(one: techo.LoadReport) -> None:
    """As text, whatever is in it."""
    text = json.dumps(one.to_json(), allow_nan=False)
    assert techo.LoadReport.from_json(json.loads(text)) == one


def test_json_says_what_people_ask_for() -> None:
    """Figures in nanoseconds, none where there are too few; causes by their words."""
    times = techo.Histogram.of(range(1000, 1100))
    data = report(
        rate=50,
        service=times,
        response=times,
        send_lag=techo.Histogram(),
        failures={"eof": 2, "tls": 1},
        reasons={"tls": "bad certificate"},
    ).to_json()
    assert (data["schema"], data["event"]) == (2, "summary")
    assert (data["failures"], data["reasons"]) == (
        {"eof": 2, "tls": 1},
        {"tls": "bad certificate"},
    )
    assert data["trips_per_second"] == 2
    assert (data["sent"], data["lost"], data["loss_percent"]) == (4, 0, 0)
    assert data["latency_ns"] == data["response_ns"]
    assert data["service_ns"] == data["response_ns"]
    assert data["service_ns"]["count"] == 100
    assert (data["service_ns"]["min"], data["service_ns"]["max"]) == (1000, 1099)
    assert data["service_ns"]["mean"] == 1050
    assert data["service_ns"]["p99"] == pytest.approx(1098, rel=0.01)
    assert data["service_ns"]["p99_9"] is None
    assert data["send_lag_ns"] == dict.fromkeys(data["send_lag_ns"], None) | {"count": 0}
    assert report().to_json()["response_ns"] is None
    assert report().to_json()["response_histogram"] is None


ADDED = (
    *("connections", "received", "received_bytes", "lost", "in_flight"),
    *("reconnects", "late", "duplicate", "unsent"),
)


@settings(max_examples=30)  # likewise
@given(
    st.booleans().flatmap(lambda on: st.lists(reports(scheduled=on), min_size=1, max_size=4))
)
def test_merging_adds_up(several: list[techo.LoadReport]) -> None:
    """Counts, causes and every bucket; time is the longest, as all ran at the same time."""
    several = [attrs.evolve(each, size=64, arrivals=several[0].arrivals) for each in several]
    total = techo.LoadReport.merged(several)
    for name in ADDED:
        assert getattr(total, name) == sum(getattr(each, name) for each in several)
    for name in ("service", "response", "send_lag", "connect"):
        added = techo.Histogram()
        for each in several:
            if (histogram := getattr(each, name)) is not None:
                added.add(histogram)
        if getattr(several[0], name) is None:
            assert getattr(total, name) is None
        else:
            assert getattr(total, name) == added
    for cause in techo.FailureCause:
        count = sum(each.failures.get(cause, 0) for each in several)
        assert total.failures.get(cause, 0) == count
        assert (cause in total.failures) == bool(count)
        told = [each.reasons[cause] for each in several if cause in each.reasons]
        assert total.reasons.get(cause) == (told[-1] if told else None)
    assert total.seconds == max(each.seconds for each in several)
    assert (total.size, total.pipeline) == (64, max(each.pipeline for each in several))
    shares = [
        each.client_cpu_percent for each in several if each.client_cpu_percent is not None
    ]
    assert total.client_cpu_percent == (max(shares) if shares else None)
    assert [*total.seeds] == [seed for each in several for seed in each.seeds]
    ramps = [each.ramp_seconds for each in several if each.ramp_seconds is not None]
    assert total.ramp_seconds == (max(ramps) if ramps else None)
    rates = [each.rate for each in several if each.rate is not None]
    assert total.rate == (sum(rates) if rates else None)
    assert total.client_was_limit == any(each.client_was_limit for each in several)
    assert [*total.parts] == [part for each in several for part in each.parts]
    assert total.client_cpu_seconds == sum(each.client_cpu_seconds for each in several)


def test_other_messages_are_other_trips() -> None:
    """Reports of messages of different sizes do not add up."""
    with pytest.raises(ValueError, match=r"messages of different sizes: \[64, 100\]"):
        techo.LoadReport.merged([report(size=100), report()])


def test_other_connections_are_other_trips() -> None:
    """Reports whose connections were good for another number of trips do not add up."""
    few, many = report(reconnect_every=1), report(reconnect_every=5)
    assert techo.LoadReport.merged([few, few]).reconnect_every == 1
    for others in ([few, many], [few, report()]):
        with pytest.raises(ValueError, match="the reports differ in reconnect_every: 1, "):
            techo.LoadReport.merged(others)


def test_other_arrivals_are_other_trips() -> None:
    """What comes at random waits longer than what comes evenly."""
    even, at_random = report(arrivals="uniform"), report(arrivals="poisson", seeds=[5])
    assert techo.LoadReport.merged([at_random, at_random]).seeds == (5, 5)
    with pytest.raises(ValueError, match="the reports differ in arrivals: poisson, uniform"):
        techo.LoadReport.merged([even, at_random])


def test_percentiles_are_not_averaged() -> None:
    """The slow machine's are those of all that was slow."""
    fast = report(service=techo.Histogram.of([100] * 900))
    slow = report(service=techo.Histogram.of([10_000] * 100), endpoint="udp://127.0.0.1:7")
    both = techo.LoadReport.merged([fast, slow, fast])
    assert both.service.percentile(50) == 100
    assert both.service.percentile(99) == 10_000
    assert both.endpoint == "tcp://127.0.0.1:8009, udp://127.0.0.1:7"
    assert fast.service.count == 900  # nothing was added to what was given


def test_what_can_not_be_merged() -> None:
    """Nothing, and what was measured in two ways."""
    with pytest.raises(ValueError, match="no report"):
        techo.LoadReport.merged([])
    times = techo.Histogram()
    with pytest.raises(ValueError, match="some of the reports have a rate"):
        techo.LoadReport.merged([report(), report(rate=1.0, response=times, send_lag=times)])


def test_what_a_report_says_of_itself() -> None:
    """Loss is of what is over; nobody was reached if that is all that went wrong."""
    nothing = techo.Histogram()
    assert report().loss == 0
    assert report(lost=1).loss == 20
    assert report(received=0, service=nothing).loss is None
    assert report(seconds=0.0).trips_per_second == 0
    assert report(failures={"eof": 1, "reset": 2}).failed == 3
    assert not report(failures={"refused": 2}).never_reached
    assert not report(received=0, service=nothing).never_reached
    assert report(received=0, service=nothing, failures={"refused": 2, "dns": 1}).never_reached
    assert not report(
        received=0, service=nothing, failures={"refused": 2, "eof": 1}
    ).never_reached


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("tcp://127.0.0.1:8009", "12 connections opened"),
        ("unixpacket:/tmp/s", "12 connections opened"),
        ("udp://127.0.0.1:8009", "12 sockets opened"),
        ("unixgram:/tmp/s, udp://[::1]:8009", "12 sockets opened"),
        ("udp://[::1]:8009, tcp://[::1]:8009", "12 connections opened"),
    ],
)
def test_the_text_says_what_was_opened(endpoint: str, words: str) -> None:
    """Over udp and unixgram nothing connects: there is a new socket each time."""
    opened = techo.Histogram.of([10**6] * 12)
    assert words in str(report(endpoint=endpoint, reconnect_every=1, connect=opened))


@pytest.mark.parametrize("colours", [False, True])
def test_no_line_of_the_text_ends_in_blanks(
    colours: bool,  # noqa: FBT001  -- a parameter of the test
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They would be in the way where it is kept; a style may end after the last word."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    file = io.StringIO()
    show(report(), file, colours=colours)
    text = file.getvalue()
    assert ("\x1b[1m" in text) == colours
    assert "service time, ms" in text
    assert not re.findall(r" (?:\x1b\[0m)?$", text, re.MULTILINE)


DERIVED = {"sent", "loss_percent", "trips_per_second", "connects", "connects_per_second"}
GIVEN = sorted(set(report().to_json()) - {"schema", "event", *DERIVED})


@pytest.mark.parametrize("name", GIVEN)
def test_a_report_that_lacks_something_is_refused(name: str) -> None:
    """By its name; figures that follow from others need not be there."""
    data = report().to_json()
    del data[name]
    if name.endswith("_ns"):
        assert techo.LoadReport.from_json(data) == report()
    else:
        with pytest.raises(ValueError, match=f"the report lacks '{name}'"):
            techo.LoadReport.from_json(data)


PART = (
    *("name", "received", "lost", "unsent", "p50_ns", "p99_ns"),
    *("client_cpu_percent", "client_was_limit", "died"),
    *("clock_offset_seconds", "clock_error_seconds"),
)

LIVED = dict.fromkeys(PART, None) | {
    "name": "10.0.0.2",
    "client_was_limit": False,
    **dict.fromkeys(("received", "lost", "unsent"), 0),
}

NATURALS = (*ADDED, "pipeline")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        *(({name: -1}, f"{name} -1 is not a whole number from 0") for name in NATURALS),
        *(({name: 1.5}, f"{name} 1.5 is not a whole number") for name in NATURALS),
        *(({name: True}, f"{name} True is not a whole number") for name in NATURALS),
        ({"lost": None}, "lost None is not a whole number"),
        ({"received_bytes": "9"}, "received_bytes '9' is not a whole number"),
        ({"seconds": -0.5}, "seconds -0.5 is not a number from 0"),
        ({"seconds": math.nan}, "seconds nan is not a number from 0"),
        ({"seconds": math.inf}, "seconds inf is not a number from 0"),
        ({"seconds": "9"}, "seconds '9' is not a number from 0"),
        ({"client_cpu_seconds": None}, "client_cpu_seconds None is not a number from 0"),
        (
            {"failures": None},
            "failures None is not a mapping from causes to whole numbers from 1",
        ),
        ({"failures": [1]}, "failures .1. is not a mapping"),
        ({"failures": {"eof": 0}}, "failures {'eof': 0} is not a mapping from causes to whole"),
        (
            {"failures": {"eof": "1"}},
            "failures {'eof': '1'} is not a mapping from causes to whole",
        ),
        ({"failures": {"weather": 1}}, "failures {'weather': 1} is not a mapping from causes"),
        ({"reasons": None}, "reasons None is not a mapping from causes to texts"),
        ({"reasons": {"tls": 1}}, "reasons {'tls': 1} is not a mapping from causes to texts"),
        (
            {"reasons": {"weather": "rain"}},
            "reasons {'weather': 'rain'} is not a mapping from causes",
        ),
        ({"endpoint": None}, "endpoint None is not a text"),
        ({"client_was_limit": "no"}, "client_was_limit 'no' is not true or false"),
        ({"client_cpu_seconds": 10**400}, "client_cpu_seconds 1000"),
        (
            {"failures": {"eof": True}},
            "failures {'eof': True} is not a mapping from causes to whole",
        ),
        ({"seconds": True}, "seconds True is not a number"),
        ({"received": 10**9}, "not received as many as its histograms"),
        ({"wanted_trips_per_second": 5.0}, "lacks a histogram"),
        ({"wanted_trips_per_second": "5"}, "lacks a histogram"),
        ({"service_histogram": None}, "lacks a histogram"),
        ({"connect_histogram": None}, "lacks a histogram"),
        ({"arrivals": "often"}, "arrivals 'often' are neither 'uniform' nor 'poisson'"),
        ({"seeds": [-1]}, "seeds .-1. is not a list of whole numbers from 0"),
        ({"seeds": None}, "seeds None is not a list of whole numbers from 0"),
        ({"ramp_seconds": -1}, "ramp_seconds -1 is not a number from 0"),
        ({"reconnect_every": 0}, "reconnect_every 0 is not a whole number from 1, or None"),
        ({"response_histogram": techo.Histogram().to_json()}, "lacks a histogram"),
        ({"service_histogram": {"bits": 3}}, "a histogram has bits 6"),
        ({"service_histogram": {"bits": 6}}, "the histogram lacks 'buckets'"),
        ({"service_histogram": [1]}, "a histogram has bits 6"),
        ({"lost": 1}, "has lost 1, and failures for fewer"),
        ({"lost": 10**18}, "lost 10{18} is not below 1e18"),
        ({"endpoint": "\x1b[2J"}, "is not a text that can be printed"),
        ({"reasons": {"tls": "\n"}}, "is not a mapping from causes to texts"),
        ({"size_bytes": -1}, "size -1 is not a whole number from 0"),
        ({"outages": None}, "outages have count, total_ns, longest, and these are"),
        ({"outages": {"count": 1}}, "outages have count, total_ns, longest"),
        (
            {"outages": {"count": -1, "total_ns": 0, "longest": None}},
            "count -1 is not a whole number from 0",
        ),
        (
            {"outages": {"count": 1, "total_ns": 0.5, "longest": None}},
            "total_ns 0.5 is not a whole number from 0",
        ),
        (
            {"outages": {"count": 1, "total_ns": 0, "longest": 5}},
            "an outage has from_ns, to_ns, duration_ns, probes",
        ),
        ({"parts": None}, "parts None is not a list of parts, each with name, received, lost"),
        ({"parts": [{"name": "process 1"}]}, "is not a list of parts, each with name"),
        (
            {"parts": [{**LIVED, "clock_offset_seconds": "1"}]},
            "clock_offset '1' is not a number of seconds",
        ),
        ({"parts": [dict.fromkeys(PART, 1)]}, "name 1 is not a text that can be printed"),
        ({"event": "reply"}, "no summary of a load"),
        ({"schema": 1}, "no report of schema 2, but of 1: measure again"),
        ({"schema": None}, "no report of schema 2, but of None"),
    ],
    ids=str,
)
def test_what_is_no_report_is_refused(change: dict[str, object], words: str) -> None:
    """With what is wrong about it."""
    with pytest.raises(ValueError, match=words):
        techo.LoadReport.from_json(report().to_json() | change)


def test_a_rate_that_is_none_is_refused() -> None:
    """Also where there are all histograms that belong to one."""
    times = techo.Histogram.of([5] * 4)
    data = report(rate=5.0, response=times, send_lag=times).to_json()
    assert techo.LoadReport.from_json(data).rate == 5
    with pytest.raises(ValueError, match="not received as many as its histograms"):
        techo.LoadReport.from_json(data | {"send_lag_histogram": techo.Histogram().to_json()})
    with pytest.raises(ValueError, match="rate 'five' is not a number from 0"):
        techo.LoadReport.from_json(data | {"wanted_trips_per_second": "five"})


@pytest.mark.parametrize("data", [None, 5, "report", [], {}, [report().to_json()]], ids=str)
def test_what_is_no_object_is_refused(data: object) -> None:
    """Whatever JSON may have instead."""
    with pytest.raises(ValueError, match="this is no report of schema 2"):
        techo.LoadReport.from_json(data)


def test_an_outage_of_today_is_read_back() -> None:
    """Its moments in Unix time are as large as they are."""
    now = 1.8e9
    for outage in (techo.Outage(now, None, 1.0, 1), techo.Outage(now, now + 1, 1.0, 2)):
        assert techo.Outage.from_json(outage.to_json()) == outage


def test_merging_lists_every_address_once() -> None:
    """Machines may be led to different ones; those that do not know theirs add none."""
    addresses = ["127.0.0.1:7", None, "127.0.0.2:7", "127.0.0.1:7"]
    merged = techo.LoadReport.merged([report(address=each) for each in addresses])
    assert merged.address == "127.0.0.1:7, 127.0.0.2:7"
    assert techo.LoadReport.merged([report(), report()]).address is None
