"""What is measured, against whom, and what is to be reached: the rows of the table."""

from __future__ import annotations

import resource
from typing import Final

import attrs

IDLE_CONNECTIONS: Final = 8000
IDLE_TLS_CONNECTIONS: Final = 4000
"""Fewer, because of what it takes to shake hands with each of them."""
SPARE_DESCRIPTORS: Final = 100
"""What a process has open besides its connections, generously."""

_MEDIAN: Final = 50

UVLOOP: Final = ("uvloop", "uvloop-buffered")
"""A peer is given its best: whichever of its two protocols is faster must be reached."""

OVER: Final = {
    "tcp": "connection",
    "udp": "UDP socket",
    "unix": "Unix connection",
    "tls": "TLS connection",
}
"""What a client has one of, by transport."""


@attrs.frozen
class Target:
    """The most that a figure may be: times the same figure of a peer, or in its own unit."""

    at_most: float
    peer: str | None = None


@attrs.frozen
class Figure:
    """A figure of a turn that is reported."""

    key: str
    """Its name among the figures of a turn."""
    meaning: str
    unit: str
    targets: tuple[Target, ...] = ()


@attrs.frozen(kw_only=True)
class Row:
    """One kind of work, done in turns by some servers, or by some clients."""

    name: str
    work: str
    """For people."""
    transport: str = "tcp"
    """Or udp, unix, tls; or tls+tcp, of a server that has an address of each."""
    client: str = "c"
    """The client that measures servers."""
    load: tuple[str, ...]
    """Words for the load client, up to the seconds."""
    figures: tuple[Figure, ...]
    server: str | None = None
    """The server that all ask, where clients take turns; None where servers do."""
    target: str | None = None
    """The server that answers behind those of the row that are proxies."""
    subject: str = "techo"
    """Which of ours it is about."""
    also: tuple[str, ...] = ()
    """Others, which are shown for information."""
    least_seconds: float = 0
    """What a turn must last for its figures to mean something."""
    fresh: bool = False
    """Whether each turn needs a server that has done nothing yet."""
    probed: bool = False
    """Whether another task of the server's run notes how late it is woken up."""

    pinned: bool = True
    """Whether the server has a core of its own and the client another; else all share all."""

    starts: bool = False
    """Whether programs start and end again, and nobody is served."""

    @property
    def contenders(self) -> tuple[str, ...]:
        """Everyone who takes part: the subject first, then its targets, then the others."""
        targets = (each.peer for figure in self.figures for each in figure.targets if each.peer)
        return tuple(dict.fromkeys((self.subject, *targets, *self.also)))


def against(limits: dict[str | tuple[str, ...], float]) -> tuple[Target, ...]:
    """Give the targets for peers, or for each of several peers."""
    return tuple(
        Target(at_most, peer)
        for peers, at_most in limits.items()
        for peer in ((peers,) if isinstance(peers, str) else peers)
    )


def cpu(
    limits: dict[str | tuple[str, ...], float], what: str = "message"
) -> tuple[Figure, ...]:
    """Give the figure that most rows are about."""
    return (Figure("cpu_us", f"server CPU per {what}", "µs", against(limits)),)


def echo(
    name: str,
    count: int,
    size: int,
    limits: dict[str | tuple[str, ...], float],
    *,
    also: tuple[str, ...] = (),
    transport: str = "tcp",
    subject: str = "techo",
) -> Row:
    """Make a row of `count` connections, each with one message of `size` bytes in flight."""
    unit, divisor = ("MiB", 2**20) if size >= 2**20 else ("KiB", 2**10)
    amount = f"{size} B" if size % divisor else f"{size // divisor} {unit}"
    return Row(
        name=name,
        transport=transport,
        work=f"{count} {OVER[transport]}{'s' * (count > 1)} x {amount}, closed loop",
        load=("echo", str(count), str(size)),
        figures=cpu(limits),
        subject=subject,
        also=also,
    )


def proxy(name: str, count: int, size: int) -> Row:
    """Return a row of proxies before one echo, and of an echo as it is without one.

    A round trip is two messages through a proxy, but one to an echo. So what is to be reached
    is a message for 1.25 of an echo's CPU. HAProxy's round trip costs 2 of our echo's.
    """
    return attrs.evolve(
        echo(name, count, size, {"techo": 2.5}, also=("haproxy", "socat-proxy")),
        work=f"through a proxy: {count} connections x {size} B, closed loop",
        subject="techo-proxy",
        target="c",
    )


