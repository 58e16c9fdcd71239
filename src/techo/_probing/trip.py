"""Trips: one message there and back, what becomes of it, and where that is reported."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol

import attrs

from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import nanoseconds

if TYPE_CHECKING:  # the command line's help has this file's words, and does not wait for trio
    from techo._kernel.packets import Packet
    from techo._transport.connect import Connected


class Clock(enum.StrEnum):
    """Which clock a trip was timed by."""

    KERNEL = "kernel"
    """The kernel's: from when the message left this machine to when its reply had come."""
    USER = "user"
    """This program's, read when it sent the message and when it had received the reply."""


class TripState(enum.Enum):
    """What has become of a trip."""

    IN_FLIGHT = enum.auto()
    """It was not answered yet, and there is time."""
    ANSWERED = enum.auto()
    """All of it came back in time, for the first time; it may have been taken for lost before,
    because something else that resembled it had come, and then it has an `ending`."""
    LOST = enum.auto()
    """It failed; `Trip.ending` is why."""
    LATE = enum.auto()
    """It was lost, and then came back whole."""
    DUPLICATE = enum.auto()
    """It came back whole once more."""


@attrs.frozen
class Ending:
    """Why a trip or a connection is over, or why there is no connection."""

    cause: FailureCause
    reason: str
    """The cause in words."""
    error: Exception | None = None
    """What was raised, if anything was."""


@attrs.define(eq=False)
class Trip:
    """One message, and what is known of its way there and back. Times are the run's clock."""

    number: int
    """From 1, in the order in which they were due."""
    payload: bytes
    due: float
    """When it should have been sent, in seconds."""
    sent: float
    """When it was, in seconds; if it could not be, when it was due."""
    state: TripState = TripState.IN_FLIGHT
    arrived: float = 0.0
    """When it came back last, in seconds."""
    ending: Ending | None = None
    """Why it was lost, if it was."""
    sent_ns: int | None = None
    """When the kernel sent it, in Unix time; None if it has not said so."""
    kernel_ns: int | None = None
    """How long it took by the kernel's clock; None if it was not timed by that."""
    packet: Packet | None = None
    """What its reply came in, or the end of that, if it was timed by the kernel."""

    @property
    def clock(self) -> Clock:
        """Which clock it was timed by."""
        return Clock.USER if self.kernel_ns is None else Clock.KERNEL

    @property
    def user_ns(self) -> int:
        """How long it took by the user's clock."""
        return nanoseconds(self.arrived - self.sent)

    @property
    def duration_ns(self) -> int:
        """How long it took, by its clock."""
        return self.user_ns if self.kernel_ns is None else self.kernel_ns


class IncidentKind(enum.Enum):
    """What happened other than to a trip, or besides it."""

    STRAY = enum.auto()
    """A message came that belongs to no trip, and harms none."""
    FORGOTTEN = enum.auto()
    """One of ours came back so late that nothing else is known of it."""
    HARMED = enum.auto()
    """A trip that was just lost came back altered."""
    NO_CONNECTION = enum.auto()
    """An attempt to connect failed."""
    BROKEN = enum.auto()
    """A connection ended; the trips in flight over it were lost just before."""


@attrs.frozen
class Incident:
    """Something that happened other than to a trip, or besides it."""

    kind: IncidentKind
    cause: FailureCause
    reason: str
    """The cause in words."""
    error: Exception | None = None
    """What was raised, if anything was."""
    trips: int = 0
    """How many trips were lost by it."""


class Sink(Protocol):
    """Where results go. It is called in mid-turn: it must neither wait nor raise."""

    def add(self, trip: Trip) -> None:
        """Take in a trip whose state has just changed; it may change once more."""

    def note(self, incident: Incident) -> None:
        """Take in what happened other than to a trip."""

    def connected(self, connected: Connected, *, again: bool) -> None:
        """Take in that there is a connection, `again` if it follows one that ended."""
