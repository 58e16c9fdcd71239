"""What the tests of ping share: Unix time that goes with virtual time."""

from __future__ import annotations

import attrs
import pytest
import trio

from techo._ping import records

EPOCH = 1_000_000.0
"""Unix time when a run in virtual time begins."""


@attrs.define
class UnixTime:
    """Unix time, which goes with the run's clock unless it is set."""

    offset: float = EPOCH

    def time(self) -> float:
        """Give what `time.time` gives."""
        return self.offset + trio.current_time()


@pytest.fixture
def unix_time(monkeypatch: pytest.MonkeyPatch) -> UnixTime:
    """What ping takes for Unix time, for tests in virtual time."""
    clock = UnixTime()
    monkeypatch.setattr(records, "time", clock)
    return clock
