"""A mesh by a fleet: every machine serves, and probes all the others."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

import attrs
import trio

from techo._fleet.machines import (
    Caller,
    Client,
    FleetError,
    Machine,
    beginning,
    check_versions,
    chosen,
)
from techo._fleet.member import Agreement, Member, call_the_roll
from techo._fleet.post import PostOrder, hold
from techo._mesh.report import Mesh, MeshMachine, MeshPair
from techo._nursery import first_of, open_bare_nursery
from techo._operate.processes import Message
from techo._printable import printable
from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import Histogram
from techo._probing.payloads import SIZE
from techo._validation import COUNT, SECONDS_ABOVE_0

_LEAD: Final = 0.3
"""Seconds from the decision to the beginning, besides what calls take."""

_WATCHED: Final = 0.4
"""Seconds between two reports to who watches."""

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
    watch: Callable[[Mesh], None] | None = None,
    stop: trio.Event | None = None,
) -> Mesh:
    """Have all workers of a Dask cluster probe each other.

    `client` is a `distributed.Client` that is not asynchronous; `machines` takes so many of its
    workers, the first by address, as text. Each serves on its own address, lets in the machines
    alone, and probes all the others at once: `count` probes of `size` bytes to each, one every
    `interval` seconds. `in_turns`, it probes one at a time. The servers end with the call. A
    machine that dies is named; the others go on. `watch` is called about twice a second, with
    what there is so far. Setting `stop` ends it with that.

    Raises:
        FleetError: there are not so many machines, or only one, or one has another version of
            techo, or a name that is unknown here; the text has the remedy.
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
    found = [attrs.evolve(each, host=await _address_of(each)) for each in found]
    turn = count * interval + timeout + _BETWEEN if in_turns else 0.0
    posts = list[_Post]()
    posts += [_Post(machine, number, turn, posts) for number, machine in enumerate(found)]
    run = uuid.uuid4().hex
    agreement = Agreement(trio.Event() if stop is None else stop)
    order = PostOrder(
        host="",
        allow=tuple(dict.fromkeys(each.host for each in found)),
        count=count,
        interval=interval,
        timeout=timeout,
        size=size,
    )
    members = [
        Member(
            caller=caller,
            machine=each.machine,
            kind=hold,
            run=f"{run}-{each.number}",
            order=attrs.evolve(order, host=each.machine.host).to_json(),
            part=each,
            agreement=agreement,
        )
        for each in posts
    ]
    return await _Run(caller, posts, members, agreement, watch, in_turns=in_turns).run()


async def _address_of(machine: Machine) -> str:
    """Return the address of a machine, which the scheduler may know by a name.

    A server lets in addresses, and probes come from one.
    """
    try:
        first, *_ = await trio.socket.getaddrinfo(machine.host, None)
    except OSError as error:
        raise FleetError(
            f"machine {machine.name} is unknown here ({error.strerror}): give its worker an "
            "address (--host), or this machine the name"
        ) from None
    return str(first[4][0])


@attrs.define(eq=False)
class _Post:
    """What one machine has of the mesh: it serves, and probes all the others."""

    machine: Machine
    number: int
    turn: float
    """Seconds that each turn takes; 0 for all at once."""
    posts: Sequence[_Post]
    """All of them, this one too."""
    endpoint: str | None = None
    """Where it serves; None until it does."""
    found: Mapping[int, Any] = attrs.field(factory=dict)
    """What it has reported, by the number of the machine that it has probed."""
    died: str | None = None
    ready: trio.Event = attrs.field(factory=trio.Event)
    """Set when it serves, or is lost."""
    ended: trio.Event = attrs.field(factory=trio.Event)
    """Set when it has probed all, or is lost."""

    @property
    def over(self) -> bool:
        return self.ended.is_set()

    def take(self, found: Mapping[str, Any]) -> None:
        self.found = found.get("found", {})
        self.endpoint = found.get("endpoint")
        if self.endpoint is not None:
            self.ready.set()
        if found.get("over"):
            self.ended.set()

    def begin(self, at: float | None) -> Message:
        """Return how to say whom to probe, and when: in each turn each probes another one."""
        turns = list[list[Any]]()
        if at is not None:
            others = [*self.posts[self.number + 1 :], *self.posts[: self.number]]
            for step, other in enumerate(others):
                if other.endpoint is not None and other.died is None:
                    turns.append([at + self.turn * step, other.number, other.endpoint])
        return {"do": "begin", "turns": turns}


@attrs.define(eq=False)
class _Run:
    """One mesh, from the first call to the report."""

    caller: Caller
    posts: Sequence[_Post]
    members: Sequence[Member]
    agreement: Agreement
    watch: Callable[[Mesh], None] | None
    in_turns: bool = attrs.field(kw_only=True)

    async def run(self) -> Mesh:
        """Have all probe, to the end, and return what they have found."""
        try:
            async with open_bare_nursery() as nursery:
                nursery.start_soon(call_the_roll, self.caller, self.members)
                if self.watch is not None:
                    nursery.start_soon(self._show, self.watch)
                for member, post in zip(self.members, self.posts, strict=True):
                    nursery.start_soon(self._follow, member, post)
                for post in self.posts:
                    await post.ready.wait()
                self.agreement.decide(beginning([each.clock for each in self.members], _LEAD))
                for post in self.posts:
                    await post.ended.wait()
                nursery.cancel_scope.cancel(reason="the mesh is over")
        except ExceptionGroup as group:
            raise first_of(group) from None
        return self._report()

    def _report(self) -> Mesh:
        """Return what there is so far."""
        machines = [
            MeshMachine(name=each.machine.name, endpoint=each.endpoint, died=each.died)
            for each in self.posts
        ]
        pairs = [
            _pair(source, target)
            for source in self.posts
            for target in self.posts
            if source is not target
        ]
        return Mesh(machines=machines, pairs=pairs, in_turns=self.in_turns)

    async def _show(self, watch: Callable[[Mesh], None]) -> NoReturn:
        while True:
            await trio.sleep(_WATCHED)  # so that who looks is not shown each reply
            watch(self._report())

    async def _follow(self, member: Member, post: _Post) -> None:
        """Have a machine hold its post; that it does so no more is its death."""
        result = await member.follow()
        why = result.get("failure", "nobody seemed to ask any more")
        died = f"it cannot serve on {post.machine.host} ({why})"
        if not post.over:
            post.died = result.get("died", printable(died))
            post.ready.set()
            post.ended.set()


def _pair(source: _Post, target: _Post) -> MeshPair:
    pair = MeshPair(source=source.machine.name, target=target.machine.name)
    if (found := source.found.get(target.number)) is None:
        return pair
    failures = {FailureCause(name): each for name, each in found["failures"].items()}
    latency = Histogram.from_json(found["latency"])
    return attrs.evolve(pair, **{**found, "failures": failures, "latency": latency})
