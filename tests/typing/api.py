"""The public surface as an embedder uses it: only type-checked, never run (nox -s types).

Every name of `techo.__all__` and of `techo.testing.__all__` occurs here, which
tests/test_public.py checks. What has changed its type fails to type-check.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, assert_type

import trio
from hypothesis.strategies import SearchStrategy

import techo
import techo.fleet
import techo.testing
from techo import fleet, testing


async def serve() -> None:
    """A server in one block, and one that is started, read and drained."""
    limits = techo.Limits(idle_timeout=math.inf, max_per_host=None, loop_guard=False)
    async with techo.open_server("tcp://127.0.0.1:0", reply=techo.raw, limits=limits) as server:
        assert_type(server, techo.EchoService)
        assert_type(server.endpoints, tuple[techo.Endpoint, ...])
        assert_type(server.endpoint, techo.Endpoint)
        assert_type(server.port, int)
        server.set_faults(*FAULTS, running=True)

    upper: techo.Reply = bytes.upper
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    service = techo.EchoService(upper, tls=context, unix_mode=0o660, seed=1, hook=Hook())
    listeners = await trio.open_tcp_listeners(0)
    async with trio.open_nursery() as nursery:
        bound: tuple[techo.Endpoint, ...] = await nursery.start(
            service.serve, techo.Endpoint("::1", 0), "udp://127.0.0.1:0", *listeners
        )
        assert_type(bound[0].kind, techo.Kind)
        assert_type(bound[0].port, int)
        nursery.start_soon(trio.serve_tcp, service.handle, 0)
        await service.drain()

    statistics = service.statistics()
    assert_type(statistics, techo.Statistics)
    assert_type(statistics.outcomes, Mapping[techo.Outcome, int])
    assert_type(statistics.datagrams, techo.DatagramStatistics)
    assert_type(statistics.datagrams.dropped, Mapping[techo.DropReason, int])


class Hook(techo.ServiceHook):
    """Knows by a list of its own who may connect."""

    async def identify(self, transport: Any, peer: techo.Peer) -> techo.Peer:
        """Return who is there, under another name."""
        assert_type(peer.host, str | None)
        if not transport.socket:
            raise techo.RefusedError("no socket")
        return techo.Peer(f"another {peer.name}", peer.host)


async def keep_an_eye_on() -> None:
    """Many targets, and what changes."""
    thresholds = techo.Thresholds(down_after=5)
    target = techo.WatchTarget(
        endpoint="udp://127.0.0.1:8009", name="a", rules=["p99>5ms"], thresholds=thresholds
    )
    async with techo.watch([target, "127.0.0.1:8009"], count=3) as watch:
        assert_type(watch, techo.Watch)
        async for change in watch:
            assert_type(change, techo.Change)
            assert_type(change.state, techo.State)
            assert_type(change.began, techo.Event | None)
            if change.ended:
                assert_type(change.ended.kind, techo.EventKind)
        (snapshot, *_) = watch.snapshot()
        assert_type(snapshot, techo.Snapshot)
        assert_type(snapshot.recent, techo.Counts)


def admit() -> techo.ServiceHook:
    """Let in some."""
    admission = techo.Admission(allow=["192.0.2.0/24"], max_connects_per_second=10)
    assert_type(admission.allow, tuple[str, ...])
    return admission


async def talk() -> bytes:
    """Round trips over a connection of techo's and over one of our own."""
    tls = ssl.create_default_context()
    options = techo.SocketOptions("127.0.0.1", dscp="EF", ttl=1)
    assert_type(options.dscp, int | None)
    async with techo.open_client(
        "tls://localhost:8009", tls=tls, server_name="x", options=options
    ) as client:
        assert_type(client, techo.EchoClient)
    endpoint = techo.Endpoint.parse("unix:@echo")
    assert_type(endpoint, techo.Endpoint)
    ours, _theirs = trio.testing.memory_stream_pair()
    try:
        trip = await techo.EchoClient(ours).round_trip(techo.stamped(b"hello"))
    except techo.EchoMismatch as error:
        assert_type(error.offset, int)
        raise
    except techo.ShortReply as error:
        assert_type(error.received, int)
        raise
    except techo.EchoError:
        raise
    assert_type(trip, techo.RoundTrip)
    assert_type(trip.seconds, float)
    assert_type(trip.stamps, tuple[str, ...])
    return trip.reply


async def ping(connect: Callable[[], Awaitable[trio.abc.Stream]]) -> techo.PingStatistics:
    """Results one by one, then all of them in figures."""
    async with techo.ping(connect, count=3, interval=0.1, size=range(1, 1400)) as pinging:
        assert_type(pinging, techo.Ping)
        async for result in pinging:
            kept: techo.PingResult = result
            if isinstance(kept, techo.PingReply):
                assert_type(kept.late, bool)
                assert_type(kept.clock, techo.Clock)
                assert_type(kept.client, float | None)
            else:
                assert_type(kept, techo.PingFailure)
                assert_type(kept.cause, techo.FailureCause)
    statistics = pinging.statistics()
    assert_type(statistics.failures, Mapping[techo.FailureCause, int])
    assert_type(statistics.longest_outage, techo.Outage | None)
    assert_type(statistics.mptcp, techo.MptcpPaths | None)
    assert_type(statistics.latency, techo.Histogram)
    assert_type(statistics.clocks, Mapping[techo.Clock, int])
    assert_type(statistics.latency.percentile(99), float | None)
    assert_type(statistics.percentile(99), float | None)
    assert_type(statistics.to_json(), dict[str, Any])
    return statistics


