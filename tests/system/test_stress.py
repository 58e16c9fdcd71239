"""Two hundred peers at once, good, rude, slow and silent, as hypothesis draws them."""

from __future__ import annotations

import math
from collections import Counter

import attrs
import pytest
import trio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import techo
from helpers import PATIENCE, connect, ended, open_descriptors, reset, until_ended
from techo._pump import pump

PEERS = 200
IDLE = 2.0
"""Seconds; pauses in a schedule are far shorter."""


@attrs.frozen
class Schedule:
    """What one peer does: send in pieces, pause, read at its own pace, and end somehow."""

    pieces: list[int]
    """Bytes of each send."""
    pauses: list[float]
    """Seconds after each send, in turn."""
    gulp: int
    """Bytes read at a time."""
    dawdle: float
    """Seconds between two reads."""
    ending: str
    """Half-close and read on, reset, fall silent, or never read."""

    async def play(self, server: techo.EchoService, lasted: list[float]) -> None:
        """Be that peer; a time limit that ends it is measured."""
        async with await connect(server) as stream:
            start = trio.current_time()
            if self.ending == "never read":
                with pytest.raises(trio.BrokenResourceError):
                    await stream.send_all(bytes(2**23))  # more than all buffers hold
                lasted.append(trio.current_time() - start)
                return
            # Not counted from here: this process may read its last bytes long after they came.
            await self._exchange(stream)
            if self.ending == "reset":
                reset(stream)
                return
            if self.ending == "half-close":
                await stream.send_eof()
            assert await stream.receive_some() == b""
            if self.ending == "silent":
                lasted.append(trio.current_time() - start)

    async def _exchange(self, stream: trio.SocketStream) -> None:
        data = bytes(range(256)) * (sum(self.pieces) // 256 + 1)
        data = data[: sum(self.pieces)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, stream, data)
            back = b""
            while len(back) < len(data):
                back += await stream.receive_some(self.gulp)
                await trio.sleep(self.dawdle)
        assert back == data

    async def _send(self, stream: trio.SocketStream, data: bytes) -> None:
        position = 0
        for index, size in enumerate(self.pieces):
            await stream.send_all(data[position : position + size])
            position += size
            if self.pauses:
                await trio.sleep(self.pauses[index % len(self.pauses)])


schedules = st.builds(
    Schedule,
    pieces=st.lists(st.sampled_from([1, 2, 64, 1000, 16_384, 65_536, 150_000]), max_size=4),
    pauses=st.lists(st.sampled_from([0, 0.001, 0.01]), max_size=3),
    # The kernel tells the server that a peer has read in steps of tens of thousands of bytes.
    gulp=st.sampled_from([30_000, 65_536, 10**6]),
    dawdle=st.sampled_from([0, 0, 0.0005]),
    ending=st.sampled_from(["half-close", "half-close", "reset", "silent", "never read"]),
)
OUTCOMES = {"half-close": "eof", "reset": "reset", "silent": "idle", "never read": "stalled"}


@settings(
    max_examples=4,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # two hundred peers are slow to shrink
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(drawn=st.lists(schedules, min_size=4, max_size=8))
@pytest.mark.usefixtures("conversation")
def test_every_byte_comes_back_and_everybody_ends_as_they_should(
    drawn: list[Schedule], conversation: str
) -> None:
    """Bytes, outcomes, time, descriptors and tasks all add up."""
    assert (conversation == "pump") == pump.AVAILABLE
    peers = (drawn * math.ceil(PEERS / len(drawn)))[:PEERS]

    async def main() -> None:
        before = await open_descriptors()
        tasks = trio.lowlevel.current_statistics().tasks_living
        limits = techo.Limits(idle_timeout=IDLE)
        lasted: list[float] = []
        async with techo.open_server(
            "tcp://127.0.0.1:0", reply=techo.raw, limits=limits
        ) as server:
            async with trio.open_nursery() as nursery:
                for peer in peers:
                    nursery.start_soon(peer.play, server, lasted)
            statistics = await until_ended(server, PEERS)
        wanted = Counter(OUTCOMES[peer.ending] for peer in peers)
        assert wanted == ended(statistics)
        # Not before its time; and in time, as far as a busy machine can tell.
        assert all(IDLE * 0.9 <= each < IDLE + PATIENCE for each in lasted)
        assert len(lasted) == sum(peer.ending in {"silent", "never read"} for peer in peers)
        assert await open_descriptors() == before
        assert trio.lowlevel.current_statistics().tasks_living == tasks

    trio.run(main)
