"""Events: the states of a target, what happens to it, and how JSON has that."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import attrs

from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import nanoseconds
from techo._schema import headed


class State(enum.StrEnum):
    """How a target is."""

    UNKNOWN = "unknown"
    """Too few probes are over to tell."""
    UP = "up"
    """It answers, and no rule fires."""
    DEGRADED = "degraded"
    """It answers, and a rule fires."""
    DOWN = "down"
    """It does not answer."""
    FLAPPING = "flapping"
    """It changes too often for each change to be told."""


class EventKind(enum.StrEnum):
    """What lasts for a while."""

    DOWN = "down"
    DEGRADED = "degraded"
    FLAPPING = "flapping"


@attrs.frozen(kw_only=True)
class Event:
    """Something that lasts for a while, or has lasted."""

    kind: EventKind
    """What it is."""
    since: float
    """When it began, in Unix time: if it is down, when the first lost probe was sent."""
    seconds: float | None = None
    """How long it lasted, whatever the wall clock did meanwhile; None while it goes on."""
    probes: int = 0
    """How many were lost meanwhile; of what goes on, until now."""
    cause: FailureCause | None = None
    """Of the last of these; None if nothing was lost."""
    first_error: str = ""
    """Why the first of these was lost, in words; or which rule fired, and what was found."""
    last_error: str = ""
    """The same of the last."""

    @property
    def until(self) -> float | None:
        """When it was over, in Unix time; None while it goes on."""
        return None if self.seconds is None else self.since + self.seconds

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it: whole nanoseconds where the name ends in _ns."""
        return {
            "kind": self.kind,
            "from_ns": nanoseconds(self.since),
            "to_ns": None if self.until is None else nanoseconds(self.until),
            "duration_ns": None if self.seconds is None else nanoseconds(self.seconds),
            "probes": self.probes,
            "cause": self.cause,
            "first_error": self.first_error,
            "last_error": self.last_error,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Event:
        """Read back what `to_json` returned."""
        seconds, cause = data["duration_ns"], data["cause"]
        return cls(
            kind=EventKind(data["kind"]),
            since=data["from_ns"] / 10**9,
            seconds=None if seconds is None else seconds / 10**9,
            probes=data["probes"],
            cause=None if cause is None else FailureCause(cause),
            first_error=data["first_error"],
            last_error=data["last_error"],
        )


@attrs.frozen(kw_only=True)
class Change:
    """A target has come into another state."""

    target: str
    """Its name."""
    group: str
    """What it belongs to; empty if to nothing."""
    labels: Mapping[str, str]
    """What else there is to say of it."""
    at: float
    """When that became clear, in Unix time."""
    before: State
    """The state that it was in."""
    state: State
    """The one that it is in now."""
    ended: Event | None = None
    """What is over by that."""
    began: Event | None = None
    """What goes on from then on."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it: whole nanoseconds where the name ends in _ns."""
        return headed(
            "change",
            target=self.target,
            group=self.group,
            labels=dict(self.labels),
            at_ns=nanoseconds(self.at),
            before=self.before,
            state=self.state,
            ended=None if self.ended is None else self.ended.to_json(),
            began=None if self.began is None else self.began.to_json(),
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Change:
        """Read back what `to_json` returned."""
        ended, began = data["ended"], data["began"]
        return cls(
            target=data["target"],
            group=data["group"],
            labels=data["labels"],
            at=data["at_ns"] / 10**9,
            before=State(data["before"]),
            state=State(data["state"]),
            ended=None if ended is None else Event.from_json(ended),
            began=None if began is None else Event.from_json(began),
        )
