"""The end of many, and of those that do not want to end: a drain takes as long as it may."""

from __future__ import annotations

import contextlib
import logging
import socket
from typing import Any

import pytest
import trio
import trio.testing

import techo
from helpers import connect, ended, receive_until_end
from techo._server import draining, handler
from techo._server.conversation import close_gracefully
from techo.testing import MemoryListener

LIMITS = techo.Limits(drain_timeout=1, close_timeout=1)


class Stubborn(trio.abc.Stream):
    """A stream that nothing ends but its own time, not even cancellation."""

    async def send_all(self, _data: object) -> None:
        """Send nothing."""
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait for nothing."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, _most: int | None = None) -> bytes:
        """Wait for long, whatever happens."""
        with trio.CancelScope(shield=True):
            await trio.sleep(1000)
        return b""

    async def aclose(self) -> None:
        """Close."""
        await trio.lowlevel.checkpoint()


async def test_a_drain_returns_even_if_a_connection_does_not_end(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It returns when its time is over, and the log has how many are left."""
    service = techo.EchoService(techo.raw, limits=LIMITS)
    nursery.start_soon(service.handle, Stubborn())
    await trio.testing.wait_all_tasks_blocked()
    start = trio.current_time()
    await service.drain()
    assert trio.current_time() - start == 1
    assert service.statistics().active == 1
    assert caplog.messages == ["1 aborted connections have not ended"]


async def test_a_second_drain_that_is_cancelled_aborts_what_is_left(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """So the first returns, too."""
    service = techo.EchoService(techo.raw, limits=techo.Limits(drain_timeout=100))
    ours, theirs = trio.testing.lockstep_stream_pair()
    nursery.start_soon(service.handle, theirs)
    await ours.send_all(b"x")
    start = trio.current_time()
    async with trio.open_nursery() as drains:
        drains.start_soon(service.drain)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(1) as second:
            await service.drain()
    assert second.cancelled_caught
    assert trio.current_time() - start == 1
    assert ended(service.statistics()) == {"aborted": 1}


@pytest.mark.usefixtures("conversation")
async def test_what_is_quiet_gets_its_end_and_may_still_send(nursery: trio.Nursery) -> None:
    """What it sends then is discarded and not counted; it is drained when it has closed."""
    service = techo.EchoService(techo.raw, limits=techo.Limits(drain_timeout=5))
    ours, theirs = socket.socketpair()
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    nursery.start_soon(
        service.handle, trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    )
    await stream.send_all(b"hello")
    assert await stream.receive_some() == b"hello"
    await trio.sleep(0.3)  # a pause of the length that the drain takes for an end
    nursery.start_soon(service.drain)
    assert await receive_until_end(stream) == b""
    await stream.send_all(b"more")
    await trio.testing.wait_all_tasks_blocked()
    await stream.aclose()
    await service.drain()
    assert ended(service.statistics()) == {"drained": 1}
    assert service.statistics().bytes_in == 5


async def test_the_last_reply_comes_together_with_the_end(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has not come before the end is sent, so that nobody answers it in between."""

    async def close(*arguments: Any) -> None:
        await trio.testing.wait_all_tasks_blocked()
        seen.append("end")
        await close_gracefully(*arguments)

    seen: list[str] = []
    monkeypatch.setattr(handler, "close_gracefully", close)
    service = techo.EchoService(techo.raw, limits=techo.Limits(drain_timeout=5))
    await nursery.start(service.serve, "tcp://127.0.0.1:0")
    stream = await connect(service)
    await stream.send_all(b"hello")
    assert await stream.receive_some() == b"hello"
    nursery.start_soon(service.drain)
    await trio.testing.wait_all_tasks_blocked()
    await stream.send_all(b"more")
    assert await stream.receive_some() == b"more"
    seen.append("reply")
    assert seen == ["end", "reply"]
    assert await stream.receive_some() == b""
    await stream.aclose()


@pytest.mark.parametrize("sockets", [True, False], ids=["sockets", "memory"])
async def test_many_connections_are_aborted_in_time(
    sockets: bool,  # noqa: FBT001  -- a parameter of the test
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where ending one takes long, aborting begins early: with half of them at once."""
    monkeypatch.setattr(draining, "_FEW", 10)
    service = techo.EchoService(techo.raw, limits=techo.Limits(drain_timeout=2))
    monkeypatch.setattr(draining.Drain, "_note_pace", pace_of(0.015))
    listener = MemoryListener(1000)
    await nursery.start(service.serve, listener)
    with contextlib.ExitStack() as stack:
        kept: list[object] = []
        for _ in range(200):
            if sockets:
                ours, theirs = socket.socketpair()
                stack.enter_context(ours)
                stream = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
                nursery.start_soon(service.handle, stream)
            else:
                kept.append(await listener.connect())
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(10)
        start = trio.current_time()
        nursery.start_soon(service.drain)
        await trio.testing.wait_all_tasks_blocked()
        at_once = service.statistics().active
        await service.drain()
        assert trio.current_time() - start <= 2
    assert 0 < at_once <= 100
    assert ended(service.statistics()) == {"drained": 200}


def pace_of(seconds: float) -> object:
    """Return what takes the place of measuring."""

    def note(self: draining.Drain, _count: int, _seconds: float) -> None:
        self._pace = seconds

    return note


async def test_a_drain_of_nobody_is_over_at_once(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It says nothing."""
    caplog.set_level(logging.DEBUG)
    start = trio.current_time()
    await techo.EchoService().drain()
    assert trio.current_time() == start
    assert not caplog.records
