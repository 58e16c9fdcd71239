"""Metrics and health: what Prometheus and a balancer are told, by HTTP and within bounds."""

from __future__ import annotations

import argparse
import importlib.util
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import attrs
import prometheus_client
import pytest
import trio
import trio.testing
from hypercorn.trio.tcp_server import TCPServer
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

import techo
from helpers import PATIENCE, call, receive_until_end, started, until, until_ended
from techo._cli.metrics import pages_of
from techo._operate.counting import (
    BOUNDS,
    Counters,
    CountingHook,
    Durations,
    LatestCounters,
)
from techo._operate.health import HealthApp, State
from techo._operate.hooks import Hooks
from techo._operate.metrics import ServiceCollector, exposition
from techo._operate.process_figures import ProcessCollector
from techo._operate.web import LIFETIME, MOST_CONNECTIONS, WebServer, host_check
from techo._server.connection import Peer
from techo.testing import MemoryListener

Port = int


async def dial(port: Port) -> trio.SocketStream:
    """Connect to the pages."""
    return await trio.open_tcp_stream("127.0.0.1", port)


async def get(
    port: Port, path: str, *headers: str, method: str = "GET", host: str = "127.0.0.1"
) -> tuple[int, dict[str, str], str]:
    """Ask for a page: the status, the headers and the text."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
    async with await dial(port) as stream:
        with trio.fail_after(PATIENCE):
            await stream.send_all("\r\n".join([*lines, "", ""]).encode())
            head, _, text = (await receive_until_end(stream)).decode().partition("\r\n\r\n")
    status, *found = head.split("\r\n")
    return int(status.split()[1]), dict(each.split(": ", 1) for each in found), text


@pytest.fixture
def hook() -> CountingHook:
    """Return what counts for the service."""
    return CountingHook()


@pytest.fixture
async def server(hook: CountingHook) -> AsyncIterator[techo.EchoService]:
    """Serve TCP and UDP."""
    places = ("tcp://127.0.0.1:0", "udp://127.0.0.1:0")
    limits = techo.Limits(max_per_host=1)
    async with techo.open_server(*places, reply=techo.raw, hook=hook, limits=limits) as service:
        yield service


@pytest.fixture
def app(server: techo.EchoService, hook: CountingHook) -> HealthApp:
    """Return the pages about it."""
    collector = ServiceCollector(lambda: Counters(server.statistics(), hook.durations), "1.2")
    return HealthApp(exposition(collector), State.READY)


@pytest.fixture
async def port(app: HealthApp, nursery: trio.Nursery) -> Port:
    """Serve them."""
    web = WebServer(host_check(app, ["Techo.example"]))
    return int((await nursery.start(web.serve, "127.0.0.1", 0))[1])


FORMATS: list[tuple[str, Callable[[str], Any]]] = [
    ("text/plain", plain_text),
    ("application/openmetrics-text; version=1.0.0", openmetrics),
]


@pytest.mark.parametrize(("accept", "parse"), FORMATS, ids=["text", "openmetrics"])
async def test_every_counter_is_a_metric(
    accept: str, parse: Callable[[str], Any], server: techo.EchoService, port: Port
) -> None:
    """Prometheus' own parsers find what the statistics say, and how long connections lasted."""
    tcp, udp = server.endpoints
    async with techo.open_client(tcp) as client:
        await client.round_trip(b"hello")
        async with await trio.open_tcp_stream(tcp.host, tcp.port) as refused:
            assert await receive_until_end(refused) == b""
        async with techo.open_client(udp) as datagrams:
            await datagrams.round_trip(b"x" * 7)
    await until_ended(server, 2)
    status, headers, text = await get(port, "/metrics", f"Accept: {accept}")
    assert status == 200
    assert headers["content-type"].startswith(accept.partition(";")[0])
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in parse(text)
        for sample in family.samples
    }
    assert values["techo_build_info", "1.2"] == 1
    assert values["techo_accepted_connections_total",] == 2
    assert values["techo_connections_total", "eof"] == 1
    assert values["techo_connections_total", "refused"] == 1
    assert values["techo_active_connections",] == values["techo_parked_connections",] == 0
    assert values["techo_received_bytes_total",] == values["techo_sent_bytes_total",] == 5
    assert values["techo_echoed_datagrams_total",] == 1
    assert values["techo_dropped_datagrams_total", "loop"] == 0
    assert values["techo_missed_datagrams_total",] == 0
    assert values["techo_datagram_received_bytes_total",] == 7
    assert values["techo_connection_duration_seconds_count",] == 2
    assert values["techo_connection_duration_seconds_bucket", "+Inf"] == 2
    assert values["techo_connection_duration_seconds_sum",] > 0
    assert values["process_open_fds",] > 3


