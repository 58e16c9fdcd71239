"""Too little memory: one line a minute, its own connection, and nobody else's."""

from __future__ import annotations

import errno
import logging
import mmap
import ssl
import time
from typing import Any, NoReturn

import pytest
import trio
import trio.testing

import techo
from helpers import connect, ended, receive_until_end, until, until_ended
from techo import _log
from techo._pump.pump import Pump
from techo._server import listening
from techo._transport.connect import connect as connected
from techo.testing import MemoryListener, MemoryStream

pytestmark = pytest.mark.usefixtures("never_reported")


@pytest.fixture
def never_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget when a shortage was last reported."""
    monkeypatch.setattr(_log, "_last", {})


def short(chunk: bytes) -> bytes:
    """Reply as a process does that can't have any more memory now and then."""
    if chunk == b"x":
        raise MemoryError
    return chunk


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what is in the log, which has no traceback."""
    assert not [record for record in caplog.records if record.exc_info]
    return [record.getMessage()[:17] for record in caplog.records]


async def test_a_connection_without_memory_is_aborted(
    conversation: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A hundred of them make one line; the others are served on."""
    async with techo.open_server("tcp://127.0.0.1:0", reply=short) as server:
        for _ in range(20):
            async with await connect(server) as unlucky, await connect(server) as other:
                await unlucky.send_all(b"x")
                assert await receive_until_end(unlucky) == b""
                await other.send_all(b"y")
                assert await other.receive_some() == b"y"
        assert ended(await until_ended(server, 40)) == {"aborted": 20, "eof": 20}
    assert lines(caplog) == ["too little memory"]


async def test_a_datagram_without_memory_is_blocked(caplog: pytest.LogCaptureFixture) -> None:
    """The loop goes on."""
    async with techo.open_server("udp://127.0.0.1:0", reply=short) as server:
        endpoint = server.endpoints[0]
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
            await sock.connect((endpoint.host, endpoint.port))
            for _ in range(20):
                await sock.send(b"x")
            await sock.send(b"y")
            assert await sock.recv(10) == b"y"
        dropped = server.statistics().datagrams.dropped
        assert {str(why): count for why, count in dropped.items() if count} == {"blocked": 20}
    sums = ["datagrams not ans"] * 2  # the first, and all of them in the end
    assert lines(caplog) == ["too little memory", *sums]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "too little memory"),
        (OSError(errno.ENOMEM, "cannot allocate memory"), "too little memory"),
        (OSError(errno.EMFILE, "too many open files"), "cannot accept con"),
    ],
    ids=["memory", "kernel memory", "descriptors"],
)
async def test_accepting_goes_on_after_a_shortage(
    error: Exception,
    line: str,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever it is short of, the line names the remedy, and comes once a minute."""

    class Poor(MemoryListener):
        tries = 0

        async def accept(self) -> MemoryStream:
            self.tries += 1
            if self.tries < 10:
                raise error
            return await super().accept()

    listener = Poor()
    async with techo.open_server(listener, reply=techo.raw):
        async with await listener.connect() as stream:
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"
        assert trio.current_time() > 8 * listening._SHORTAGE_PAUSE
    assert lines(caplog) == [line]


async def test_any_other_error_of_accepting_comes_out() -> None:
    """It is no shortage, and nobody would notice."""

    class Broken(MemoryListener):
        async def accept(self) -> NoReturn:
            await trio.lowlevel.checkpoint()
            raise OSError(errno.EINVAL, "no listener")

    with pytest.raises(ExceptionGroup) as caught:  # noqa: ASYNC401  -- however deep
        async with techo.open_server(Broken()):
            await trio.sleep_forever()
    assert caught.group_contains(OSError, match="no listener")


async def test_a_pump_without_memory_goes_on(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """A turn that fails is repeated; the run does not end by it."""
    turns = 0
    take_turn = Pump._take_turn

    def fail_once(self: Pump) -> None:
        nonlocal turns
        turns += 1
        if turns == 1:
            raise MemoryError
        take_turn(self)

    monkeypatch.setattr(Pump, "_take_turn", fail_once)
    async with (
        techo.open_server("tcp://127.0.0.1:0", reply=techo.raw) as server,
        await connect(server) as stream,
    ):
        await until(lambda: server.statistics().active)
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"
        assert turns > 1


@pytest.mark.parametrize("kind", ["tcp", "tls"])
async def test_a_pump_without_a_buffer_leaves_the_connection_to_its_task(
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
) -> None:
    """Nothing of the socket is left in the pump, which would serve it as well."""

    def refuse(_fd: int, length: int) -> NoReturn:
        raise OSError(errno.ENOMEM, f"no {length} bytes")

    monkeypatch.setattr(mmap, "mmap", refuse)
    tls = (server_tls, client_tls) if kind == "tls" else (None, None)
    async with techo.open_server(
        f"{kind}://127.0.0.1:0", reply=techo.raw, tls=tls[0]
    ) as server:
        transport = (await connected(server.endpoints[0], tls=tls[1])).transport
        await transport.send(b"hello")
        assert await transport.receive() == b"hello"
        assert not Pump.of_this_run()._sockets
        await transport.aclose()


def test_the_line_comes_back_after_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A shortage that lasts is reported again; other kinds have their own minute."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    caplog.set_level(logging.ERROR)
    for seconds in (0, 59, 1):
        now += seconds
        assert _log.shortage(MemoryError())
    assert _log.shortage(OSError(errno.EMFILE, "too many"))
    assert not _log.shortage(OSError(errno.ECONNRESET, "reset"))
    assert lines(caplog) == ["too little memory"] * 2 + ["cannot accept con"]


class NoThreads(trio.abc.HostnameResolver):
    """A resolver in a process that can start no more threads."""

    async def getaddrinfo(self, *_: Any) -> list[Any]:
        """Fail as a thread does that can't be started."""
        await trio.lowlevel.checkpoint()
        raise RuntimeError("can't start new thread")

    async def getnameinfo(self, *_: Any) -> tuple[str, str]:
        """Nobody asks."""
        raise NotImplementedError


@pytest.mark.parametrize("kind", ["tcp", "udp"])
async def test_a_look_up_without_a_thread_is_an_os_error_that_names_the_endpoint(
    kind: str,
) -> None:
    """It is a shortage of this machine, as for a client."""
    trio.socket.set_custom_hostname_resolver(NoThreads())
    endpoint = f"{kind}://some.example:0"
    with pytest.raises(OSError, match="Cannot allocate memory") as caught:
        async with techo.open_server(endpoint):
            raise AssertionError("it can't be listening")
    assert caught.value.errno == errno.ENOMEM
    assert caught.value.filename == endpoint
