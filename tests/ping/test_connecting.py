"""Ping on its way to a server: names, addresses and TLS, over sockets."""

from __future__ import annotations

import contextlib
import math
import socket
import ssl
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio
import trustme

import techo
from helpers import PATIENCE, open_descriptors
from pings import see, word_of
from techo import testing
from techo._cli import talk
from techo._cli.parsing import parse
from techo.testing import Fault, check_echo_service

QUICK: dict[str, Any] = {"interval": 0.01, "timeout": PATIENCE}
"""Nothing is late only because the machine is busy."""

NAME = "echo.example"


@attrs.define
class Names(trio.abc.HostnameResolver):
    """Where names lead, instead of asking anybody."""

    addresses: list[str] = attrs.field(factory=list)
    """Those that every name has now; without any it is unknown."""
    asked: list[str] = attrs.field(factory=list)
    seconds: float = 0.0
    """That an answer takes."""

    async def getaddrinfo(  # type: ignore[override]  # the rest is handed through
        self, host: bytes, port: Any, _family: int, kind: int, *_: Any
    ) -> list[tuple[int, int, int, str, tuple[str, Any]]]:
        """Give the addresses, as the system would."""
        await trio.sleep(self.seconds)
        self.asked.append(host.decode())
        if not self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, kind, 0, "", (each, port)) for each in self.addresses]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        """Nobody asks for it."""
        raise NotImplementedError


@pytest.fixture
async def names() -> Names:  # noqa: ASYNC124  -- it belongs to a run
    """The names of this run."""
    names = Names()
    trio.socket.set_custom_hostname_resolver(names)
    return names


async def test_a_name_is_looked_up_again_when_it_is_connected_again(names: Names) -> None:
    """A server that has moved to another address is found there; each look-up is timed."""
    names.addresses = ["127.0.0.1"]
    before = techo.EchoService(limits=techo.Limits(drain_timeout=0.2, close_timeout=0.01))
    after = techo.EchoService()
    async with trio.open_nursery() as nursery:
        (endpoint,) = await nursery.start(before.serve, "tcp://127.0.0.1:0")
        async with techo.ping(f"{NAME}:{endpoint.port}", **QUICK) as ping:
            with trio.fail_after(PATIENCE):
                assert isinstance(await anext(ping), techo.PingReply)
                assert isinstance(await anext(ping), techo.PingReply)
            assert names.asked == [NAME]
            names.addresses = ["127.0.0.2"]
            await nursery.start(after.serve, f"tcp://127.0.0.2:{endpoint.port}")
            await before.drain()
            with trio.fail_after(PATIENCE):
                while not ping.statistics().reconnects:
                    await anext(ping)
                while word_of(await anext(ping)) != "reply":
                    pass
            assert after.statistics().accepted == 1
        nursery.cancel_scope.cancel()
    assert set(names.asked) == {NAME}
    found = ping.statistics().setup
    assert found["lookup"].count == found["connect"].count >= 2
    assert found["lookup"].min > 0


async def test_each_step_has_its_own_time(names: Names) -> None:
    """Together they take no longer than all of it; none counts as part of another."""
    names.addresses, names.seconds = ["127.0.0.1"], 0.1
    async with techo.open_server("tcp://127.0.0.1:0") as server:
        target = f"{NAME}:{server.endpoints[0].port}"
        begun = trio.current_time()
        found = (await see(techo.ping(target, count=1, **QUICK))).statistics
        total = trio.current_time() - begun
    times = [found.setup["lookup"].sum, found.setup["connect"].sum, found.latency.sum]
    assert times[0] >= 0.1e9
    assert sum(times) <= total * 1e9