PLAIN = "text/plain; version=0.0.4; "
OPEN = "application/openmetrics-text; version=1.0.0; "


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", PLAIN),
        ("text/plain; version=1.x", PLAIN),
        ("application/openmetrics-text; version=abc", (PLAIN, OPEN)),
        ("application/openmetrics-text; version=9.8.7; escaping=dots", OPEN),
    ],
)
def test_there_are_two_formats_whatever_is_asked_for(
    accept: str, content_type: str | tuple[str, str]
) -> None:
    """Nothing that a stranger sends is an error, or comes back in the answer."""
    counters = Counters(techo.EchoService().statistics(), CountingHook().durations)
    expose = exposition(ServiceCollector(lambda: counters, "1.2"))
    assert expose(accept)[1].startswith(content_type)


async def test_each_duration_is_in_its_bucket(autojump_clock: trio.testing.MockClock) -> None:
    """One of exactly a bound is not above it."""
    hook, listener = CountingHook(), MemoryListener()
    async with techo.open_server(listener, hook=Hooks([hook])) as service:
        for seconds in (0.001, 5, 10, 11, 40):
            stream = await listener.connect()
            await trio.sleep(seconds)
            await stream.aclose()
        await until_ended(service, 5)
    counted = dict(zip((*BOUNDS, None), hook.durations.counts, strict=True))
    assert {bound: count for bound, count in counted.items() if count} == {
        0.001: 1,
        10.0: 2,
        60.0: 2,
    }
    assert hook.durations.seconds == pytest.approx(66.001)


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (State.READY, 200),
        (State.LEAVING, 503),
        (State.DRAINING, 503),
    ],
)
async def test_a_balancer_is_told_whether_to_send_anybody(
    state: State, status: int, app: HealthApp, port: Port
) -> None:
    """It is alive all the time, and ready only while it accepts and is to go on."""
    app.state = state
    assert (await get(port, "/readyz"))[0] == status
    assert (await get(port, "/healthz"))[::2] == (200, "alive\n")
    assert (await get(port, "/healthz", method="HEAD"))[::2] == (200, "")


@pytest.mark.parametrize(
    ("path", "method", "host", "status"),
    [
        ("/", "GET", "127.0.0.1", 404),
        ("/metrics", "POST", "127.0.0.1", 405),
        ("/metrics", "GET", "localhost:80", 200),
        ("/metrics", "GET", "[::1]:80", 200),
        ("/metrics", "GET", "techo.EXAMPLE:9", 200),
        ("/metrics", "GET", "evil.example", 421),
        ("/metrics", "GET", "127.0.0.1.evil.example:80", 421),
        ("/healthz", "GET", "", 421),
    ],
)
async def test_who_asks_for_what(
    path: str, method: str, host: str, status: int, port: Port
) -> None:
    """Another path or method is refused, and so is a name that anybody could have made up."""
    assert (await get(port, path, method=method, host=host))[0] == status


