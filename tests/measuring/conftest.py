"""What the tests of measuring share: both carriers of load, and Unix time for ping."""

from __future__ import annotations

import attrs
import pytest
import trio

from techo._ping import records
from techo._pump import pump

EPOCH = 1_000_000.0
"""Unix time when a run in virtual time begins."""


@pytest.fixture(params=["pump", "portable"])
def carrier(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What carries trips over sockets, but for TLS, and what answers them."""
    if request.param == "pump" and not pump.AVAILABLE:
        pytest.skip("this system has no epoll, which the pump needs")
    monkeypatch.setattr(pump, "AVAILABLE", request.param == "pump")
    return str(request.param)


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
