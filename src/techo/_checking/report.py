"""Reports: what was checked, how it came out, and what shows it."""

from __future__ import annotations

import enum

import attrs

from techo._client.comparison import EchoError
from techo.reply import Reply


class Verdict(enum.StrEnum):
    """How a check came out."""

    PASSED = "pass"
    FAILED = "fail"
    NOT_APPLICABLE = "not applicable"
    """It makes no sense there, was not wanted, or is undecided; the evidence says which."""


@attrs.frozen
class Check:
    """One rule, tried out on one service."""

    name: str
    """The same in every version and on every transport; `skip` takes it."""
    verdict: Verdict
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
    reply: Reply | None
    """`raw` or `stamped`, as it was asked for or found; None if nothing that came back told."""

    @property
    def failed(self) -> tuple[Check, ...]:
        """Those that failed."""
        return self.counted(Verdict.FAILED)

    @property
    def passed(self) -> bool:
        """Whether none failed."""
        return not self.failed

    def counted(self, verdict: Verdict) -> tuple[Check, ...]:
        """Give those that came out so."""
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
