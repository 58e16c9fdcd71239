"""What the tests of ping share: taking every result, with what must hold after each."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio

import techo
from techo import testing
from techo.testing import Fault


@attrs.frozen
class Seen:
    """What came of a ping."""

    results: list[techo.PingResult]
    times: list[float]
    """When each came, in s since the first was asked for."""
    statistics: techo.PingStatistics

    @property
    def told(self) -> list[tuple[int | None, str]]:
        """Which probe came to what, in the order of the results."""
        return [(result.seq, word_of(result)) for result in self.results]

    @property
    def words(self) -> str:
        """What the probes came to, in the order of the results."""
        return " ".join(word for _, word in self.told)


def word_of(result: techo.PingResult) -> str:
    """The cause of a failure, or what kind of reply it is."""
    if isinstance(result, techo.PingFailure):
        return result.cause
    return "duplicate" if result.duplicate else "late" if result.late else "reply"


async def see(ping: techo.Ping) -> Seen:
    """Take all results; they and the statistics agree after each, and all probes in the end."""
    seen = Seen([], [], ping.statistics())
    begun = trio.current_time()
    async with ping:
        async for result in ping:
            seen.results.append(result)
            seen.times.append(trio.current_time() - begun)
            add_up(seen.results, ping.statistics())
    statistics = ping.statistics()
    assert statistics.in_flight == 0
    assert {seq for seq, _ in seen.told} - {None} == set(range(1, statistics.sent + 1))
    return attrs.evolve(seen, statistics=statistics)


def add_up(results: Sequence[techo.PingResult], statistics: techo.PingStatistics) -> None:
    """What was sent has come back, is lost or is under way, and so the results say."""
    words = [word_of(result) for result in results if result.seq is not None]
    late, duplicate = words.count("late"), words.count("duplicate")
    received = words.count("reply") + late
    assert statistics.sent == statistics.received + statistics.lost + statistics.in_flight
    assert statistics.in_flight >= 0
    # What is not asked for yet is counted already.
    assert statistics.received >= received
    assert statistics.lost + statistics.late >= len(words) - received - duplicate
    assert statistics.lost == sum(statistics.failures.values())
    assert min(statistics.lost, *statistics.failures.values(), 0) == 0
    assert statistics.latency.count == statistics.received
    assert statistics.late >= late
    assert statistics.duplicate >= duplicate


async def see_faults(
    *faults: Fault,
    count: int = 4,
    interval: float = 1.0,
    timeout: float = 1.0,  # noqa: ASYNC109  -- ping's own
    size: int | range = 64,
) -> Seen:
    """Ping a server in memory with these faults."""
    async with testing.open_memory_server(reply=techo.raw, faults=faults) as server:
        return await see(
            techo.ping(
                server.connect, count=count, interval=interval, timeout=timeout, size=size
            )
        )
