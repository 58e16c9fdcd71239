"""A member of a fleet: one machine, its task, and what goes between it and us."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn, Protocol

import attrs
import trio

from techo._fleet import work
from techo._fleet.machines import SILENCE, Caller, Clock, Machine, clock_of
from techo._operate.processes import Message
from techo._printable import printable

_ASKED: Final = 0.4
"""Seconds between two questions to a machine: at each other report that a load makes, ..."""

_AFTER: Final = 0.1
"""... and so long after it, so that all machines answer with reports of the same moment."""

_ASKED_SOON: Final = 0.1
"""Seconds between two questions until they have begun."""

_START: Final = 30.0
"""Seconds that a machine has to begin with its task, ..."""

_SILENCE_AFTER_STOP: Final = 2.0
"""... and, once all were stopped, to begin with it or to say a word."""

_LOOKS: Final = 0.25
"""Seconds between two looks at how long it has been silent."""

_LAST_WORD: Final = 1.0
"""Seconds that the last message to a machine may take: that all is over."""

_ROLL: Final = 0.5
"""Seconds between two looks at which machines the scheduler has."""


@attrs.define(eq=False)
class Agreement:
    """When all begin, once that is known, and whether they are to stop."""

    stop: trio.Event
    decided: trio.Event = attrs.field(factory=trio.Event)
    begin: float | None = None
    """When, in seconds of our CLOCK_MONOTONIC; None for not at all."""

    def until_report(self) -> float:
        """Return how many seconds it is until machines should have another report."""
        if self.begin is None:
            return _ASKED_SOON
        since = time.monotonic() - self.begin - _AFTER
        return max(_ASKED_SOON, -since if since < 0 else _ASKED - since % _ASKED)

    def decide(self, begin: float | None) -> None:
        """Let it be known."""
        self.begin = begin
        self.decided.set()


class Part(Protocol):
    """What one machine has of the whole."""

    @property
    def over(self) -> bool:
        """Whether there is nothing more to come from it."""

    def take(self, found: Mapping[str, Any]) -> None:
        """Take in what there is to know of the task so far."""

    def begin(self, at: float | None) -> Message:
        """Return how to say when it begins, by the machine's CLOCK_MONOTONIC."""


