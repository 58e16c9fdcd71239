"""What the tests of load on sockets share: both carriers."""

from __future__ import annotations

import pytest

from techo._pump import pump


@pytest.fixture(params=["pump", "portable"])
def carrier(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What carries trips over sockets, but for TLS, and what answers them."""
    if request.param == "pump" and not pump.AVAILABLE:
        pytest.skip("this system has no epoll, which the pump needs")
    monkeypatch.setattr(pump, "AVAILABLE", request.param == "pump")
    return str(request.param)
