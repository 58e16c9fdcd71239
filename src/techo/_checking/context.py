"""The context of a check: the service, what was counted, and the verdict with its evidence."""

from __future__ import annotations

import contextlib
import enum
import functools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Final, TypeAlias

import attrs
import trio

from techo._addresses import Address
from techo._client.comparison import EchoError, EchoMismatch
from techo._kernel.mptcp import MptcpPaths
from techo._kernel.options import DEFAULT_OPTIONS, SocketOptions
from techo._probing.causes import cause_of
from techo._probing.failure_cause import FailureCause
from techo._probing.multipath import Multipath
from techo._probing.text import number_of
from techo._tls.alerts import in_words
from techo._transport.transport import Transport
from techo.reply import Reply, raw, stamped

_CLOSE_TIMEOUT: Final = 0.5
"""Seconds that a connection may take to close before it is just dropped."""

_NETWORK: Final = (OSError, trio.BrokenResourceError)
"""What connections raise."""

_RETRY_DELAY: Final = 0.01
"""Seconds before connecting again to a Unix server whose queue is full for a moment."""


class Verdict(enum.StrEnum):
    """How a check came out."""

    PASSED = "pass"
    FAILED = "fail"
    NOT_APPLICABLE = "not applicable"
    """It makes no sense there, or is undecided; the evidence says which."""
    SKIPPED = "skipped"
    """It was not wanted."""
    NOT_TRIED = "not tried"
    """An earlier one, on which it depends, failed."""


@attrs.frozen
class Check:
    """One rule, tried out on one service."""

    name: str
    """The same in every version and on every transport; `skip` takes it."""
    verdict: Verdict
    """How it came out."""
    evidence: str
    """What was seen, in words."""
    sent: int = 0
    """Bytes."""
    received: int = 0
    """Bytes, stamps included."""
    offset: int | None = None
    """How many of the bytes sent had come back right where it differs; None if nothing does."""
    seconds: float = 0.0
    """How long the check took, in the run's clock."""


@attrs.frozen
class CheckReport:
    """All checks of one service, in the order in which they were done."""

    checks: tuple[Check, ...]
    """All of them, in the order in which they were made."""
    reply: Reply | None
    """`raw` or `stamped`, as it was asked for or found; None if no reply showed it."""
    mptcp: MptcpPaths | None = None
    """What the connections became, if they were to be MPTCP; None if they were not."""

    @property
    def failed(self) -> tuple[Check, ...]:
        """Those that failed."""
        return self.counted(Verdict.FAILED)

    @property
    def passed(self) -> bool:
        """Whether none failed."""
        return not self.failed

    def counted(self, verdict: Verdict) -> tuple[Check, ...]:
        """Return those that came out so."""
        return tuple(each for each in self.checks if each.verdict is verdict)


class EchoServiceError(EchoError):
    """A service is not the echo service it should be."""

    def __init__(self, report: CheckReport) -> None:
        super().__init__(report)
        self.report = report
        """All of it, what passed included."""

    def __str__(self) -> str:
        failed = self.report.failed
        lines = [f"{len(failed)} of {len(self.report.checks)} checks of an echo service failed"]
        return "\n".join([*lines, *(f"  {each.name}: {each.evidence}" for each in failed)])


class FailedError(Exception):
    """The service broke the rule; the text is the evidence."""


class NotApplicableError(Exception):
    """There is nothing to be found out here; the text says why."""


@attrs.define(eq=False)
class Trace:
    """What a check has counted so far, which is reported even if its time runs out."""

    sent: int = 0
    received: int = 0
    offset: int | None = None


@attrs.frozen
class Place:
    """Where datagrams go, and come from."""

    family: int
    address: Address
    expected: Any
    """The address that answers should come from; it differs from the one to send to where the
    server has bound another spelling of its path."""
    largest: int
    """Bytes that fit into a datagram."""