@attrs.define(eq=False)
class Member:
    """One machine, and its task."""

    caller: Caller
    machine: Machine
    kind: work.Kind
    """What it does there, ..."""
    run: str
    """... in which run; no two have the same."""
    order: str
    part: Part
    agreement: Agreement
    clock: Clock | None = None
    """None until it was measured."""
    _lost: str = ""
    """Why nothing more can come from it, if it has not reported its end."""
    _task: Any = None
    """What Dask calls a future; None until it was submitted."""
    _begun: trio.Event = attrs.field(factory=trio.Event)
    _ended: trio.Event = attrs.field(factory=trio.Event)
    _heard: float = attrs.field(factory=trio.current_time)
    """When it has answered last."""

    def lose(self, how: str) -> None:
        """Note that nothing more can come from it, unless all has."""
        if not self.part.over:
            self._lost = self._lost or printable(how)
            self._ended.set()

    async def follow(self) -> dict[str, Any]:
        """Have it carry out its task, until that is over or the machine is lost.

        Returns what has become of the task, or how it `died`. Cancellation ends it at once.
        """
        result: dict[str, Any] | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._note_silence)
                nursery.start_soon(self._govern)
                await self._ended.wait()
                nursery.cancel_scope.cancel(reason="it is over, or lost")
            result = await self._result()
        finally:
            if result is None:
                with trio.move_on_after(_LAST_WORD, shield=True):
                    await self._end()
        return {"died": self._lost} if result is None else result

    async def _govern(self) -> None:
        try:
            self.clock = clock = await clock_of(self.caller, self.machine)
            with trio.CancelScope(shield=True):  # or nobody would know of it
                await self._submit()
        except Exception as error:  # noqa: BLE001  -- whatever Dask raises
            self.lose(f"it cannot be reached ({type(error).__name__})")
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ask)
            nursery.start_soon(self._begin, clock)
            nursery.start_soon(self._stop)

    async def _submit(self) -> None:
        token = trio.lowlevel.current_trio_token()

        def wake(_task: Any) -> None:
            with contextlib.suppress(trio.RunFinishedError):  # a thread of Dask's calls this
                token.run_sync_soon(self._ended.set)

        self._task = await self.caller.here(
            self.caller.client.submit,
            work.carry_out,
            self.kind,
            self.run,
            self.order,
            key=f"techo-{self.run}",
            workers=[self.machine.address],
            allow_other_workers=False,
            pure=False,
            retries=0,
        )
        self._task.add_done_callback(wake)

    async def _ask(self) -> NoReturn:
        """Ask how far it is, again and again."""
        submitted = trio.current_time()
        while True:
            answered, found = True, None
            try:
                found = await self.caller.there(self.machine, work.ask, self.run)
            except Exception:  # noqa: BLE001  -- whatever Dask raises; it counts as silence
                answered = False
            if answered:
                self._heard = trio.current_time()
            if found is not None:
                self._begun.set()
                self.part.take(found)
            elif self._heard > submitted + _START and not self._begun.is_set():
                self.lose(f"its task did not begin within {_START:g} s: it may be busy")
            await trio.sleep(self.agreement.until_report())

    async def _note_silence(self) -> NoReturn:
        stopped: float | None = None
        while True:
            now = trio.current_time()
            if self.agreement.stop.is_set() and stopped is None:
                stopped = now
            until = self._heard + SILENCE
            if stopped is not None:
                until = min(until, max(self._heard, stopped) + _SILENCE_AFTER_STOP)
            if now >= until:
                self.lose(f"no word from it for {now - self._heard:.0f} s")
            await trio.sleep(_LOOKS)

    async def _begin(self, clock: Clock) -> None:
        await self.agreement.decided.wait()
        at = self.agreement.begin
        await self._say(self.part.begin(None if at is None else at + clock.monotonic))

    async def _stop(self) -> None:
        await self.agreement.stop.wait()
        with trio.move_on_after(_SILENCE_AFTER_STOP):
            await self._begun.wait()
        if self._begun.is_set():
            await self._say({"do": "stop"})
        else:
            self.lose("its task had not begun: it may be busy")

    async def _say(self, message: Message) -> None:
        try:
            await self.caller.there(self.machine, work.tell, self.run, message)
        except Exception as error:  # noqa: BLE001  -- whatever Dask raises
            self.lose(f"it cannot be reached ({type(error).__name__})")

    async def _result(self) -> dict[str, Any] | None:
        """Return what has become of its task; None if nobody knows."""
        result: dict[str, Any] | None = None
        if not self._lost:
            try:
                result = await self.caller.here(self._task.result)
            except Exception as error:  # noqa: BLE001  -- a bug there, or Dask's own
                self._lost = printable(_words_of(error))
        return result

    async def _end(self) -> None:
        """End its task, or see to it that it never begins."""
        if self._task is not None:
            with contextlib.suppress(Exception):  # Dask's client is closed without a scheduler
                await self.caller.here(self._task.cancel)
            if not self._lost:
                await self._say({"do": "end"})


def _words_of(error: Exception) -> str:
    """Return why there is no result of a task."""
    text = " ".join(str(error).split())
    if "scheduler-connection-lost" in text:
        return "the scheduler is gone"
    return f"its task failed ({type(error).__name__}: {text:.100})"


async def call_the_roll(caller: Caller, members: Sequence[Member]) -> NoReturn:
    """Twice a second, until cancelled, lose those that the scheduler has no more."""
    while True:
        await trio.sleep(_ROLL)  # a machine is asked: it cannot call
        present = set[str]()
        how = "the scheduler has lost it"
        try:
            with trio.fail_after(SILENCE):
                present = set(await caller.addresses())
        except trio.TooSlowError:
            how = f"the scheduler has been silent for {SILENCE:g} s"
        except Exception as error:  # noqa: BLE001  -- whatever Dask raises then
            how = f"the scheduler is gone ({type(error).__name__})"
        for each in members:
            if each.machine.address not in present:
                each.lose(how)