@pytest.mark.parametrize("kind", ["tcp", "udp"])
async def test_a_name_that_is_unknown_for_a_while(names: Names, kind: str) -> None:
    """That is a cause of its own, and each tick asks again."""
    async with techo.open_server(f"{kind}://127.0.0.1:0") as server:
        target = f"{kind}://{NAME}:{server.endpoints[0].port}"
        async with techo.ping(target, **QUICK) as ping:
            failures = [await anext(ping), await anext(ping)]
            names.addresses = ["127.0.0.1"]
            with trio.fail_after(PATIENCE):
                while isinstance(result := await anext(ping), techo.PingFailure):
                    failures.append(result)
        for seq, failure in enumerate(failures, 1):
            assert isinstance(failure, techo.PingFailure)
            assert (failure.seq, failure.cause) == (seq, techo.FailureCause.DNS)
            assert failure.reason == "unknown host (Name or service not known)"
    # Several may be due while one is looked up.
    assert set(ping.statistics().failures) == {techo.FailureCause.DNS}
    assert len(names.asked) >= 2


@pytest.mark.parametrize("kind", ["tcp", "udp", "tls"])
async def test_a_look_up_that_hangs_is_a_cause_of_its_own(
    names: Names, kind: str, autojump_clock: trio.testing.MockClock
) -> None:
    """It is no connection that took too long: nobody has been asked for one."""
    names.seconds = math.inf
    target = f"{kind}://{NAME}:9"
    seen = await see(techo.ping(target, count=2, interval=5, timeout=2))
    assert seen.told == [(1, "dns"), (2, "dns")]
    assert isinstance(seen.results[0], techo.PingFailure)
    assert seen.results[0].reason == "no look-up within 2 s"
    assert seen.statistics.never_reached
    report = await techo.load(target, connections=2, timeout=2)
    assert dict(report.failures) == {techo.FailureCause.DNS: 2}
    with pytest.raises(socket.gaierror, match="no look-up within 3 s"):
        await check_echo_service(target, patience=3)
    if kind == "tls":  # talk waits for ever for the others
        endpoint = techo.Endpoint.parse(target)
        options = parse(talk.COMMAND, ["--tls-insecure", target], {})
        with pytest.raises(socket.gaierror, match="no look-up within 10 s"):
            await talk._connect(endpoint, options)


async def test_the_address_is_reported(names: Names) -> None:
    """It is that of the connection, after another look-up the latest last."""
    names.addresses = ["127.0.0.2", "127.0.0.1"]
    async with trio.open_nursery() as nursery:
        limits = techo.Limits(close_timeout=0.01, drain_timeout=0)
        before, after = techo.EchoService(limits=limits), techo.EchoService()
        (endpoint,) = await nursery.start(before.serve, "tcp://127.0.0.1:0")
        target, port = f"{NAME}:{endpoint.port}", endpoint.port
        async with techo.ping(target, **QUICK) as ping:
            assert ping.statistics().address is None
            with trio.fail_after(PATIENCE):
                assert isinstance(await anext(ping), techo.PingReply)
                assert ping.statistics().address == f"127.0.0.1:{port}"
                await nursery.start(after.serve, f"tcp://127.0.0.2:{port}")
                await before.drain()
                both = f"127.0.0.1:{port}, 127.0.0.2:{port}"
                while ping.statistics().address != both:
                    await anext(ping)
        report = await techo.load(target, connections=3, trips=10)
        assert report.address == f"127.0.0.2:{port}"
        nursery.cancel_scope.cancel()


async def test_of_several_addresses_one_must_answer(names: Names) -> None:
    """They are tried in order; if none does, the first one's cause is told."""
    names.addresses = ["127.0.0.2", "127.255.255.255", "127.0.0.1", "127.0.0.1"]
    async with techo.open_server("tcp://127.0.0.1:0") as server:
        target = f"{NAME}:{server.endpoints[0].port}"
        assert (await see(techo.ping(target, count=1, **QUICK))).told == [(1, "reply")]
    assert (await see(techo.ping(target, count=1, **QUICK))).told == [(1, "refused")]
    names.addresses.pop(0)
    assert (await see(techo.ping(target, count=1, **QUICK))).told == [(1, "unreachable")]


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_an_address_is_not_looked_up(names: Names, host: str) -> None:
    """So there is no time for it."""
    async with techo.open_server(f"{host}:0") as server:
        seen = await see(techo.ping(server.endpoints[0], count=2, **QUICK))
    assert names.asked == []
    assert set(seen.statistics.setup) == {"connect"}
    assert seen.words == "reply reply"


