"""The subject: whom the checks are about, and what every one of them keeps to."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Generic, TypeAlias, TypeVar

import attrs
import trio

from techo._checking.report import Check, Verdict
from techo._client.comparison import EchoError, EchoMismatch
from techo._client.datagram_socket import DatagramSocket
from techo.reply import Reply, raw, stamped

_GOODBYE: Final = 0.5
"""Seconds that a connection may take to close before it is just dropped."""

_BEFORE_ASKING_AGAIN: Final = 0.01
"""Seconds; a Unix server's queue of those who want in is full only for a moment."""

LineT = TypeVar("LineT", bound=trio.abc.Stream | DatagramSocket)


class FailedError(Exception):
    """The service broke the rule; the text is the evidence."""


class NotApplicableError(Exception):
    """There is nothing to be found out here; the text says why."""


@attrs.define(eq=False)
class Trace:
    """What a check has come to so far: it is told even if its time runs out."""

    sent: int = 0
    received: int = 0
    offset: int | None = None


@attrs.define(eq=False)
class Subject(Generic[LineT]):
    """One service, and how patient to be with it."""

    open: Callable[[], Awaitable[LineT]]
    """Gives a fresh connection to it, or a fresh socket for datagrams."""
    reply: Reply | None
    """What it should say back; None until that is found out."""
    patience: float
    """Seconds that a check may take."""
    connections: int
    """How many count as many."""

    def found(self, *, stamps: int) -> None:
        """Say how many stamps stood in an echo that was right otherwise.

        Raises:
            FailedError: another reply is wanted, or was found before.
        """
        if self.reply is None:
            self.reply = stamped if stamps else raw
        if self.reply is raw and stamps:
            raise FailedError(f"the echo has {stamps} stamps in it, and should be raw")
        if self.reply is stamped and not stamps:
            raise FailedError("the echo has no stamp in it, and should have one")

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[LineT]:
        """Connect for the length of a block; who can't say goodbye in time is dropped."""
        while True:
            try:
                line = await self.open()
                break
            except BlockingIOError:
                await trio.sleep(_BEFORE_ASKING_AGAIN)
        try:
            yield line
        finally:
            with trio.move_on_after(_GOODBYE, shield=True):
                await line.aclose()


CheckFunction: TypeAlias = Callable[[Subject[LineT], Trace], Awaitable[str]]
"""Does one check, and gives the evidence if it passes."""


async def carry_out(
    name: str, function: CheckFunction[LineT], subject: Subject[LineT]
) -> Check:
    """Do one check, for as long as the subject deserves patience. Only a bug raises here."""
    trace = Trace()
    started = trio.current_time()
    verdict, evidence = Verdict.FAILED, ""
    with trio.move_on_after(subject.patience) as scope:
        try:
            evidence = await function(subject, trace)
            verdict = Verdict.PASSED
        except NotApplicableError as reason:
            verdict, evidence = Verdict.NOT_APPLICABLE, str(reason)
        except (FailedError, EchoError) as error:
            evidence = str(error)
            if isinstance(error, EchoMismatch):
                trace.offset = error.offset
        except (OSError, trio.BrokenResourceError) as error:
            evidence = why(error)
    if scope.cancelled_caught:
        evidence = (
            f"not done after {subject.patience:g} s: {told(trace.sent)} sent, "
            f"{trace.received:,} received"
        )
    seconds = trio.current_time() - started
    return Check(name, verdict, evidence, trace.sent, trace.received, trace.offset, seconds)


def why(error: Exception) -> str:
    """Say in words what went wrong on the network."""
    if isinstance(error, trio.BrokenResourceError):
        return f"the connection broke ({error.__cause__ or error})"
    return f"the system refused ({error})"


def told(count: int) -> str:
    """Write a number of bytes."""
    return f"{count:,} byte" + ("" if count == 1 else "s")
