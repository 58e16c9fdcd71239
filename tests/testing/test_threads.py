"""Servers in threads with a trio run of their own, as programs that are not async have them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager

import pytest
import trio

import techo
from helpers import PATIENCE
from techo._threads.run import open_in_thread
from techo.testing import (
    DropReply,
    DuplicateReply,
    Reset,
    open_memory_server,
    open_proxy,
    open_thread_proxy,
    open_thread_server,
)

LOOPBACK = "tcp://127.0.0.1:0"


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No thread is left when a test is over."""
    before = threading.enumerate()
    yield
    assert threading.enumerate() == before


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt, as it does in a program that was just started."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_plain_program_has_a_server_with_faults() -> None:
    """It is asked while it runs and afterwards, and closes what is open at the end."""
    fault = Reset(after=3, first=1)
    with open_thread_server(LOOPBACK, reply=techo.raw, faults=[fault]) as server:
        endpoint = server.endpoint
        with socket.create_connection(("127.0.0.1", endpoint.port)) as sock:
            sock.sendall(b"hello")
            assert sock.recv(3, socket.MSG_WAITALL) == b"hel"
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        assert [event.fault for event in server.history] == [fault]
        with socket.create_connection(("127.0.0.1", endpoint.port)) as sock:
            sock.sendall(b"hello")
            assert sock.recv(5, socket.MSG_WAITALL) == b"hello"
            assert server.statistics().accepted == 2
            assert str(endpoint) in repr(server)
            later = Reset(after=2)
            server.set_faults(later, running=True)
            sock.sendall(b"again")
            assert sock.recv(2, socket.MSG_WAITALL) == b"ag"
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
            with pytest.raises(ValueError, match="DropReply"):
                server.set_faults(DropReply())
    assert server.endpoints == ()
    assert sum(server.statistics().outcomes.values()) == 2
    assert [event.fault for event in server.history] == [fault, later]


def test_a_proxy_listens_for_what_its_target_takes() -> None:
    """Before a server of datagrams it is one of datagrams, whose faults can change, too."""
    with (
        open_thread_server("udp://127.0.0.1:0", reply=techo.raw) as server,
        open_thread_proxy(server.endpoint, faults=[DuplicateReply()]) as proxy,
        socket.socket(type=socket.SOCK_DGRAM) as sock,
    ):
        assert (proxy.endpoint.kind, proxy.endpoint.host) == (techo.Kind.UDP, "127.0.0.1")
        sock.settimeout(PATIENCE)
        sock.connect(("127.0.0.1", proxy.port))
        sock.send(b"hello")
        assert [sock.recv(9) for _ in range(2)] == [b"hello", b"hello"]
        assert server.statistics().datagrams.received == 1
        assert list(proxy.upstream_history) == []
        proxy.set_faults()
        proxy.set_upstream_faults(DuplicateReply())
        sock.send(b"again")
        assert [sock.recv(9) for _ in range(2)] == [b"again", b"again"]
        assert server.statistics().datagrams.received == 3
    assert [event.fault for event in proxy.history] == [DuplicateReply()]
    assert [event.fault for event in proxy.upstream_history] == [DuplicateReply()]


def test_several_run_side_by_side() -> None:
    """Each has a run of its own, and faults of its own."""
    with (
        open_thread_server(LOOPBACK, reply=techo.raw) as whole,
        open_thread_server(LOOPBACK, LOOPBACK, faults=[Reset()]) as resetting,
    ):
        assert [len(each.endpoints) for each in (whole, resetting)] == [1, 2]
        with (
            socket.create_connection(("127.0.0.1", resetting.endpoints[1].port)) as sock,
            pytest.raises(ConnectionResetError),
        ):
            sock.recv(1)
        with socket.create_connection(("127.0.0.1", whole.port)) as sock:
            sock.sendall(b"hello")
            assert sock.recv(5, socket.MSG_WAITALL) == b"hello"


