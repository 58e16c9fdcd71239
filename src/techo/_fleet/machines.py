"""Machines: the workers that a scheduler knows, and how they are called."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import urlsplit

import attrs
import trio

from techo._fleet import work

T = TypeVar("T")

_TURNS: Final = 8
"""Times a machine's clocks are asked for: the fastest answer tells most; and names, at most."""

SILENCE: Final = 15.0
"""Seconds without a word after which a machine is taken for dead."""

FIRST_ANSWER: Final = 30.0
"""Seconds that a machine has to answer for the first time, for which it imports techo."""

_HALF_CALLS: Final = 10
"""Times that half a call takes, in which a machine should have heard of a beginning."""

_CALLS: Final = 100
"""Calls at the same time; each has a thread."""


class Client(Protocol):
    """What is used of `distributed.Client`, one that is not asynchronous."""

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function on workers."""

    def submit(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Have a task run on a worker."""

    def nthreads(self) -> Any:
        """Return the addresses of all workers, and how many threads each has."""

    def scheduler_info(self, n_workers: int) -> Any:
        """Return what the scheduler knows of so many of its workers; of all for -1."""


class FleetError(Exception):
    """A load by a fleet cannot begin; the text says why, and has the remedy."""


@attrs.frozen
class Clock:
    """How another machine's clocks stand, seen from here."""

    offset: float
    """Its Unix time less ours, in seconds."""
    monotonic: float
    """Its CLOCK_MONOTONIC less ours."""
    error: float
    """By how much both may be wrong at most: half of the time that the question took."""


@attrs.frozen
class Machine:
    """One worker, which has a share."""

    address: str
    """As the scheduler knows it."""
    host: str
    name: str
    """As reports call it."""

    @classmethod
    def of(cls, address: str, name: str) -> Machine:
        """Return a worker that has a name of its own, unless that is its address."""
        where = address.partition("://")[2]
        shown = where if name in (address, "") else f"{name} ({where})"
        return cls(address, urlsplit(address).hostname or "", shown)


@attrs.define(eq=False)
class Caller:
    """Calls functions on machines, each in a thread that a cancellation abandons."""

    client: Client
    _limiter: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(_CALLS))

    async def here(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call a function of the client's, which blocks."""
        return await trio.to_thread.run_sync(
            functools.partial(function, *args, **kwargs),
            abandon_on_cancel=True,
            limiter=self._limiter,
        )

    async def there(self, machine: Machine, function: Callable[..., T], *args: Any) -> T:
        """Call a function of `work` on a machine.

        Raises:
            Exception: what it raised there, or that the machine cannot be reached.
        """
        address = machine.address
        found = await self.here(self.client.run, function, *args, workers=[address])
        result: T = found[address]
        return result

    async def addresses(self) -> list[str]:
        """Return where the machines are that there are now."""
        # Not from `scheduler_info`: the client refreshes that in the background, without the
        # workers, and may do so between the answer and its return.
        return list(await self.here(self.client.nthreads))

    async def machines(self) -> list[Machine]:
        """Return the machines that there are now, in the order of their addresses.

        They go by their names if these can be had.
        """
        addresses = sorted(await self.addresses())
        names = dict[str, str]()
        for _ in range(_TURNS):
            # Some releases tell of five workers unless all are asked for.
            info = await self.here(self.client.scheduler_info, n_workers=-1)
            names |= {address: str(each["name"]) for address, each in info["workers"].items()}
            if names.keys() >= set(addresses):
                break
        return [Machine.of(address, names.get(address, address)) for address in addresses]


async def chosen(caller: Caller, count: int | None) -> list[Machine]:
    """Return so many machines, the first by address, or all.

    Raises:
        FleetError: there are not so many.
    """
    found = await caller.machines()
    if not found:
        raise FleetError("the scheduler has no workers: start some (dask worker SCHEDULER)")
    if count is not None and count > len(found):
        raise FleetError(
            f"{count} machines are wanted, and the scheduler has {len(found)}: start more "
            "workers, or ask for fewer"
        )
    return found[:count]


async def check_versions(caller: Caller, machines: Sequence[Machine]) -> None:
    """Refuse machines whose techo is another version.

    Raises:
        FleetError: it names the first of them, and both versions; or one does not answer.
    """
    ours = work.hello()
    theirs = dict[str, str]()

    async def check(machine: Machine) -> None:
        try:
            with trio.move_on_after(FIRST_ANSWER):
                theirs[machine.name] = await caller.there(machine, work.hello)
        except Exception as error:  # noqa: BLE001  -- whatever an unknown version raises
            what = f"{type(error).__name__}: {error}"
            theirs[machine.name] = f"none that answers ({what:.120})"

    async with trio.open_nursery() as nursery:
        for each in machines:
            nursery.start_soon(check, each)
    for machine in machines:
        version = theirs.get(machine.name)
        if version is None:
            raise FleetError(
                f"machine {machine.name} has not answered within {FIRST_ANSWER:g} s, as it "
                "stands still or is too busy: start its worker again"
            )
        if version != ours:
            raise FleetError(
                f"machine {machine.name} has techo {version}, and this one has techo {ours}: "
                "install the same version everywhere"
            )


async def clock_of(caller: Caller, machine: Machine) -> Clock:
    """Measure how a machine's clocks stand."""
    found = [await _ask_clocks(caller, machine) for _ in range(_TURNS)]
    return min(found, key=lambda clock: clock.error)


async def _ask_clocks(caller: Caller, machine: Machine) -> Clock:
    before, monotonic_before = work.clocks()
    theirs, monotonic = await caller.there(machine, work.clocks)
    after, monotonic_after = work.clocks()
    error = (monotonic_after - monotonic_before) / 2
    return Clock(
        offset=theirs - (before + after) / 2,
        monotonic=monotonic - (monotonic_before + monotonic_after) / 2,
        error=error,
    )


def beginning(clocks: Iterable[Clock | None], lead: float) -> float:
    """Return when machines of these clocks can begin together, in this CLOCK_MONOTONIC.

    That is in `lead` seconds and as long as calls take, so that each has heard of it by then.
    """
    errors = [each.error for each in clocks if each is not None]
    return time.monotonic() + lead + _HALF_CALLS * max(errors, default=0.0)
