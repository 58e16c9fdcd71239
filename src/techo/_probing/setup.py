"""Setting up: how long each step to a connection takes, and how long its certificate lasts."""

from __future__ import annotations

from typing import Final

import attrs

from techo._probing.histogram import Histogram, nanoseconds
from techo._tls.certificates import end_of
from techo._transport.connect import Connected

_STEPS: Final = ("lookup", "connect", "handshake")


@attrs.define(eq=False)
class Setup:
    """What was noted of all connections of a run."""

    certificate_end: float | None = None
    """Until when the certificate of the latest is valid, in Unix time; None without one."""
    _durations: dict[str, Histogram] = attrs.field(factory=dict)
    """By step, of those there were."""

    def note(self, connected: Connected) -> None:
        """Note a new connection."""
        if (records := connected.transport.records) is not None:
            self.certificate_end = end_of(records.tls.getpeercert(binary_form=True) or b"")
        for name in _STEPS:
            seconds = getattr(connected.times, name)
            if seconds is not None:
                self._durations.setdefault(name, Histogram()).record(nanoseconds(seconds))

    def durations(self) -> dict[str, Histogram]:
        """Return copies of what each step took, by its name."""
        return {name: each.copy() for name, each in self._durations.items()}