def proxy_datagrams(name: str, count: int, size: int) -> Row:
    """Return the same of datagrams, each source of which has a socket of its own.

    A round trip has two datagrams through a proxy, each of which may cost twice an echo's.
    """
    return attrs.evolve(
        echo(name, count, size, {"techo": 4.0}, transport="udp"),
        work=f"through a proxy: {count} UDP sockets x {size} B, closed loop",
        subject="techo-proxy",
        target="asyncio-datagram",
    )


def start(option: str) -> Row:
    """Make a row of a techo that prints what `option` says, and ends."""
    return Row(
        name=option.removeprefix("--"),
        work=f"start techo {option}, wait for its end",
        load=(),
        # It was 11 times at first, of which 0.6 was to be reached.
        figures=(
            Figure("start_cpu_ms", "CPU per start", "ms", against({"python": 4.0})),
            Figure("start_ms", "time per start", "ms"),
        ),
        subject=f"techo{option}",
        also=("import-trio",),
        starts=True,
    )


def idle(
    name: str, wanted: int, limits: dict[str | tuple[str, ...], float], transport: str = "tcp"
) -> Row:
    """Return a row of connections that do nothing: as many as file descriptors allow."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard - SPARE_DESCRIPTORS)
    return Row(
        name=name,
        transport=transport,
        work=f"{count} idle {OVER[transport]}s",
        load=("idle", str(count)),
        figures=(
            Figure("connection_bytes", "resident memory per connection", "B", against(limits)),
            # What is left is the server's own housekeeping: a thousandth of a core.
            Figure("idle_percent", "server CPU while idle", "% of a core", (Target(0.1),)),
        ),
        least_seconds=1,
        fresh=True,
    )


def handshakes(name: str, at_most: float) -> Row:
    """Return a row of a server that has to do with clients which never end their handshake."""
    return Row(
        name=name,
        transport="tls+tcp",
        work=f"a fresh TCP connection beside 1000 {name} TLS handshakes",
        client="handshakes",
        load=("dribble" if name == "dribbling" else "haste", "1000"),
        figures=(
            Figure("echo_p99_ms", "its first echo, p99", "ms", against({"trio": at_most})),
        ),
        also=("uvloop",),
        least_seconds=10,  # some 50 of them where each waits for a turn of 1000 handshakes
        fresh=True,
    )


def clock(beside: str, work: str, figures: tuple[Figure, ...], *also: str) -> Row:
    """Return a row of clients that send a message each millisecond, and of what they say."""
    return Row(
        name=f"clock-{beside}" if beside else "clock",
        work=f"1 connection x 64 B each {10 if beside else 1} ms, {work}",
        load=("echo", "1", "64"),
        figures=figures,
        server="c",
        subject=f"techo-ping-{beside}" if beside else "techo-ping",
        also=also,
        least_seconds=2,
    )


def times(percent: int, limits: dict[str | tuple[str, ...], float]) -> tuple[Figure, ...]:
    """Return the figures of a clock row: what the kernel says, and the client's own clock."""
    which = "median" if percent == _MEDIAN else f"p{percent}"
    return (
        Figure(f"p{percent}_us", f"round trip, {which}", "µs", against(limits)),
        Figure(f"user_p{percent}_us", f"by the client's clock, {which}", "µs"),
    )


def watch(name: str, count: int, interval: int, transport: str, *figures: Figure) -> Row:
    """Return a row of `techo watch` with many targets: alone, and with all that it can keep."""
    return Row(
        name=name,
        transport=transport,
        work=f"techo watch, {count} {transport} targets, each probed each {interval} s",
        load=("watch", str(count), str(interval)),
        figures=(*figures, Figure("probe_us", "CPU per probe", "µs")),
        server="techo",
        subject="techo-watch",
        also=("techo-watch-kept",),
        least_seconds=max(5, interval),
        fresh=True,
    )


def load_cpu(limits: dict[str | tuple[str, ...], float]) -> Figure:
    """Return the figure of what a client's round trip costs it."""
    return Figure("load_cpu_us", "client CPU per round trip", "µs", against(limits))


def cores(*targets: Target) -> Figure:
    """Return the figure of what a watch takes all the time."""
    return Figure("cores", "CPU all the time", "of a core", targets)


def resident(*targets: Target) -> Figure:
    """Return the figure of what a whole process takes."""
    return Figure("resident_mib", "resident memory", "MiB", targets)


