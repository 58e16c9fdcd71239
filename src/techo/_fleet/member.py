"""A member of a fleet that loads: one machine, its share, and what goes between it and us."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from typing import Any, Final

import attrs
import trio

from techo._fleet import work
from techo._fleet.machines import SILENCE, Caller, Clock, Machine, clock_of
from techo._fleet.order import Order
from techo._load.report import LoadReport
from techo._load.together import Share, Together
from techo._printable import printable

_ASKED: Final = 0.4
"""Seconds between two questions to a machine: at each other report that a load makes, ..."""

_AFTER: Final = 0.1
"""... and so long after it, so that all machines answer with reports of the same moment."""

_ASKED_SOON: Final = 0.1
"""Seconds between two questions until they have begun."""

_START: Final = 30.0
"""Seconds that a machine has to begin with its task."""

_SILENCE_AFTER_STOP: Final = 2.0
"""The same once all were stopped."""

_LOOKS: Final = 0.25
"""Seconds between two looks at how long it has been silent."""

_LAST_WORD: Final = 1.0
"""Seconds that the last message to a machine may take: that all is over."""


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


@attrs.define(eq=False)
class Member:
    """One machine, and its share."""

    caller: Caller
    machine: Machine
    order: Order
    head_start: float
    """Seconds that it begins after the first."""
    share: Share
    together: Together
    agreement: Agreement
    clock: Clock | None = None
    """None until it was measured."""
    _task: Any = None
    """What Dask calls a future; None until it was submitted."""
    _lost: str = ""
    """Why nothing more can come from it, if it has not reported its end."""
    _ended: trio.Event = attrs.field(factory=trio.Event)
    _heard: float = attrs.field(factory=trio.current_time)
    """When it has answered last."""

    def lose(self, how: str) -> None:
        """Note that nothing more can come from it."""
        self._lost = self._lost or how
        self._ended.set()

    async def run(self) -> None:
        """Have it do its share, until that is over or the machine is lost.

        Cancellation ends the share at once.

        Raises:
            ValueError: it refuses what it is asked for; the text is why.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._note_silence)
                nursery.start_soon(self._carry_out)
                await self._ended.wait()
                nursery.cancel_scope.cancel(reason="it is over, or lost")
        finally:
            if not self._ended.is_set():
                with trio.move_on_after(_LAST_WORD, shield=True):
                    await self._tell({"do": "abort"})
        await self._take_result()

    async def _carry_out(self) -> None:
        try:
            self.clock = await clock_of(self.caller, self.machine)
            self.share.clock = self.clock.offset, self.clock.error
            await self._submit()
        except Exception as error:  # noqa: BLE001  -- whatever Dask raises
            self.lose(f"it cannot be reached ({type(error).__name__})")
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ask)
            nursery.start_soon(self._begin)
            nursery.start_soon(self._stop)

    async def _submit(self) -> None:
        token = trio.lowlevel.current_trio_token()

        def wake(_task: Any) -> None:
            with contextlib.suppress(trio.RunFinishedError):  # a thread of Dask's calls this
                token.run_sync_soon(self._ended.set)

        self._task = await self.caller.here(
            self.caller.client.submit,
            work.carry_out_share,
            self.order.to_json(),
            key=f"techo-{self.order.run}",
            workers=[self.machine.address],
            allow_other_workers=False,
            pure=False,
            retries=0,
        )
        self._task.add_done_callback(wake)

    async def _ask(self) -> None:
        """Ask how far it is, again and again."""
        submitted = trio.current_time()
        while True:
            try:
                found = await self.caller.there(self.machine, work.ask, self.order.run)
            except Exception:  # noqa: BLE001  -- whatever Dask raises; it counts as silence
                found = None
            if found is not None:
                self._heard = trio.current_time()
                self._take(found)
            if found == {} and self._heard > submitted + _START:
                self.lose(f"its task did not begin within {_START:g} s: it may be busy")
            await trio.sleep(self.agreement.until_report())

    def _take(self, found: Mapping[str, Any]) -> None:
        if self.share.reached is None and found.get("reached") is not None:
            self.together.ready(self.share, reached=found["reached"])
        if found.get("report") is not None:
            self.together.take(self.share, _read(found["report"]))

    async def _note_silence(self) -> None:
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

    async def _begin(self) -> None:
        await self.agreement.decided.wait()
        at = self.agreement.begin
        if at is not None and self.clock is not None:
            at += self.clock.monotonic + self.head_start
        await self._tell({"do": "begin", "at": at})

    async def _stop(self) -> None:
        await self.agreement.stop.wait()
        await self._tell({"do": "stop"})

    async def _tell(self, message: Mapping[str, Any]) -> None:
        try:
            await self.caller.there(self.machine, work.tell, self.order.run, message)
        except Exception as error:  # noqa: BLE001  -- whatever Dask raises
            self.lose(f"it cannot be reached ({type(error).__name__})")

    async def _take_result(self) -> None:
        if not self._lost:
            try:
                result = await self.caller.here(self._task.result)
            except Exception as error:  # noqa: BLE001  -- a bug there, or Dask's own
                self._lost = _words_of(error)
            else:
                if "failure" in result:
                    raise ValueError(result["failure"])
                self._lost = result.get("died", "")
                if not self._lost:
                    self.together.take(self.share, _read(result["report"]), over=True)
                    return
        self.together.bury(self.share, printable(self._lost))
        if self._task is not None:
            with trio.move_on_after(_LAST_WORD):
                await self.caller.here(self._task.cancel)


def _words_of(error: Exception) -> str:
    """Return why there is no result of a task."""
    text = " ".join(str(error).split())
    if "scheduler-connection-lost" in text:
        return "the scheduler is gone"
    return f"its task failed ({type(error).__name__}: {text:.100})"


def _read(text: str) -> LoadReport:
    return LoadReport.from_json(json.loads(text))