async def capacity(stop: trio.Event) -> techo.Capacity:
    """A search that reports each step."""

    def watch(step: techo.CapacityStep) -> None:
        assert_type(step.verdict, techo.StepVerdict)
        assert_type(step.report, techo.LoadReport)
        assert_type(step.missed, tuple[str, ...])

    found = await techo.capacity(
        "udp://[::1]:1", ["p99<5ms", "loss<0.1%"], max_rate=100, watch=watch, stop=stop
    )
    assert_type(found.rate, float | None)
    assert_type(found.outcome, techo.CapacityOutcome)
    assert_type(found.steps, tuple[techo.CapacityStep, ...])
    assert_type(found.to_json(), dict[str, Any])
    return found


async def load(stop: trio.Event) -> techo.LoadReport:
    """A load that reports as it goes, and the sum of two."""

    def watch(report: techo.LoadReport) -> None:
        assert_type(report.trips_per_second, float)

    endpoint = techo.Endpoint(kind=techo.Kind.UDP)
    report = await techo.load(
        endpoint,
        rate=100,
        trips=10,
        reconnect_every=5,
        arrivals="poisson",
        seed=1,
        ramp=0.5,
        probe=10,
        options=techo.SocketOptions(),
        watch=watch,
        stop=stop,
    )
    assert_type(report.reconnect_every, int | None)
    assert_type(report.arrivals, techo.Arrivals | None)
    assert_type(report.seeds, Sequence[int])
    assert_type(report.ramp_seconds, float | None)
    assert_type(report.connect, techo.Histogram)
    assert_type(report.connects, int)
    assert_type(report.connects_per_second, float)
    assert_type(report, techo.LoadReport)
    assert_type(report.response, techo.Histogram | None)
    assert_type(report.failures, Mapping[techo.FailureCause, int])
    assert_type(report.parts, Sequence[techo.LoadPart])
    assert_type([each.died for each in report.parts], list[str | None])
    comparison = techo.compare([report] * 5, iter([report] * 5), seed=1)
    assert_type(comparison, techo.Comparison)
    assert_type(comparison.figures, Mapping[str, techo.ComparedFigure])
    assert_type(comparison.figures["p99"].change, float | None)
    assert_type(comparison.figures["p99"].verdict, techo.Verdict)
    probe = report.probe
    assert_type(probe, techo.ProbeReport | None)
    if probe is not None:
        assert_type(probe.loaded, techo.ProbePhase)
        assert_type(probe.growth, float | None)
        assert_type(probe.loaded.latency, techo.Histogram)
        assert_type(probe.round_trips_per_minute, float | None)
        assert_type(probe.clocks, Mapping[techo.Clock, int])
    return techo.LoadReport.merged([report, techo.LoadReport.from_json(report.to_json())])


async def mesh_by_fleet(client: Any) -> fleet.Mesh:
    """Machines that probe each other, and who stands out."""
    found = await fleet.mesh(
        client, machines=3, count=20, interval=0.1, in_turns=True, watch=print
    )
    assert_type(found.matrix("p99"), list[list[float | None]])
    for machine in found.machines:
        assert_type(machine, fleet.MeshMachine)
        assert_type(machine.died, str | None)
    for pair in found.pairs:
        assert_type(pair, fleet.MeshPair)
        assert_type(pair.percentile(50), float | None)
        assert_type(pair.latency, techo.Histogram)
    for each in fleet.outliers_of(found):
        assert_type(each, fleet.Outlier)
        assert_type(each.kind, fleet.OutlierKind)
    return found


async def load_by_fleet(client: Any) -> techo.LoadReport:
    """A load by many machines, which Dask's client knows."""
    tls = fleet.FleetTls(ca="/etc/ca.pem")
    try:
        report = await fleet.load(client, "tls://127.0.0.1", machines=2, rate=10, tls=tls)
    except fleet.FleetError as error:
        assert_type(error, fleet.FleetError)
        raise
    assert_type(report, techo.LoadReport)
    assert_type([each.clock_offset for each in report.parts], list[float | None])
    return report


FAULTS: tuple[testing.Fault, ...] = (
    testing.Chunk(1, 2),
    testing.CloseUnread(),
    testing.Corrupt(0.1),
    testing.Delay(0.1, jitter=0.05),
    testing.DropReply(probability=0.5),
    testing.DuplicateReply(),
    testing.ExpiredCertificate(),
    testing.HalfCloseFirst(),
    testing.IgnoreEnd(),
    testing.Lengthen(3),
    testing.NeverHandshake(),
    testing.NeverRead(every=2),
    testing.NoCloseNotify(),
    testing.Refuse(),
    testing.ReorderReplies(depth=2),
    testing.Reset(100),
    testing.SlowAccept(1),
    testing.SlowClose(1),
    testing.Stall(offset=100),
    testing.Throttle(1000),
    testing.Truncate(5),
    testing.WrongName(),
)