def exposition(name: str, count: int) -> Row:
    """Return a row of texts for Prometheus, about many targets that were watched for a day."""
    return Row(
        name=name,
        work=f"/metrics of {count} targets, as after a day",
        load=("metrics", str(count), "600"),  # hardly a probe beside it
        figures=(
            Figure("text_ms", "CPU per text", "ms"),
            Figure("text_mb", "its size", "MB"),
            Figure("turn_ms", "longest turn of the loop, CPU", "ms"),
            Figure("snapshot_ms", "CPU of snapshots of all", "ms"),
        ),
        server="techo",
        subject="techo-watch",
        least_seconds=3,
        fresh=True,
    )


FASTEST: Final = "aiofastnet-uvloop"
SMALL: Final[dict[str | tuple[str, ...], float]] = {UVLOOP: 1.0, "c": 1.3, "trio": 0.25}
LARGE: Final[dict[str | tuple[str, ...], float]] = {UVLOOP: 1.03, FASTEST: 1.15}
OTHERS: Final = (
    "techo-portable",
    "uvloop-streams",
    "aiofastnet",
    "asyncio",
    "asyncio-streams",
)
DATAGRAMS: Final[dict[str | tuple[str, ...], float]] = {"uvloop-datagram": 1.0}
TLS_SMALL: Final[dict[str | tuple[str, ...], float]] = {"uvloop": 1.1, FASTEST: 1.3}
TLS_LARGE: Final[dict[str | tuple[str, ...], float]] = {"uvloop": 0.95}
TLS: Final = ("trio", "uvloop-streams", "aiofastnet", "asyncio", "asyncio-streams")

