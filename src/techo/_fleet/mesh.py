"""A mesh by a fleet: every machine serves, and probes all the others."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import attrs
import trio

from techo._fleet import post
from techo._fleet.machines import (
    SILENCE,
    Caller,
    Client,
    Clock,
    FleetError,
    Machine,
    beginning,
    call_the_roll,
    check_versions,
    chosen,
    clock_of,
)
from techo._fleet.post import PostOrder
from techo._mesh.report import Mesh, MeshMachine, MeshPair
from techo._nursery import first_of, open_bare_nursery
from techo._printable import printable
from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import Histogram
from techo._probing.payloads import SIZE
from techo._validation import COUNT, SECONDS_ABOVE_0

_ASKED_SOON: Final = 0.1
"""Seconds between two questions to a machine until all have begun, ..."""

_ASKED: Final = 0.4
"""... and after that."""

_START: Final = 30.0
"""Seconds that a machine has to begin with its task."""

_SILENCE_AFTER_STOP: Final = 2.0
"""Seconds without a word after which a machine is taken for dead once all were stopped."""

_LOOKS: Final = 0.25
"""Seconds between two looks at how long each has been silent."""

_LAST_WORD: Final = 2.0
"""Seconds in which machines are told that all is over."""

_LEAD: Final = 0.3
"""Seconds from the decision to the beginning, besides what calls take."""

_BETWEEN: Final = 0.5
"""Seconds between two turns, in which connections are closed and opened."""


async def mesh(
    client: Client,
    *,
    machines: int | None = None,
    count: int = 100,
    interval: float = 0.1,
    timeout: float = 1.0,  # noqa: ASYNC109  -- of each reply, not of the call
    size: int = 64,
    in_turns: bool = False,
    stop: trio.Event | None = None,
) -> Mesh:
    """Have all workers of a Dask cluster, or so many `machines`, probe each other.

    `client` is a `distributed.Client` that is not asynchronous. Each machine serves on its own
    address, lets in the machines alone, and probes all the others at once: `count` probes of
    `size` bytes to each, one every `interval` seconds. `in_turns`, it probes one at a time.
    The servers end with the call. A machine that dies is named; the others go on. Setting
    `stop` ends it with what there is.

    Raises:
        FleetError: there are not so many machines, or only one, or one has another version of
            techo; the text has the remedy.
        ValueError: an argument makes no sense; the text names it and its value.
    """
    COUNT.check(count=count)
    SECONDS_ABOVE_0.check(interval=interval, timeout=timeout)
    SIZE.check(size=size)
    caller = Caller(client)
    found = await chosen(caller, machines)
    if len(found) == 1:
        raise FleetError(
            "a mesh takes two machines or more, and this is one: start more workers, or ask "
            "for more"
        )
    await check_versions(caller, found)
    run = uuid.uuid4().hex
    members = [
        _Member(
            caller,
            machine,
            PostOrder(
                run=f"{run}-{number}",
                host=machine.host,
                allow=tuple(dict.fromkeys(each.host for each in found)),
                count=count,
                interval=interval,
                timeout=timeout,
                size=size,
            ),
        )
        for number, machine in enumerate(found)
    ]
    turn = count * interval + timeout + _BETWEEN if in_turns else None
    return await _Run(caller, members, turn, trio.Event() if stop is None else stop).run()


@attrs.define(eq=False)
class _Member:
    """One machine, and its post."""

    caller: Caller
    machine: Machine
    order: PostOrder
    clock: Clock | None = None
    """None until it was measured."""
    endpoint: str | None = None
    """Where it serves; None until it does."""
    found: Mapping[int, str] = attrs.field(factory=dict)
    """What it has reported, by the number of the machine that it has probed."""
    died: str | None = None
    ready: trio.Event = attrs.field(factory=trio.Event)
    """Set when it serves, or is lost."""
    over: trio.Event = attrs.field(factory=trio.Event)
    """Set when it has probed all, or is lost."""
    _task: Any = None
    """What Dask calls a future; None until it was submitted."""
    _heard: float = attrs.field(factory=trio.current_time)
    """When it has answered last."""

    def lose(self, how: str) -> None:
        """Note that nothing more can come from it, unless all has."""
        if not self.over.is_set():
            self.died = printable(how)
            self.ready.set()
            self.over.set()

    async def follow(self) -> None:
        """Have it serve, and ask it what it has found, until it is over or lost."""
        try:
            with trio.fail_after(SILENCE):
                self.clock = await clock_of(self.caller, self.machine)
                await self._submit()
        except trio.TooSlowError:
            self.lose(f"no word from it for {SILENCE:g} s")
            return
        except Exception as error:  # noqa: BLE001  -- whatever Dask raises
            self.lose(f"it cannot be reached ({type(error).__name__})")
            return
        submitted = trio.current_time()
        while not self.over.is_set():
            await self._ask(submitted)
            await trio.sleep(_ASKED if self.ready.is_set() else _ASKED_SOON)

    async def _submit(self) -> None:
        self._task = await self.caller.here(
            self.caller.client.submit,
            post.hold,
            self.order.to_json(),
            key=f"techo-mesh-{self.order.run}",
            workers=[self.machine.address],
            allow_other_workers=False,
            pure=False,
            retries=0,
        )

    async def _ask(self, submitted: float) -> None:
        found: dict[str, Any] | None = None
        try:
            with trio.move_on_after(SILENCE):
                found = await self.caller.there(self.machine, post.ask, self.order.run)
        except Exception:  # noqa: BLE001  -- whatever Dask raises; it counts as silence
            found = None
        now = trio.current_time()
        if found:
            self._take(found)
        if found is not None:
            self._heard = now
        if self._task.done() and not self.over.is_set():
            await self._note_end()
        elif found == {} and now > submitted + _START:
            self.lose(f"its task did not begin within {_START:g} s: it may be busy")
        elif now >= self._heard + SILENCE:
            self.lose(f"no word from it for {now - self._heard:.0f} s")

    def lose_if_silent(self, stopped: float) -> None:
        """Wait no longer for one that has said nothing since all were stopped."""
        now = trio.current_time()
        if now >= max(self._heard, stopped) + _SILENCE_AFTER_STOP:
            self.lose(f"no word from it for {now - self._heard:.0f} s")

    def _take(self, found: Mapping[str, Any]) -> None:
        self.found = found["found"]
        if found["endpoint"] is not None:
            self.endpoint = found["endpoint"]
            self.ready.set()
        if found["over"]:
            self.over.set()

    async def _note_end(self) -> None:
        """Note why its task has ended, which it should not have."""
        try:
            result = await self.caller.here(self._task.result)
        except Exception as error:  # noqa: BLE001  -- a bug there, or Dask's own
            text = " ".join(str(error).split())
            self.lose(f"its task failed ({type(error).__name__}: {text:.100})")
        else:
            why = result["failure"] or "nobody seemed to ask any more"
            self.lose(f"it cannot serve on {self.machine.host} ({why})")

    async def tell(self, message: Mapping[str, Any]) -> None:
        """Say something to its post; one that cannot be reached is lost."""
        try:
            await self.caller.there(self.machine, post.tell, self.order.run, message)
        except Exception as error:  # noqa: BLE001  -- whatever Dask raises
            self.lose(f"it cannot be reached ({type(error).__name__})")

    async def end(self) -> None:
        """End its post, or see to it that it never begins."""
        await self.tell({"do": "end"})
        if self._task is not None:
            await self.caller.here(self._task.cancel)


@attrs.define(eq=False)
class _Run:
    """One mesh, from the first call to the report."""

    caller: Caller
    members: Sequence[_Member]
    turn: float | None
    """Seconds that each turn takes; None for all at once."""
    stop: trio.Event

    async def run(self) -> Mesh:
        try:
            async with open_bare_nursery() as nursery:
                nursery.start_soon(call_the_roll, self.caller, self._lose_absent)
                nursery.start_soon(self._note_stop)
                for each in self.members:
                    nursery.start_soon(each.follow)
                for each in self.members:
                    await each.ready.wait()
                self._begin(nursery)
                for each in self.members:
                    await each.over.wait()
                nursery.cancel_scope.cancel(reason="the mesh is over")
        except ExceptionGroup as group:
            raise first_of(group) from None
        finally:
            with trio.move_on_after(_LAST_WORD, shield=True):
                async with trio.open_nursery() as nursery:
                    for each in self.members:
                        nursery.start_soon(each.end)
        return self._report()

    def _begin(self, nursery: trio.Nursery) -> None:
        """Say to each machine whom to probe, and when; wait for none to hear of it."""
        at = beginning([each.clock for each in self.members], _LEAD)
        for number, each in enumerate(self.members):
            if each.died is None and each.clock is not None:
                turns = self._turns(number, at + each.clock.monotonic)
                nursery.start_soon(each.tell, {"do": "begin", "turns": turns})

    def _turns(self, number: int, at: float) -> list[list[Any]]:
        """Return when one machine is to probe which: in each turn each probes another one."""
        size = len(self.members)
        turns = list[list[Any]]()
        for step in range(1, size):
            other = (number + step) % size
            endpoint = self.members[other].endpoint
            if endpoint is not None and self.members[other].died is None:
                turns.append([at + (self.turn or 0.0) * (step - 1), other, endpoint])
        return turns

    async def _note_stop(self) -> None:
        await self.stop.wait()
        stopped = trio.current_time()
        async with trio.open_nursery() as nursery:
            for each in self.members:
                nursery.start_soon(each.tell, {"do": "stop"})
            while True:  # until all is over
                await trio.sleep(_LOOKS)
                for each in self.members:
                    each.lose_if_silent(stopped)

    def _lose_absent(self, present: Collection[str], how: str) -> None:
        for each in self.members:
            if each.machine.address not in present:
                each.lose(how)

    def _report(self) -> Mesh:
        machines = [
            MeshMachine(name=each.machine.name, endpoint=each.endpoint, died=each.died)
            for each in self.members
        ]
        pairs = [
            _pair(source, target, source.found.get(number))
            for source in self.members
            for number, target in enumerate(self.members)
            if source is not target
        ]
        return Mesh(machines=machines, pairs=pairs, in_turns=self.turn is not None)


def _pair(source: _Member, target: _Member, text: str | None) -> MeshPair:
    pair = MeshPair(source=source.machine.name, target=target.machine.name)
    if text is None:
        return pair
    found: dict[str, Any] = json.loads(text)
    found["failures"] = {FailureCause(name): each for name, each in found["failures"].items()}
    found["latency"] = Histogram.from_json(found["latency"])
    return attrs.evolve(pair, **found)
