"""Server tests on sockets run over both conversations."""

from __future__ import annotations

import pytest

from techo._pump import pump


@pytest.fixture(params=["pump", "portable"])
def conversation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which conversation sockets get: the pump's, or the one for any stream."""
    if request.param == "pump" and not pump.AVAILABLE:
        pytest.skip("this system has no epoll, which the pump needs")
    monkeypatch.setattr(pump, "AVAILABLE", request.param == "pump")
    return str(request.param)
