"""Fault plans: what goes wrong in one test, and the hypothesis strategy that finds them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import attrs

from techo._faults import values
from techo._faults.text import write_fault
from techo._faults.values import DATAGRAMS, EVERYTHING, FAULTS, Fault
from techo._printable import did_you_mean, quoted
from techo._validation import COUNT, NATURAL, SECONDS_FROM_0, Requirement
from techo.endpoint import Endpoint, Kind

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_KINDS: Final[tuple[type[Fault], ...]] = (
    # What every network does now and then.
    values.Chunk,
    values.Delay,
    values.Throttle,
    values.SlowAccept,
    values.SlowClose,
    values.DropReply,
    values.DuplicateReply,
    values.ReorderReplies,
    # What it does when something breaks.
    values.Truncate,
    values.Reset,
    values.Stall,
    values.Refuse,
    values.CloseUnread,
    # What only a peer does that is wrong itself.
    values.HalfCloseFirst,
    values.NeverRead,
    values.IgnoreEnd,
    values.NeverHandshake,
    values.NoCloseNotify,
    values.ExpiredCertificate,
    values.WrongName,
    values.Lengthen,
    values.Corrupt,
)
"""The simplest first: what fails shrinks towards it."""

_NEAR: Final = 16
"""Bytes within which every other place is, because what is at the beginning breaks most."""

_OFTEN: Final = 2
"""How many times more what ends a connection is chosen: at every byte it is another fault."""

_RATES: Final = (1.0, 0.5, 0.1, 0.01)
"""The simplest first, which leaves nothing to chance."""

_DEEPEST: Final = 4
"""Replies that go before one that is held back."""

_SEEDS: Final = 2**16

_MILLISECOND: Final = 0.001

_MILLISECONDS: Final = Requirement(
    "a number of seconds from 0.001",
    lambda value: SECONDS_FROM_0.missing(value) is None and value >= _MILLISECOND,
)

_KIND: Final = Requirement("a kind of fault, such as Reset", _KINDS.__contains__)

_SEVERAL_KINDS: Final = Requirement(
    "a list of kinds of fault, such as [Reset]", lambda value: isinstance(value, Iterable)
)


def _as_tuple(faults: Iterable[Fault]) -> Any:
    return tuple(faults) if hasattr(faults, "__iter__") else faults  # which is refused


@attrs.frozen(repr=False)
class FaultPlan:
    """What goes wrong in one test.

    Give its fields to `open_server`, `open_memory_server` or `open_proxy`. For a client's own
    stream that is ``faulty(stream, *plan.upstream_faults, received=plan.faults)``. Its repr is
    the values as Python reads them back; `str()` is the same as options of the command line.

    Raises:
        ValueError: a field is of another kind, or out of range; the text names it.
    """

    faults: tuple[Fault, ...] = attrs.field(default=(), converter=_as_tuple, validator=FAULTS)
    """What goes wrong with what the client gets."""
    upstream_faults: tuple[Fault, ...] = attrs.field(
        default=(), converter=_as_tuple, validator=FAULTS, kw_only=True
    )
    """What goes wrong, behind a proxy, with what the target gets."""
    seed: int = attrs.field(default=0, validator=NATURAL, kw_only=True)
    """What decides where there is chance."""

    def command_line(
        self,
        listen: Endpoint | str | None = None,
        target: Endpoint | str | None = None,
    ) -> str:
        """Return the command that does the same over sockets, quoted for a shell.

        With a `target` it is ``techo proxy``, which passes on to that what comes at `listen`;
        without one it is ``techo``, the echo server, which sends back every byte unchanged but
        for the faults, as the servers of the fixtures do.

        Raises:
            ValueError: there are `upstream_faults` and no target, or a target and nowhere to
                listen.
        """
        if target is None and self.upstream_faults:
            raise ValueError("upstream_faults are a proxy's: name listen and target")
        if target is not None and listen is None:
            raise ValueError(f"a proxy to {target} needs listen, where it listens")
        places = [str(place) for place in (listen, target) if place is not None]
        command = ["techo", "--reply=raw"] if target is None else ["techo", "proxy"]
        return shlex.join([*command, *self._options(), *places])

    def __str__(self) -> str:
        return shlex.join(self._options())

    def __repr__(self) -> str:
        shown = [
            f"{name}=({', '.join(map(repr, faults))}{',' * (len(faults) == 1)})"
            for name, faults in self._directions()
            if faults
        ]
        shown += [f"seed={self.seed}"] * bool(self.seed)
        return f"FaultPlan({', '.join(shown)})"

    def _repr_pretty_(self, printer: Any, _cycle: object) -> None:
        """Print it as `repr` does; hypothesis and IPython ask for this first."""
        printer.text(repr(self))

    def _directions(self) -> tuple[tuple[str, tuple[Fault, ...]], ...]:
        return ("faults", self.faults), ("upstream_faults", self.upstream_faults)

    def _options(self) -> list[str]:
        return [
            *(f"--fault={write_fault(fault)}" for fault in self.faults),
            *(f"--upstream-fault={write_fault(fault)}" for fault in self.upstream_faults),
            *([f"--seed={self.seed}"] * bool(self.seed)),
        ]


def fault_plans(
    transport: Endpoint | str = "memory",
    *kinds: type[Fault],
    without: Iterable[type[Fault]] = (),
    max_faults: int = 3,
    max_upstream_faults: int = 0,
    max_bytes: int = 1000,
    max_seconds: float = 60.0,
    connections: int = 1,
) -> SearchStrategy[FaultPlan]:
    """Return a hypothesis strategy of the plans that fit a transport.

    `transport` is ``memory``, a kind of endpoint such as ``tcp``, or an endpoint. Only faults
    of the `kinds` are chosen, by default of all that can happen there, and none of those in
    `without`. There are at most `max_faults` (3) and `max_upstream_faults` (0) of them. Sizes
    and offsets are up to `max_bytes` (1,000 bytes), times up to `max_seconds` (60 s), in whole
    milliseconds. A test that makes several `connections` (1), or sends several datagrams, says
    how many: then faults may happen to some of them only, by `first`, `skip` and `every`.

    What fails shrinks to as few faults and numbers as possible, to the ordinary before the
    strange, to offset 0 and small values. The plan that is left is reported as Python's values
    and as command lines that repeat it over sockets.

    Raises:
        ImportError: hypothesis is not installed, which the extra `testing` brings.
        ValueError: a kind cannot happen on the transport, or a number is out of range.
    """
    NATURAL.check(max_faults=max_faults, max_upstream_faults=max_upstream_faults)
    COUNT.check(max_bytes=max_bytes, connections=connections)
    _MILLISECONDS.check(max_seconds=max_seconds)
    _SEVERAL_KINDS.check(without=without)
    kind = _transport_of(transport)
    return _Strategies(kind, max_bytes, max_seconds, connections).plans(
        _chosen(kind, kinds, tuple(without)), max_faults, max_upstream_faults
    )


def _transport_of(transport: Endpoint | str) -> str:
    if isinstance(transport, str) and ":" not in transport:
        known = [*Kind, "memory"]
        if transport not in known:
            near = did_you_mean(transport, known) or f"; there are {', '.join(known)}"
            raise ValueError(f"unknown transport {quoted(transport)}{near}")
        name = transport
    else:
        name = Endpoint.parse(str(transport)).kind.value
    if name not in EVERYTHING:
        able = ", ".join(sorted(EVERYTHING))
        raise ValueError(f"faults can't happen on transport {name}: there are {able}")
    return name


def _chosen(
    transport: str, wanted: tuple[type[Fault], ...], unwanted: tuple[type[Fault], ...]
) -> list[type[Fault]]:
    """Return the kinds of fault to choose from, the simplest first."""
    for kind in unwanted:
        _KIND.check(without=kind)
    for kind in wanted:
        _KIND.check(kinds=kind)
        if transport not in kind.transports:
            able = ", ".join(sorted(kind.transports))
            raise ValueError(f"{kind.__name__} cannot happen on {transport}, only on {able}")
    fitting = [kind for kind in _KINDS if transport in kind.transports]
    chosen = [kind for kind in fitting if kind in (wanted or fitting) and kind not in unwanted]
    if not chosen:
        raise ValueError("no kind of fault is left: name fewer in without")
    return chosen


@attrs.frozen
class _Strategies:
    """Strategies of faults and of their fields, within bounds."""

    transport: str
    max_bytes: int
    max_seconds: float
    connections: int
    st: Any = attrs.field(init=False)
    """The module `hypothesis.strategies`."""

    @st.default
    def _import(self) -> Any:
        try:
            from hypothesis import strategies  # noqa: PLC0415  -- nothing else needs it
        except ModuleNotFoundError:
            raise ImportError(
                "fault_plans needs hypothesis: install it, or techo with its extra testing"
            ) from None
        return strategies

    def plans(
        self, kinds: list[type[Fault]], most: int, most_upstream: int
    ) -> SearchStrategy[FaultPlan]:
        """Return that of plans; what fails is reported as command lines, too."""
        often = [kind for kind in kinds if "after" in attrs.fields_dict(kind)]
        fault = self.st.one_of(*map(self._faults, [*kinds, *often * _OFTEN]))

        def lists(most: int) -> Any:
            # One alone shows what several would hide from each other.
            return self.st.lists(fault, max_size=min(1, most)) | self.st.lists(
                fault, max_size=most
            )

        found: SearchStrategy[FaultPlan] = self.st.tuples(
            lists(most),
            lists(most_upstream),
            self.st.integers(0, _SEEDS - 1),
        ).map(_planned)
        return found

    def _faults(self, kind: type[Fault]) -> Any:
        """Return that of the faults of a kind."""
        known = self._fields()
        names = [each.name for each in attrs.fields(kind) if each.name in known]
        # What ends a connection has its place in `after`.
        if not kind.has_offset or self.transport in DATAGRAMS or "after" in names:
            names.remove("offset")
        return self.st.builds(
            _make, self.st.just(kind), **{name: known[name] for name in names}
        )

    def _fields(self) -> dict[str, Any]:
        st = self.st
        return {
            "after": self._sizes(0),
            "by": self._sizes(1),
            "bytes_per_second": self._sizes(1),
            "depth": st.integers(1, _DEEPEST),
            "jitter": self._times(0),
            "least": self._sizes(1),
            "most": st.just(0) | self._sizes(0),
            "rate": st.sampled_from(_RATES),
            "seconds": self._times(1),
            "offset": self._sizes(0),
            **self._turns(),
        }

    def _turns(self) -> dict[str, Any]:
        """Return those of the fields that say to which connections a fault happens."""
        st, most = self.st, self.connections
        if most == 1:
            return {}
        return {
            "every": st.integers(1, most),
            "first": st.none() | st.integers(1, most),
            "skip": st.integers(0, most - 1),
        }

    def _sizes(self, least: int) -> Any:
        near = self.st.integers(least, max(least, min(_NEAR, self.max_bytes)))
        return near | self.st.integers(least, self.max_bytes)

    def _times(self, least: int) -> Any:
        most = int(self.max_seconds * 1000)
        return self.st.integers(least, most).map(lambda count: count / 1000)


def _make(kind: type[Fault], **fields: Any) -> Fault:
    if "most" in fields:  # drawn as what it is more than the least
        fields["most"] += fields["least"]
    return kind(**fields)


def _planned(drawn: tuple[list[Fault], list[Fault], int]) -> FaultPlan:
    from hypothesis import note  # noqa: PLC0415  -- as above

    plan = FaultPlan(drawn[0], upstream_faults=drawn[1], seed=drawn[2])
    if plan.faults and not plan.upstream_faults:
        note(f"An echo server that does the same: {plan.command_line()}")
    if plan.faults or plan.upstream_faults:
        note(f"A proxy to your server: {plan.command_line('LISTEN', 'TARGET')}")
    return plan