@pytest.mark.parametrize(
    ("place", "error"), [("udp://127.0.0.1:0", ValueError), ("tcp://192.0.2.1:0", OSError)]
)
def test_what_cannot_start_is_an_error_at_once(place: str, error: type[Exception]) -> None:
    """It is raised as `open_server` raises it, not in a group."""
    with pytest.raises(error), open_thread_server(place, faults=[Reset()]):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("opening", "instead"),
    [
        (techo.open_server, "open_thread_server"),
        (open_memory_server, "open_thread_server"),
        (functools.partial(open_proxy, "localhost:1"), "open_thread_proxy"),
    ],
)
def test_asyncio_is_told_what_it_can_use(
    opening: Callable[[], AbstractAsyncContextManager[object]], instead: str
) -> None:
    """What needs trio says so where asyncio runs, and names the block that does not."""

    async def enter() -> None:
        async with opening():
            raise NotImplementedError

    with pytest.raises(RuntimeError, match=rf"needs trio, .*: use techo\.testing\.{instead}"):
        asyncio.run(enter())


async def test_a_trio_program_can_ask_too() -> None:
    """A call from a trio task, or from the server's own thread, waits for nobody."""
    asked = list[int]()

    def reply(data: bytes) -> bytes:
        asked.append(server.statistics().accepted)
        return data

    with open_thread_server(LOOPBACK, reply=reply) as server:
        async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"
        assert server.statistics().bytes_in == 5
    assert asked == [1]


Failing = Callable[[threading.Event], AbstractAsyncContextManager[None]]


@contextlib.asynccontextmanager
async def failing_in_a_task(failed: threading.Event) -> AsyncIterator[None]:
    """Fail in a task, while the block is open."""

    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        failed.set()
        raise LookupError("in a task")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)
        yield


@contextlib.asynccontextmanager
async def failing_at_the_end(failed: threading.Event) -> AsyncIterator[None]:
    """Fail when the block is left."""
    await trio.lowlevel.checkpoint()
    failed.set()
    try:
        yield
    finally:
        raise LookupError("at the end")


@pytest.mark.parametrize("manager", [failing_in_a_task, failing_at_the_end])
def test_what_fails_meanwhile_is_raised_at_the_end_of_the_block(manager: Failing) -> None:
    """It comes as itself, after the block has done its work; later calls are harmless."""
    failed = threading.Event()
    block = open_in_thread(manager(failed), "failing")
    _, run = block.__enter__()
    failed.wait()
    assert run.call(lambda: 1) == 1
    with pytest.raises(LookupError):
        block.__exit__(None, None, None)
    assert run.call(lambda: 2) == 2
    with pytest.raises(ZeroDivisionError):
        run.call(lambda: 1 // 0)


def test_an_error_of_the_block_comes_out_as_it_was_raised() -> None:
    """The server ends as well."""
    with pytest.raises(LookupError, match="ours"), open_thread_server(LOOPBACK) as server:
        raise LookupError("ours")
    assert server.endpoints == ()


def test_an_interrupt_of_the_block_ends_it() -> None:
    """SIGINT goes to the main thread, whose KeyboardInterrupt comes out."""
    with (
        interruptible(),
        pytest.raises(KeyboardInterrupt),
        open_thread_server(LOOPBACK) as server,
    ):
        signal.raise_signal(signal.SIGINT)
    assert server.endpoints == ()


def test_an_interrupt_of_the_start_ends_it() -> None:
    """What has not begun to serve is cancelled, too."""
    ended = list[str]()

    @contextlib.asynccontextmanager
    async def opening() -> AsyncIterator[None]:
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)
        try:
            await trio.sleep_forever()
            yield
        finally:
            ended.append("cancelled")

    with (
        interruptible(),
        pytest.raises(KeyboardInterrupt),
        open_in_thread(opening(), "opening"),
    ):
        raise NotImplementedError
    assert ended == ["cancelled"]