ROWS: Final = (
    echo("100x64", 100, 64, SMALL | LARGE, also=OTHERS),
    echo("1000x64", 1000, 64, SMALL),
    echo("10x64", 10, 64, {UVLOOP: 1.15}, also=("socat",)),
    echo("1x64", 1, 64, {UVLOOP: 1.5}, also=("socat",)),
    echo("10x16k", 10, 2**14, LARGE),
    echo("4x256k", 4, 2**18, LARGE),
    echo("1x1m", 1, 2**20, LARGE),
    echo("unix64", 100, 64, {UVLOOP: 1.0}, transport="unix"),
    echo("udp64", 100, 64, DATAGRAMS, also=("asyncio-datagram",), transport="udp"),
    # What fits into a packet nearly anywhere; a hundred of these overflow a socket's buffer.
    echo("udp1400", 50, 1400, DATAGRAMS, also=("asyncio-datagram",), transport="udp"),
    echo("tls64", 100, 64, TLS_SMALL, also=TLS, transport="tls"),
    echo("tls16k", 10, 2**14, TLS_SMALL, also=("trio",), transport="tls"),
    echo("tls256k", 4, 2**18, TLS_LARGE, also=("trio", FASTEST), transport="tls"),
    echo("tls1m", 1, 2**20, TLS_LARGE, also=(*TLS, FASTEST), transport="tls"),
    # Where there is no pump, and where an embedder's own stream does the TLS.
    echo("portable64", 100, 64, {"trio": 1.15}, subject="techo-portable"),
    echo("sslstream64", 100, 64, {"trio": 1.15}, transport="tls", subject="techo-sslstream"),
    proxy("proxy", 100, 64),
    proxy("proxy-10x16k", 10, 2**14),
    proxy_datagrams("proxy-udp", 100, 64),
    Row(
        name="stamped",
        work="100 connections x 64 B, closed loop, stamped",
        load=("echo", "100", "64"),
        figures=cpu({"techo": 1.15}),
        subject="techo-stamped",
    ),
    Row(
        name="connect",
        work="connect, one round trip of 64 B, close, one at a time",
        load=("trip",),
        figures=cpu({"trio": 1.15}, "connection"),
    ),
    Row(
        name="tlsconnect",
        transport="tls",
        work="connect, TLS handshake, one round trip of 64 B, close, one at a time",
        load=("trip",),
        figures=cpu({"uvloop": 1.25}, "connection"),
        also=("trio", FASTEST),
    ),
    Row(
        name="workers",
        work="400 connections x 64 B, closed loop; servers and client share all cores",
        load=("echo", "400", "64"),
        figures=(
            *cpu({"techo-1-worker": 1.05}),
            Figure("messages_per_second", "messages a second", "/s"),
        ),
        subject="techo-2-workers",
        pinned=False,
    ),
    idle("idle", IDLE_CONNECTIONS, {"trio": 1.0}),
    idle("tlsidle", IDLE_TLS_CONNECTIONS, {"trio": 0.8, "uvloop": 1.0}, "tls"),
    Row(
        name="delay",
        work="another task of the run, under 1000 connections x 64 B",
        load=("echo", "1000", "64"),
        figures=(Figure("delay_p99_us", "delay, p99", "µs", against({"trio": 0.5})),),
        least_seconds=6,  # a turn of plain trio takes 60 ms here: this gives about 100 of them
        probed=True,
    ),
    # A fifth of what it was while all went on at once: 0.70 and 0.95 of plain trio's.
    handshakes("dribbling", 0.14),
    handshakes("hasty", 0.19),
    Row(
        name="load",
        work="techo.load and other clients: 100 connections x 64 B, closed loop",
        load=("echo", "100", "64"),
        figures=(load_cpu({"techo-tasks": 0.33}),),
        server="c",  # the fastest there is: no client on trio waits for it
        also=("trio", "c"),
    ),
    Row(
        name="tlsload",
        transport="tls",
        work="techo.load and another client: 100 TLS connections x 64 B, closed loop",
        load=("echo", "100", "64"),
        figures=(load_cpu({"techo-tasks": 0.35}),),
        server="techo",  # which does less than any client on trio that compares the bytes
        also=("c",),
    ),
    Row(
        name="processes",
        work="techo load --processes: 100 connections x 64 B, closed loop, on all cores",
        load=("echo", "100", "64"),
        figures=(
            load_cpu({"techo-1-process": 1.15}),
            Figure("messages_per_second", "round trips a second", "/s"),
        ),
        server="c",
        subject="techo-2-processes",
        pinned=False,
    ),
    # An echo's time should be the network's and the server's, and no client's, however busy.
    clock(
        "", "timed by ping's kernel clock and by others", times(50, {"c-ping": 1.0})[:1], "irtt"
    ),
    clock(
        "busy", "beside two tasks that compute 2 ms a turn", times(50, {"techo-ping-slow": 1.2})
    ),
    clock("crowded", "beside two busy processes", times(95, {"techo-ping-slow": 2.0})),
    watch("watch", 1000, 1, "tcp", cores(Target(0.6)), resident()),
    watch("watch-udp", 1000, 1, "udp", cores(Target(0.6)), resident()),
    watch("watch-5000", 5000, 10, "tcp", resident(Target(300)), cores()),
    Row(
        name="watch-day",
        work="5000 tcp targets, each probed each 10 s, as after a day",
        load=("memory", "5000", "10"),
        figures=(resident(Target(300)),),
        server="techo",
        subject="techo-watch",
        fresh=True,
    ),
    exposition("watch-metrics", 1000),
    exposition("watch-metrics-5000", 5000),
    Row(
        name="capacity",
        work="techo.capacity of a server whose reply costs 10 ms, one at a time",
        load=("10", "p99<100ms", "5"),
        figures=(
            # Each single search that is further off fails the row.
            Figure("off_percent", "found, off what theory says", "%", (Target(5),)),
            Figure("found_per_second", "round trips a second", "/s"),
            Figure("search_seconds", "time for a search", "s"),
        ),
        server="techo-costly",
        subject="techo-capacity",
        fresh=True,
    ),
    Row(
        name="page",
        work="the page of watch: 100 targets, a week of hours, all strips in sight",
        load=("100", "7"),
        figures=(
            Figure("first_there_ms", "until all are drawn, first time", "ms", (Target(1000),)),
            Figure("there_ms", "again", "ms", (Target(1000),)),
            Figure("drawing_ms", "drawing alone", "ms"),
            Figure("first_server_ms", "CPU of watch, first time", "ms"),
            Figure("server_ms", "CPU of watch, again", "ms"),
        ),
        server="techo",
        subject="chromium",
        least_seconds=5,
        fresh=True,
        pinned=False,
    ),
    start("--help"),
    start("--version"),
)


def chosen(names: list[str]) -> tuple[Row, ...]:
    """Give the rows of these names, or that begin with one of them and a dash; by default all.

    Raises:
        ValueError: there is no such row.
    """
    known = {row.name: row for row in ROWS}
    for name in names:
        if name not in known:
            raise ValueError(f"there is no row {name!r}; there are {', '.join(known)}")
    wanted = [row for name in names for row in ROWS if f"{row.name}-".startswith(f"{name}-")]
    return tuple(wanted) if names else ROWS