async def test_connections_are_few_and_short(
    port: Port, patient_clock: trio.testing.MockClock
) -> None:
    """One too many is closed at once; silent, slow and kept ones are cut after 10 s exactly."""
    begun = trio.current_time()
    streams = [await dial(port) for _ in range(MOST_CONNECTIONS)]
    await streams[0].send_all(b"GET /metrics HTT")
    await streams[1].send_all(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert (await streams[1].receive_some()).startswith(b"HTTP/1.1 200 ")
    async with await dial(port) as refused:
        assert await receive_until_end(refused) == b""
    assert trio.current_time() == begun
    for stream in streams:
        await receive_until_end(stream)
        await stream.aclose()
    assert trio.current_time() == begun + LIFETIME
    assert (await get(port, "/healthz"))[0] == 200


async def test_a_bug_in_serving_a_page_is_one_line(
    port: Port, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With its traceback; the next request is served."""

    async def fail(_server: TCPServer) -> None:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("as planned")

    with monkeypatch.context() as patch:
        patch.setattr(TCPServer, "run", fail)
        async with await dial(port) as stream:
            assert await receive_until_end(stream) == b""
    assert [each.getMessage() for each in caplog.records] == ["a page could not be served"]
    assert "as planned" in caplog.text
    assert (await get(port, "/healthz"))[0] == 200


async def test_what_one_hook_refuses_the_next_is_not_asked_about() -> None:
    """Hooks are called in order, each with what those before have found."""
    asked: list[str] = []

    class Named(techo.ServiceHook):
        async def identify(self, transport: Any, peer: Peer) -> Peer:
            del transport
            await trio.lowlevel.checkpoint()
            asked.append(peer.name)
            if peer.name == "second":
                raise techo.RefusedError("enough")
            return Peer("second")

    listener, counting = MemoryListener(), CountingHook()
    hook = Hooks([Named(), Named(), Named(), counting])
    async with techo.open_server(listener, hook=hook) as service:
        assert await receive_until_end(await listener.connect()) == b""
        await until(lambda: service.statistics().outcomes[techo.Outcome.REFUSED] == 1)
    assert asked == ["MemoryStream", "second"]
    assert sum(counting.durations.counts) == 1


def test_a_place_that_cannot_be_had_is_one_line() -> None:
    """The service itself goes on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = "127.0.0.1:%d" % taken.getsockname()[1]  # noqa: UP031  -- shorter
        with started("--metrics", place, "127.0.0.1:0") as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(b"listening on ")
            process.terminate()
            _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert err.decode().count(f"no metrics on tcp://{place}: ") == 1


@pytest.mark.parametrize("package", ["prometheus_client", "hypercorn"])
def test_without_the_extra_it_says_so_before_it_serves(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line has what to install."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == package else find(name, *rest),
    )
    name = package.replace("_", "-")
    with pytest.raises(ValueError, match=rf"--metrics needs {name}: .* .the extra metrics"):
        pages_of(argparse.Namespace(metrics=techo.Endpoint()))


@pytest.mark.parametrize("text", ["here", "udp://9100", "127.0.0.1", "unix:x", "*"])
def test_what_is_no_place_for_metrics_is_refused(text: str) -> None:
    """The line has the value and what would be right."""
    code, _, err = call("--metrics", text, "127.0.0.1:0")
    assert code == 2
    assert "is not a port such as 9100, or an address and a port such as" in err


def test_a_lame_duck_is_not_ready_and_still_answers() -> None:
    """After SIGTERM it accepts for as long as is asked; each reply is the last of its own."""
    options = ("--metrics", "0", "--lame-duck", "1h", "--reply", "raw", "127.0.0.1:0")
    with started(*options) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        port = int(process.stdout.readline().rpartition(b":")[2])
        lines = [process.stderr.readline() for _ in range(2)]
        pages = int(lines[1].rpartition(b":")[2].partition(b"/")[0])

        def ask(path: str) -> bytes:
            with urllib.request.urlopen(f"http://127.0.0.1:{pages}/{path}") as page:
                return bytes(page.read())

        assert ask("readyz") == b"ready\n"
        process.terminate()
        assert b"leaving: accepting for another 3600 s" in process.stderr.readline()
        with pytest.raises(urllib.error.HTTPError, match="503"):
            ask("readyz")
        assert ask("healthz") == b"alive\n"
        with socket.create_connection(("127.0.0.1", port)) as sock:
            for piece in (b"he", b"llo"):
                sock.sendall(piece)
            assert sock.recv(2) == b"he"
            assert set(iter(lambda: sock.recv(9), b"")) <= {b"llo"}
        process.terminate()
        _, err = process.communicate(timeout=PATIENCE)
    assert b"outcome=drained" in err


async def test_many_connections_are_added_up_once_a_second(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """However often somebody asks; with few, what is shown is what is."""
    counted = 0
    active = 1

    def count() -> Counters:
        nonlocal counted
        counted += 1
        found = attrs.evolve(techo.EchoService().statistics(), active=active, chunks=counted)
        return Counters(found, Durations())

    latest = LatestCounters(count)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(latest.keep_adding_up)
        await trio.sleep(0.5)
        assert [latest.get().statistics.chunks for _ in range(3)] == [2, 3, 4]
        active = 5000
        await trio.sleep(1)
        assert [latest.get().statistics.chunks for _ in range(3)] == [5, 5, 5]
        await trio.sleep(1)
        assert latest.get().statistics.chunks == 6
        nursery.cancel_scope.cancel()


def test_the_process_is_as_the_library_has_it() -> None:
    """All families of Prometheus' own collector, with the same values."""
    ours, theirs = (
        {
            sample.name: sample.value
            for family in collector.collect()
            for sample in family.samples
        }
        for collector in (ProcessCollector(), prometheus_client.ProcessCollector(registry=None))
    )
    assert ours.keys() == theirs.keys()
    assert ours["process_max_fds"] == theirs["process_max_fds"]
    for name in ("process_virtual_memory_bytes", "process_resident_memory_bytes"):
        assert ours[name] == pytest.approx(theirs[name], rel=0.1)  # they are not read at once
    assert abs(ours["process_open_fds"] - theirs["process_open_fds"]) <= 2
    assert ours["process_cpu_seconds_total"] == pytest.approx(
        theirs["process_cpu_seconds_total"], abs=1
    )
    assert ours["process_start_time_seconds"] == pytest.approx(
        theirs["process_start_time_seconds"], abs=2
    )


def test_descriptors_are_counted_where_the_system_does_not(tmp_path: Path) -> None:
    """Before Linux 6.2, a folder of descriptors has no size."""
    (tmp_path / "fd").mkdir()
    for number in range(3):
        (tmp_path / "fd" / str(number)).touch()
    folder = ProcessCollector(tmp_path)
    assert folder._descriptors() in {3, (tmp_path / "fd").stat().st_size}
    assert list(folder.collect()) == []