@pytest.mark.parametrize(
    ("kind", "cause"), [("tcp", "unreachable"), ("tls", "unreachable"), ("udp", "local")]
)
async def test_there_may_be_no_way(kind: str, cause: str) -> None:
    """To a whole network's address, as if it were one machine's; UDP is not permitted to."""
    seen = await see(techo.ping(f"{kind}://127.255.255.255:9", count=2, **QUICK))
    assert seen.words == f"{cause} {cause}"
    assert seen.statistics.never_reached


@pytest.mark.parametrize("kind", ["tcp", "tls", "udp", "unix", "unixgram", "unixpacket"])
async def test_there_may_be_nobody(kind: str, techo_closed_port: int) -> None:
    """Whatever it is that nobody listens on; nothing of the attempts is left."""
    place = "@techo-nobody" if kind.startswith("unix") else f"//127.0.0.1:{techo_closed_port}"
    before = await open_descriptors()
    seen = await see(techo.ping(f"{kind}:{place}", count=3, **QUICK))
    assert seen.words == "refused refused refused"
    assert seen.statistics.never_reached
    assert await open_descriptors() == before


async def test_a_server_may_take_no_more() -> None:
    """A Unix socket's queue is full: it says so at once."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind("")
        listener.listen(0)
        name = listener.getsockname()[1:].decode()
        stack.enter_context(socket.socket(socket.AF_UNIX)).connect(listener.getsockname())
        seen = await see(techo.ping(f"unix:@{name}", count=1, **QUICK))
    assert seen.words == "refused"


async def test_the_handshake_is_timed_apart(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, names: Names
) -> None:
    """Look-up, connecting and handshake, once for each connection; the name is the host's."""
    names.addresses = ["127.0.0.1"]
    async with techo.open_server(
        "tls://127.0.0.1:0",
        tls=server_tls,
        reply=techo.raw,
        faults=[testing.Reset(after=1)],
    ) as server:
        target = f"tls://localhost:{server.endpoints[0].port}"
        async with techo.ping(target, tls=client_tls, **QUICK) as ping:
            with trio.fail_after(PATIENCE):
                while ping.statistics().reconnects < 2:
                    assert word_of(await anext(ping)) == "reset"
    found = ping.statistics()
    counts = {name: each.count for name, each in found.setup.items()}
    assert counts == dict.fromkeys(("lookup", "connect", "handshake"), found.reconnects + 1)
    assert found.setup["handshake"].min > 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda _: None, "bad certificate (unable to get local issuer certificate)"),
        (testing.ExpiredCertificate, "bad certificate (certificate has expired)"),
        (testing.WrongName, "bad certificate (ip address mismatch"),
    ],
)
async def test_a_certificate_that_is_no_good(
    make: Callable[[trustme.CA], Fault | None],
    words: str,
    authority: trustme.CA,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
) -> None:
    """It is told what is wrong with it; nobody is trusted unless told to be."""
    fault = make(authority)
    async with techo.open_server(
        "tls://127.0.0.1:0", tls=server_tls, faults=[fault] if fault else []
    ) as server:
        trusting = client_tls if fault else None
        seen = await see(techo.ping(server.endpoints[0], count=2, tls=trusting, **QUICK))
        assert seen.words == "tls tls"
    (first, _) = seen.results
    assert isinstance(first, techo.PingFailure)
    assert first.reason.lower().startswith(words)
    assert seen.statistics.never_reached