def fault_plan() -> testing.FaultPlan:
    """A plan as text, and the strategy of such."""
    plan = testing.FaultPlan(FAULTS, upstream_faults=[testing.Reset()], seed=1)
    assert_type(plan.command_line("8000", techo.Endpoint(port=8001)), str)
    strategy = testing.fault_plans("tcp", testing.Reset, without=[testing.Stall], max_faults=1)
    assert_type(strategy, SearchStrategy[testing.FaultPlan])
    return strategy.example()


async def test_without_sockets() -> None:
    """A server inside the process, with faults, and streams of our own."""
    async with testing.open_memory_server(reply=techo.raw, faults=FAULTS) as server:
        assert_type(server, testing.MemoryServer)
        assert_type(await server.connect(), testing.MemoryStream)
        assert_type(server.history, tuple[testing.FaultEvent, ...])
        assert_type(server.history[0].fault, testing.Fault)
        server.set_faults(testing.Reset(first=3, skip=1, between=(5, 10)))
        assert_type(server.statistics(), techo.Statistics)
    target = "tcp://127.0.0.1:7"
    async with testing.open_proxy(target, "tcp://127.0.0.1:0", faults=FAULTS, seed=2) as proxy:
        assert_type(proxy, testing.Proxy)
        assert_type(proxy.endpoints, tuple[techo.Endpoint, ...])
        assert_type(proxy.port, int)
        proxy.set_faults(*FAULTS, running=True)
        proxy.set_upstream_faults()
        assert_type(proxy.upstream_history, tuple[testing.FaultEvent, ...])
        assert_type(proxy.statistics(), techo.Statistics)
    async with testing.open_proxy(server.connect, upstream_faults=FAULTS) as proxy:
        assert_type(await proxy.connect(), testing.MemoryStream)
    listener = testing.MemoryListener(buffer_size=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(techo.EchoService().serve, listener)
        ours, theirs = testing.MemoryStream.pair()
        await ours.send_eof()
        theirs.reset()
    deceiving = testing.faulty(ours, *FAULTS, received=FAULTS, seed=1)
    assert_type(deceiving, testing.FaultyHalfCloseableStream)
    assert_type(deceiving.history, tuple[testing.FaultEvent, ...])
    assert_type(deceiving.received_history, tuple[testing.FaultEvent, ...])
    over_tls = trio.SSLStream(theirs, ssl.create_default_context())
    assert_type(testing.faulty(over_tls), testing.FaultyStream)


async def test_fixtures(
    techo_faulty_server: testing.StartServer,
    techo_thread_server: testing.StartThreadServer,
    techo_proxy: testing.StartProxy,
    techo_thread_proxy: testing.StartThreadProxy,
) -> None:
    """What fixtures return, as tests annotate them."""
    options: testing.ServerOptions = {"seed": 7, "limits": techo.Limits()}
    server = await techo_faulty_server(*FAULTS, endpoint="udp://127.0.0.1:0", **options)
    assert_type(server, techo.EchoService)
    assert_type(techo_thread_server(testing.Reset(), seed=7), testing.ThreadServer)
    assert_type(techo_thread_server().port, int)
    passing: testing.ProxyOptions = {"seed": 7, "upstream_faults": FAULTS}
    assert_type(await techo_proxy(server.endpoint, testing.Stall(), **passing), testing.Proxy)
    assert_type(techo_thread_proxy("localhost:80", *FAULTS, **passing), testing.ThreadProxy)


def in_a_thread() -> None:
    """A server for programs that are not async."""
    with testing.open_thread_server("8009", faults=FAULTS, reply=techo.raw) as server:
        assert_type(server, testing.ThreadServer)
        assert_type(server.endpoints, tuple[techo.Endpoint, ...])
        assert_type(server.history, tuple[testing.FaultEvent, ...])
        assert_type(server.statistics(), techo.Statistics)
        server.set_faults(*FAULTS, running=True)
    with testing.open_thread_proxy("localhost:80", "8009", seed=1) as proxy:
        assert_type(proxy, testing.ThreadProxy)
        proxy.set_faults(*FAULTS, running=True)
        proxy.set_upstream_faults()
        assert_type(proxy.upstream_history, tuple[testing.FaultEvent, ...])


async def check() -> techo.Reply | None:
    """The report on any echo service, good or bad."""
    try:
        report = await techo.testing.check_echo_service("8009", reply=None, skip=["16-MiB"])
    except testing.EchoServiceError as error:
        report = error.report
    assert_type(report, testing.CheckReport)
    assert_type(report.counted(testing.Verdict.FAILED), tuple[testing.Check, ...])
    return report.reply
