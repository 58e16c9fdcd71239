"""The drivers: whatever a peer does, the pump, the tasks and the kernel's count the same."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

import techo
from helpers import PATIENCE, receive_until_end
from loads import causes, check
from techo._kernel.ends import join_with_end
from techo._pump import pump
from wires import Connect

pytestmark = pytest.mark.usefixtures("short_pauses")

Peer = Callable[[trio.SocketStream], Awaitable[None]]
"""What a server does with one connection."""


async def close_at_once(peer: trio.SocketStream) -> None:  # noqa: ASYNC124  -- as all peers
    """Accept, and close."""
    peer.socket.close()


async def end_at_once(peer: trio.SocketStream) -> None:
    """Half-close before anything has come, and then swallow everything."""
    await peer.send_eof()
    async for _ in peer:
        pass


async def greet(peer: trio.SocketStream) -> None:
    """Send what nobody asked for, before anything has come."""
    await peer.send_all(b"220 welcome\r\n")
    async for chunk in peer:
        await peer.send_all(chunk)


async def greet_and_close(peer: trio.SocketStream) -> None:
    """Send what nobody asked for, and close."""
    await peer.send_all(b"busy")
    peer.socket.close()


async def echo_twice(peer: trio.SocketStream) -> None:
    """Answer two messages, and close when the third has come."""
    for _ in range(2):
        await peer.send_all(await peer.receive_some(100))
    await peer.receive_some(100)
    peer.socket.close()


async def echo_half(peer: trio.SocketStream) -> None:
    """Answer half of a message, then close."""
    chunk = await peer.receive_some(100)
    await peer.send_all(chunk[:30])
    peer.socket.close()


async def swallow_and_close(peer: trio.SocketStream) -> None:
    """Read one message, and close without an answer."""
    await peer.receive_some(100)
    peer.socket.close()


async def answer_wrongly(peer: trio.SocketStream) -> None:
    """Answer with other bytes."""
    async for chunk in peer:
        await peer.send_all(bytes(byte ^ 1 for byte in chunk))


async def answer_twice(peer: trio.SocketStream) -> None:
    """Answer each message twice."""
    async for chunk in peer:
        await peer.send_all(chunk + chunk)


async def echo_in_bytes(peer: trio.SocketStream) -> None:
    """Answer byte by byte."""
    async for chunk in peer:
        for byte in chunk:
            await peer.send_all(bytes([byte]))


async def stamp(peer: trio.SocketStream) -> None:
    """Answer with a stamp."""
    async for chunk in peer:
        await peer.send_all(techo.stamped(bytes(chunk)))


PEERS: list[tuple[Peer, dict[str, int], int]] = [
    (close_at_once, {"eof": 8}, 8),
    (end_at_once, {"eof": 8}, 8),
    (greet, {"corrupt": 8}, 8),
    (greet_and_close, {"corrupt": 8}, 8),
    (echo_twice, {"eof": 2}, 2),
    (echo_half, {"short": 8}, 8),
    (swallow_and_close, {"eof": 8}, 8),
    (answer_wrongly, {"corrupt": 8}, 8),
    (answer_twice, {"corrupt": 8}, 8),
    (echo_in_bytes, {}, 0),
    (stamp, {}, 0),
]
"""Each with the causes that eight trips come to, one after the other, and how many are lost."""


async def measured(connected: Connect, peer: Peer, **options: Any) -> techo.LoadReport:
    """Load a peer, to which a connection is complete when it has had its first turn."""
    async with trio.open_nursery() as nursery:

        async def serve(stream: trio.SocketStream) -> None:
            async with stream:
                try:
                    await peer(stream)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return  # the client has closed, or we have

        async def connect() -> trio.SocketStream:
            ours, theirs = connected()
            nursery.start_soon(serve, trio.SocketStream(theirs))
            try:
                await trio.testing.wait_all_tasks_blocked()
            except BaseException:
                ours.close()  # the load is over
                raise
            return trio.SocketStream(ours)

        with trio.fail_after(PATIENCE):
            report = check(await techo.load(connect, connections=1, **options))
        nursery.cancel_scope.cancel()
    return report


@pytest.mark.parametrize(
    ("peer", "errors", "lost"), PEERS, ids=[peer.__name__ for peer, *_ in PEERS]
)
async def test_all_drivers_count_alike(
    connected: Connect, peer: Peer, errors: dict[str, int], lost: int
) -> None:
    """The end, a greeting or a wrong answer costs the same trips, for the same causes."""
    report = await measured(connected, peer, trips=8, timeout=PATIENCE)
    found = causes(report)
    # To a peer that has closed, sending fails as well, and either side may notice first.
    if "reset" in found:
        found["eof"] = found.pop("reset") + found.get("eof", 0)
    assert (found, report.lost, report.received) == (errors, lost, 8 - lost)
    assert report.unsent == 0


@pytest.mark.skipif(not pump.AVAILABLE, reason="this system has no epoll, which the pump needs")
async def test_an_end_behind_a_reply_costs_no_trip(nursery: trio.Nursery) -> None:
    """Nothing is sent into a connection whose end has come together with a reply."""

    async def answer_once(peer: trio.SocketStream) -> None:
        async with peer:
            chunk = await peer.receive_some()
            join_with_end(peer.socket)
            await peer.send_all(chunk)
            await peer.send_eof()
            await receive_until_end(peer)

    serve = functools.partial(trio.serve_tcp, host="127.0.0.1")
    (listener,) = await nursery.start(serve, answer_once, 0)
    port = listener.socket.getsockname()[1]
    with trio.fail_after(PATIENCE):
        report = check(await techo.load(f"127.0.0.1:{port}", trips=20, connections=1))
    assert (report.received, report.lost) == (20, 0)
