"""The gate: how much of a turn handshakes get, without a connection."""

from __future__ import annotations

import time

import pytest
import trio
import trio.testing

from techo._tls.gate import HandshakeGate


class Slow:
    """Records whose handshake takes as long as a test says, by a clock that it moves."""

    def __init__(self, clock: list[float], seconds: float) -> None:
        self.clock, self.seconds = clock, seconds

    def shake_hands(self) -> bool:
        """Take the time."""
        self.clock[0] += self.seconds
        return True


class Turns(trio.abc.Instrument):
    """Counts steps in each turn of the run."""

    def __init__(self) -> None:
        self.steps = [0]

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002  -- trio's signature
        """Begin the next."""
        self.steps.append(0)


@pytest.mark.parametrize("seconds", [0.0, 0.0001, 0.01])
async def test_no_turn_has_more_than_its_share(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Handshakes that find half a millisecond spent wait, and all have their turn."""
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    turns = Turns()

    async def shake_hands() -> None:
        await HandshakeGate.of_this_run().step(Slow(clock, seconds))  # type: ignore[arg-type]  # in place of a handshake
        turns.steps[-1] += 1

    trio.lowlevel.add_instrument(turns)
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(shake_hands)
    trio.lowlevel.remove_instrument(turns)
    assert sum(turns.steps) == 100
    share = 0.0005 // (seconds + 50e-6) + 1  # the last one is begun in time
    # The new share may begin in the middle of a turn, for those who come then.
    assert max(turns.steps) <= 2 * share
    assert len(turns.steps) <= 2 * 100 / share + 10


async def test_who_is_cancelled_in_the_line_keeps_nobody_back(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others go on, and the gate rests when there is nobody left."""
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    gate, done = HandshakeGate.of_this_run(), []

    async def shake_hands(number: int, scope: trio.CancelScope) -> None:
        with scope:
            await gate.step(Slow(clock, 1.0))  # type: ignore[arg-type]  # in place of a handshake
            done.append(number)

    scopes = [trio.CancelScope() for _ in range(10)]
    for scope in scopes[:5]:
        scope.cancel()
    async with trio.open_nursery() as nursery:
        for number, scope in enumerate(scopes):
            nursery.start_soon(shake_hands, number, scope)
    # Whoever came first needed no line, and so no checkpoint.
    assert set(done) >= {5, 6, 7, 8, 9}
    assert len(done) <= 6
    before = trio.current_time()
    await trio.sleep(1)  # virtual: it passes only because nothing else runs
    assert trio.current_time() == before + 1


async def test_who_comes_first_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where some take long, so that there is no time for others whose turn it was."""
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    gate, done = HandshakeGate.of_this_run(), []

    async def shake_hands(number: int) -> None:
        await gate.step(Slow(clock, 0.002 * (number % 4 == 0)))  # type: ignore[arg-type]  # in place of a handshake
        done.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(2000):
            nursery.start_soon(shake_hands, number)
            if number % 2:  # faster than they are done
                await trio.lowlevel.checkpoint()
    late = [place - number for place, number in enumerate(done)]
    assert sorted(done) == list(range(2000))
    assert max(map(abs, late)) < 300  # a few turns' worth, however long the line is