@attrs.define(eq=False)
class Context:
    """The service that is checked, and what every check keeps to."""

    open: Callable[[], Awaitable[Transport]]
    """Opens a new connection to it, or a new socket for datagrams."""
    reply: Reply | None
    """What it should reply; None until that is found out."""
    patience: float
    """Seconds that a check may take."""
    connections: int
    """How many connections count as many."""
    options: SocketOptions = DEFAULT_OPTIONS
    """What is asked of each socket."""
    connectionless: bool = False
    """Whether the service is reached by datagrams."""
    multipath: Multipath = attrs.field(factory=Multipath)
    """What connections become that are to be MPTCP."""
    place: Place = attrs.field(init=False)
    """Where datagrams go: of a name's addresses, the one that has answered."""

    def found(self, *, stamps: int) -> None:
        """Take note of how many stamps stood in an echo that was right otherwise.

        Raises:
            FailedError: another reply is wanted, or was found before.
        """
        if self.reply is None:
            self.reply = stamped if stamps else raw
        if self.reply is raw and stamps:
            raise FailedError(f"the echo should be raw, and has {number_of(stamps, 'stamp')}")
        if self.reply is stamped and not stamps:
            raise FailedError("the echo has no stamp in it, and should have one")

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Transport]:
        """Connect for the length of a block; what does not close in time is dropped."""
        while True:
            try:
                transport = await self.open()
                break
            except BlockingIOError:
                await trio.sleep(_RETRY_DELAY)
        self.multipath.opened(transport)
        try:
            yield transport
        finally:
            self.multipath.closing(transport)
            with trio.move_on_after(_CLOSE_TIMEOUT, shield=True):
                await transport.aclose()


CheckFunction: TypeAlias = Callable[[Context, Trace], Awaitable[str]]
"""Does one check, and returns the evidence if it passes."""


async def carry_out(name: str, function: CheckFunction, context: Context) -> Check:
    """Do one check, for as long as the context allows.

    Raises:
        OSError: this machine has fallen short, which says nothing about the service.
        Exception: a bug.
    """
    trace = Trace()
    started = trio.current_time()
    verdict, evidence = Verdict.FAILED, ""
    # Outside of the scope: inside, an error in a group with Cancelled is no `Exception`.
    try:
        with trio.move_on_after(context.patience) as scope:
            evidence = await function(context, trace)
            verdict = Verdict.PASSED
    except NotApplicableError as reason:
        verdict, evidence = Verdict.NOT_APPLICABLE, str(reason)
    except Exception as error:  # noqa: BLE001  -- it is raised again if it is a bug
        evidence = evidence_of(error)
        if isinstance(error, EchoMismatch):
            trace.offset = error.offset
    if scope.cancelled_caught:
        evidence = (
            f"not done after {context.patience:g} s: {size_text(trace.sent)} sent, "
            f"{trace.received:,} received"
        )
    seconds = trio.current_time() - started
    return Check(name, verdict, evidence, trace.sent, trace.received, trace.offset, seconds)


def evidence_of(error: Exception) -> str:
    """Return what an error shows about the service; raise it if it is not about the service.

    Of several at once, what the first shows.
    """
    errors = list(_leaves(error))
    for each in errors:
        about_us = isinstance(each, _NETWORK) and cause_of(each) is FailureCause.LOCAL
        if about_us or not isinstance(each, (FailedError, EchoError, *_NETWORK)):
            raise each
    return describe(errors[0]) if isinstance(errors[0], _NETWORK) else str(errors[0])


def _leaves(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def describe(error: Exception) -> str:
    """Return in words what went wrong on the network."""
    if isinstance(error, trio.BrokenResourceError):
        below = error.__cause__
        words = in_words(below) if isinstance(below, ssl.SSLError) else below or error
        return f"the connection broke ({words})"
    return f"the system refused ({error})"


size_text: Final = functools.partial(number_of, what="byte")
"""Returns a number of bytes as text."""