async def test_who_is_not_let_in_is_told_by_tls(
    authority: trustme.CA, client_tls: ssl.SSLContext
) -> None:
    """A server that wants to see a certificate says so behind the handshake."""
    wanting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(wanting)
    authority.configure_trust(wanting)
    wanting.verify_mode = ssl.CERT_REQUIRED

    def refuse(listener: socket.socket) -> None:
        # By the standard library, because trio closes such a connection without a word. What
        # came in is read to its end: a reset could overtake that word.
        sock, _ = listener.accept()
        with sock.dup() as raw, contextlib.suppress(ConnectionError):
            with pytest.raises(ssl.SSLError):
                wanting.wrap_socket(sock, server_side=True)
            while raw.recv(1000):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, refuse, listener)
            target = f"tls://127.0.0.1:{listener.getsockname()[1]}"
            seen = await see(techo.ping(target, count=1, tls=client_tls, **QUICK))
    assert seen.told == [(1, "tls")]


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
async def test_techo_s_own_refusal_has_a_name(
    version: str, server_tls: ssl.SSLContext, authority: trustme.CA, client_tls: ssl.SSLContext
) -> None:
    """Over TLS 1.3 it comes behind the handshake, and everybody reports it all the same."""
    authority.configure_trust(server_tls)
    server_tls.verify_mode = ssl.CERT_REQUIRED
    server_tls.maximum_version = ssl.TLSVersion[version]
    said = {"TLSv1_2": "handshake failure", "TLSv1_3": "certificate required"}[version]
    async with techo.open_server("tls://127.0.0.1:0", tls=server_tls) as server:
        with trio.fail_after(PATIENCE):
            endpoint = server.endpoints[0]
            seen = await see(techo.ping(endpoint, count=3, tls=client_tls, **QUICK))
            assert seen.words == "tls tls tls"
            for each in seen.results:
                assert isinstance(each, techo.PingFailure)
                assert said in each.reason
            assert seen.statistics.never_reached
            options: dict[str, Any] = {"trips": 10, "timeout": PATIENCE, "tls": client_tls}
            report = await techo.load(endpoint, connections=2, **options)
            assert set(report.failures) == {techo.FailureCause.TLS}
            assert said in report.reasons[techo.FailureCause.TLS]
            with pytest.raises(ssl.SSLError, match=said):
                await check_echo_service(endpoint, tls=client_tls)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
async def test_a_client_that_refuses_the_certificate_says_so(
    version: str, server_tls: ssl.SSLContext
) -> None:
    """The server is sent an alert (RFC 8446, 6.2), which it can log."""
    server_tls.maximum_version = ssl.TLSVersion[version]
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    said: list[str] = []

    async def serve() -> None:
        stream = trio.SSLStream(await listener.accept(), server_tls, server_side=True)
        async with stream.transport_stream:
            with pytest.raises(trio.BrokenResourceError) as broken:
                await stream.do_handshake()
            said.append(str(broken.value.__cause__))

    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with trio.fail_after(PATIENCE):
            port = listener.socket.getsockname()[1]
            seen = await see(techo.ping(f"tls://127.0.0.1:{port}", count=1, **QUICK))
    assert seen.words == "tls"
    assert "alert unknown ca" in said[0]


async def test_no_tls_where_it_should_be(client_tls: ssl.SSLContext) -> None:
    """A server that echoes our greeting, and one that says nothing for long."""
    async with techo.open_server("tcp://127.0.0.1:0", reply=techo.raw) as server:
        target = f"tls://127.0.0.1:{server.endpoints[0].port}"
        seen = await see(techo.ping(target, count=1, tls=client_tls, **QUICK))
    assert seen.told == [(1, "tls")]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"tls://127.0.0.1:{silent.getsockname()[1]}"
        before = await open_descriptors()
        ping = techo.ping(target, count=1, tls=client_tls, timeout=0.05)
        seen = await see(ping)
        assert await open_descriptors() == before
    assert seen.told == [(1, "timeout-connect")]


@pytest.mark.parametrize(("most", "cause"), [(0, "eof"), (1, "short"), (63, "short")])
@pytest.mark.parametrize("close_notify", [True, False])
async def test_tls_that_ends_in_mid_reply(
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
    most: int,
    cause: str,
    close_notify: bool,  # noqa: FBT001  -- a parameter of the test
) -> None:
    """It is an end, and short of what was sent, with close_notify or without."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def answer_in_part() -> None:
        stream = trio.SSLStream(await listener.accept(), server_tls, server_side=True)
        data = await stream.receive_some(64)
        if most:
            await stream.send_all(data[:most])
        await (stream if close_notify else stream.transport_stream).aclose()

    port = listener.socket.getsockname()[1]
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(answer_in_part)
        with trio.fail_after(PATIENCE):
            ping = techo.ping(f"tls://127.0.0.1:{port}", count=1, tls=client_tls, **QUICK)
            assert (await see(ping)).told == [(1, cause)]
