"""The report of a load: what happened, how long it took, and how to add up several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from techo._kernel.mptcp import MptcpPaths
from techo._load.part import LoadPart, parts_of
from techo._load.probe_report import ProbeReport
from techo._load.report_fields import counts, maybe_arrivals, paths, seeds_of, texts
from techo._load.sums import joined, sum_of, sum_of_failures, sum_of_paths
from techo._probing.arrivals import Arrivals
from techo._probing.failure_cause import NEVER_REACHED, FailureCause
from techo._probing.histogram import Histogram, figures_to_json
from techo._probing.outages import Outage, outages_from_json, outages_to_json
from techo._reprs import brief
from techo._schema import SCHEMA, headed
from techo._validation import AMOUNT, COUNT, FLAG, NATURAL, TEXT

TIMES: Final = ("service", "response", "send_lag", "connect")
"""The fields that are histograms."""

OF_NO_TRIP: Final = ("send_lag", "connect")
"""Those in which lost trips have no part: they were sent all the same, over a connection."""

_JSON_NAMES: Final = {"size": "size_bytes", "rate": "wanted_trips_per_second"}
"""What has no unit in its name, with its name in JSON."""

_OUTAGES: Final = ("outages", "outage_seconds", "longest_outage")
"""The fields that JSON has in one object."""

_NOT_IN_JSON: Final = ("outage_spans",)
"""The fields that are of this run alone."""

_ADDED: Final = (
    "connections",
    "received",
    "received_bytes",
    "lost",
    "in_flight",
    "reconnects",
    "late",
    "duplicate",
    "stray",
    "dropped_here",
    "outages",
    "outage_seconds",
    "unsent",
    "client_cpu_seconds",
)
"""The fields that add up over machines."""

_SHOWN: Final = 60
"""Characters of what is no report that an error quotes."""


@attrs.frozen(kw_only=True)
class LoadReport:
    """What a load has found out. What is counted is what happened, not what was planned.

    Raises:
        ValueError: a count or an amount is none; the text names it and its value.
    """

    endpoint: str = attrs.field(validator=TEXT)
    """What was loaded, as text."""
    address: str | None = attrs.field(validator=TEXT.or_off())
    """Where the connections led, several if so; None if that is not known."""
    connections: int = attrs.field(validator=NATURAL)
    """How many at the same time."""
    size: int = attrs.field(validator=NATURAL)
    """Bytes in a message."""
    pipeline: int = attrs.field(validator=NATURAL)
    """Messages in flight on each connection, at the most."""
    rate: float | None = attrs.field(validator=AMOUNT.or_off())
    """Trips per second that were wanted; None for as many as possible."""
    arrivals: Arrivals | None = attrs.field(default=None, converter=maybe_arrivals)
    """How the trips of a rate followed each other; None without a rate."""
    seeds: Sequence[int] = attrs.field(default=(), converter=seeds_of)
    """What they were drawn from, if they were: one for each machine."""
    ramp_seconds: float | None = attrs.field(default=None, validator=AMOUNT.or_off())
    """How long the rate rose or, without one, connections began, from the beginning of the
    warm-up on; None if all began at once. Of several machines the longest."""
    seconds: float = attrs.field(validator=AMOUNT)
    """From the end of the warm-up until the fate of the last trip was known, but at least what
    was asked for: so long, or as long as so many trips at the rate take."""
    gave_up_after_seconds: float | None = attrs.field(validator=AMOUNT.or_off())
    """When it ended before its time, because nothing had come back for long; None if it did
    not. Of several machines that of the first."""
    received: int = attrs.field(validator=NATURAL)
    """Messages of which every byte came back."""
    received_bytes: int = attrs.field(validator=NATURAL)
    """In these, one way."""
    lost: int = attrs.field(validator=NATURAL)
    """Messages that did not, or not in time."""
    in_flight: int = attrs.field(validator=NATURAL)
    """Messages that were still waited for: none in the last report that `load` gives."""
    failures: Mapping[FailureCause, int] = attrs.field(converter=counts)
    """What was lost, and what else went wrong, such as attempts to connect, by cause."""
    reasons: Mapping[FailureCause, str] = attrs.field(converter=texts)
    """What the system said of such a cause last, for people; not every cause has one."""
    reconnects: int = attrs.field(validator=NATURAL)
    """Times that a connection was opened again that had broken."""
    reconnect_every: int | None = attrs.field(default=None, validator=COUNT.or_off())
    """Trips after which a connection was closed and replaced; None for never."""
    late: int = attrs.field(validator=NATURAL)
    """Replies that came after they had been given up, which are failures too; or so long
    after that nothing else is known of them."""
    duplicate: int = attrs.field(validator=NATURAL)
    """Replies that had come before."""
    stray: int = attrs.field(validator=NATURAL)
    """Messages that belong to no trip, and harm none."""
    dropped_here: int = attrs.field(default=0, validator=NATURAL, kw_only=True)
    """Datagrams that the client's own sockets had no room for, which `lost` includes; from when
    it connected, warm-up included."""
    outages: int = attrs.field(validator=NATURAL)
    """Times that something failed and nothing came back, of several machines added up."""
    outage_seconds: float = attrs.field(validator=AMOUNT)
    """Of all of them together."""
    longest_outage: Outage | None
    """The longest of these; None if there was none."""
    outage_spans: Sequence[tuple[float, float]] = attrs.field(default=(), eq=False)
    """From when to when they were, the first thousand, in seconds since counting began. JSON
    has none, and merged reports have none: each machine has a beginning of its own. Processes
    begin together, and have theirs."""
    unsent: int = attrs.field(validator=NATURAL)
    """Trips that were due and could not be sent in the end."""
    service: Histogram
    """How long trips took from when they were sent."""
    response: Histogram | None
    """And from when they should have been; None without a rate."""
    send_lag: Histogram | None
    """How much later than they should they were sent; None without a rate."""
    connect: Histogram = attrs.field(factory=Histogram)
    """How long it took to open the connections that were opened after the warm-up, each until
    it could be used: looking up the name and TLS included. Not those that were there before
    the first trip."""
    client_cpu_seconds: float = attrs.field(validator=AMOUNT)
    """What this process used from the end of the warm-up until no trip was in flight."""
    client_cpu_percent: float | None = attrs.field(validator=AMOUNT.or_off())
    """That in per cent of one processor, of several machines the largest; None for too short a
    time to tell."""
    client_was_limit: bool = attrs.field(validator=FLAG)
    """Whether that was so much that another client might measure more."""
    mptcp: MptcpPaths | None = attrs.field(default=None, converter=paths)
    """What the connections have become, if they were to be MPTCP; None if they were not."""
    parts: Sequence[LoadPart] = attrs.field(default=(), converter=parts_of)
    """What each process or machine had of it; empty if it was one process."""
    probe: ProbeReport | None = None
    """What was probed beside the load, before and after; None if nothing was. Of several
    machines, those that have one are added up."""

    def __repr__(self) -> str:
        return brief(self)

    def __str__(self) -> str:
        from techo._load.text import text_of  # noqa: PLC0415  -- rich is not needed for more

        return text_of(self)

    @property
    def sent(self) -> int:
        """Messages that were sent, or could not be: came back, are lost or in flight."""
        return self.received + self.lost + self.in_flight

    @property
    def trips_per_second(self) -> float:
        """How many came back in each second."""
        return self.received / self.seconds if self.seconds else 0.0

    @property
    def connects(self) -> int:
        """Connections that were opened after the warm-up."""
        return self.connect.count

    @property
    def connects_per_second(self) -> float:
        """How many were opened in each second."""
        return self.connects / self.seconds if self.seconds else 0.0

    @property
    def latency(self) -> Histogram:
        """What users of the server would feel: response time where there is a rate."""
        return self.service if self.response is None else self.response

    @property
    def loss(self) -> float | None:
        """The share that was lost of what is no longer in flight, in per cent."""
        over = self.received + self.lost
        return 100 * self.lost / over if over else None

    @property
    def failed(self) -> int:
        """How many failures there were."""
        return sum(self.failures.values())

    def percentile(self, percent: float) -> float | None:
        """Return the `latency` that `percent` of the trips do not exceed.

        In nanoseconds; what was lost is slower than anything: see `Histogram.percentile`.
        """
        return self.latency.percentile(percent, lost=self.lost)

    @property
    def never_reached(self) -> bool:
        """Whether nobody was there to answer."""
        return not self.received and bool(self.failed) and self.failures.keys() <= NEVER_REACHED

    @classmethod
    def merged(cls, reports: Sequence[LoadReport]) -> LoadReport:
        """Add up what several machines have found out at the same time.

        Raises:
            ValueError: there is none; some have a rate and others have not; or messages differ
                in size, or connections in how many trips they made, or rates in how trips
                follow each other, which makes other trips of them.
        """
        if not reports:
            raise ValueError("there is no report to merge")
        if len({each.rate is None for each in reports}) > 1:
            raise ValueError("some of the reports have a rate, and others have not")
        sizes = sorted({each.size for each in reports})
        if len(sizes) > 1:
            raise ValueError(f"the reports are of messages of different sizes: {sizes}")
        for name in ("reconnect_every", "arrivals"):
            different = {str(getattr(each, name)) for each in reports}
            if len(different) > 1:
                listed = ", ".join(sorted(different))
                raise ValueError(f"the reports differ in {name}: {listed}")
        rates = [each.rate for each in reports if each.rate is not None]
        return cls(
            endpoint=", ".join(dict.fromkeys(each.endpoint for each in reports)),
            address=joined(each.address for each in reports),
            size=sizes[0],
            pipeline=max(each.pipeline for each in reports),
            rate=sum(rates) if rates else None,
            reconnect_every=reports[0].reconnect_every,
            arrivals=reports[0].arrivals,
            seeds=[seed for each in reports for seed in each.seeds],
            ramp_seconds=max(
                (each.ramp_seconds for each in reports if each.ramp_seconds is not None),
                default=None,
            ),
            seconds=max(each.seconds for each in reports),
            gave_up_after_seconds=min(
                (
                    each.gave_up_after_seconds
                    for each in reports
                    if each.gave_up_after_seconds is not None
                ),
                default=None,
            ),
            failures=sum_of_failures([each.failures for each in reports]),
            reasons={cause: text for each in reports for cause, text in each.reasons.items()},
            service=sum_of(each.service for each in reports),
            response=sum_of(each.response for each in reports) if rates else None,
            send_lag=sum_of(each.send_lag for each in reports) if rates else None,
            connect=sum_of(each.connect for each in reports),
            client_cpu_percent=max(
                (
                    each.client_cpu_percent
                    for each in reports
                    if each.client_cpu_percent is not None
                ),
                default=None,
            ),
            longest_outage=max(
                filter(None, (each.longest_outage for each in reports)),
                key=lambda outage: outage.seconds,
                default=None,
            ),
            client_was_limit=any(each.client_was_limit for each in reports),
            mptcp=sum_of_paths(each.mptcp for each in reports),
            parts=[part for each in reports for part in each.parts],
            probe=ProbeReport.merged([each.probe for each in reports]),
            **{name: sum(getattr(each, name) for each in reports) for name in _ADDED},
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it: whole nanoseconds where the name ends in _ns."""
        fields = attrs.asdict(self, recurse=False)
        for name in _NOT_IN_JSON:
            del fields[name]
        times = {name: fields.pop(name) for name in TIMES}
        outages = [fields.pop(name) for name in _OUTAGES]
        for name, in_json in _JSON_NAMES.items():
            fields[in_json] = fields.pop(name)
        if self.mptcp is not None:
            fields["mptcp"] = attrs.asdict(self.mptcp)
        fields["parts"] = [each.to_json() for each in self.parts]
        fields["seeds"] = [*self.seeds]
        if self.probe is not None:
            fields["probe"] = self.probe.to_json()
        for name in ("failures", "reasons"):
            fields[name] = {str(cause): each for cause, each in fields[name].items()}
        return headed(
            "summary",
            **fields,
            sent=self.sent,
            loss_percent=self.loss,
            trips_per_second=self.trips_per_second,
            connects=self.connects,
            connects_per_second=self.connects_per_second,
            outages=outages_to_json(*outages),
            latency_ns=figures_to_json(self.latency, lost=self.lost),
            **{
                f"{name}_ns": None
                if each is None
                else figures_to_json(each, lost=0 if name in OF_NO_TRIP else self.lost)
                for name, each in times.items()
            },
            **{
                f"{name}_histogram": None if each is None else each.to_json()
                for name, each in times.items()
            },
        )

    @classmethod
    def from_json(cls, data: object) -> LoadReport:
        """Read back what `to_json` returned.

        Raises:
            ValueError: it is not that; the text says what is wrong.
        """
        found = _checked(data)
        try:
            names = {
                each.name: _JSON_NAMES.get(each.name, each.name) for each in attrs.fields(cls)
            }
            fields = {
                name: found[in_json]
                for name, in_json in names.items()
                if name not in (*TIMES, *_OUTAGES, *_NOT_IN_JSON, "probe")
            }
            probe = found["probe"]
            fields["probe"] = None if probe is None else ProbeReport.from_json(probe)
            for name in TIMES:
                histogram = found[f"{name}_histogram"]
                fields[name] = None if histogram is None else Histogram.from_json(histogram)
            fields |= zip(_OUTAGES, outages_from_json(found["outages"]), strict=True)
        except KeyError as error:
            raise ValueError(f"the report lacks {error}") from None
        absent = [fields[name] is None for name in ("rate", "response", "send_lag")]
        lacking = fields["service"] is None or fields["connect"] is None
        if lacking or any(absent) != all(absent):
            raise ValueError("the report lacks a histogram")
        report = cls(**fields)
        if any(
            each is not None and each.count != report.received
            for each in (report.service, report.response, report.send_lag)
        ):
            raise ValueError("the report has not received as many as its histograms have")
        if report.lost > report.failed:
            raise ValueError(f"the report has lost {report.lost}, and failures for fewer")
        return report


def _checked(data: object) -> Mapping[str, Any]:
    """Return an object of this schema that sums something up.

    Raises:
        ValueError: it is none; the text says what it is.
    """
    shown = f"{str(data)[:_SHOWN]!r}"
    if not isinstance(data, Mapping) or "schema" not in data:
        raise ValueError(f"this is no report of schema {SCHEMA}: {shown}")
    if data["schema"] != SCHEMA:
        raise ValueError(
            f"this is no report of schema {SCHEMA}, but of {data['schema']!r}: measure again, "
            "with the same techo everywhere"
        )
    if data.get("event") != "summary":
        raise ValueError(f"this is no summary of a load, as its event would say: {shown}")
    return data
