"""The pump's sleep: never too short, and nobody else is kept waiting meanwhile."""

from __future__ import annotations

import os

import pytest
import trio
import trio.testing

import techo
from helpers import PATIENCE
from techo._pump import pump
from techo._pump.pump import Pump

pytestmark = pytest.mark.skipif(not pump.AVAILABLE, reason="this system has no epoll")


@pytest.fixture(params=["watched", "high"])
def descriptor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a descriptor that select(2) knows, and with one that it does not."""
    if request.param == "high":
        monkeypatch.setattr(pump, "_SELECTABLE", 0)


@pytest.mark.usefixtures("descriptor")
@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.00001, 0.0004, 0.0015, 0.00999])
async def test_it_wakes_up_when_it_is_time_and_never_before(seconds: float) -> None:
    """Less than a millisecond, too, and at once if it is past."""
    the_pump = Pump.of_this_run()
    for _ in range(10):
        due = trio.current_time() + seconds
        with trio.fail_after(PATIENCE):
            await the_pump.sleep_until(due)
        assert trio.current_time() >= due


async def test_it_is_cancelled_like_any_sleep() -> None:
    """Behind it everything goes on."""
    with trio.move_on_after(0.001) as scope:
        await Pump.of_this_run().sleep_until(trio.current_time() + PATIENCE)
    assert scope.cancelled_caught


@pytest.mark.usefixtures("descriptor")
async def test_other_tasks_go_on_meanwhile() -> None:
    """Each sleep is long enough for a server that waits to answer, and for its client."""
    trips = 0

    async def sleep() -> None:
        the_pump = Pump.of_this_run()
        while True:
            await the_pump.sleep_until(trio.current_time() + 0.0009)

    async with (
        techo.open_server("tcp://127.0.0.1:0", reply=techo.raw) as server,
        techo.open_client(server.endpoints[0]) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(sleep)
        with trio.fail_after(PATIENCE):
            for _ in range(50):
                trips += (await client.round_trip(b"hello")).reply == b"hello"
        nursery.cancel_scope.cancel()
    assert trips == 50


async def test_what_comes_in_meanwhile_is_answered_before_it_is_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Even where nothing else of the run happens: for most of a second here, for the test."""
    order: list[str] = []
    ours, theirs = trio.socket.socketpair()

    def reply(chunk: bytes) -> bytes:
        order.append("reply")
        return chunk

    service = techo.EchoService(reply)
    the_pump = Pump.of_this_run()
    async with trio.SocketStream(ours) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(service.handle, trio.SocketStream(theirs))
        await trio.testing.wait_all_tasks_blocked()
        monkeypatch.setattr(pump, "_COARSE", PATIENCE)
        os.write(ours.fileno(), b"x")
        with trio.fail_after(PATIENCE):
            await the_pump.sleep_until(trio.current_time() + 0.7)
        order.append("due")
        assert await stream.receive_some() == b"x"
        await stream.send_eof()
    assert order == ["reply", "due"]
