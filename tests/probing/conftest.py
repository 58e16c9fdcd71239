"""What the drivers' tests share: each driver, and that they wait for no pause."""

from __future__ import annotations

import socket

import pytest
import trio

from techo._kernel import stamps
from techo._probing import engine
from techo._probing.driver import Driver
from techo._probing.drivers import driver_for
from techo._probing.in_flight import Run
from techo._probing.trip import Clock
from techo._pump import pump
from techo._transport.transport import Transport
from wires import Connect


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no pause before connecting again be longer than the first."""
    monkeypatch.setattr(engine, "_LONGEST_PAUSE", engine._FIRST_PAUSE)


def _unix_pair() -> tuple[trio.socket.SocketType, trio.socket.SocketType]:
    return trio.socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def _tcp_pair() -> tuple[trio.socket.SocketType, trio.socket.SocketType]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    for each in (ours, theirs):
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return trio.socket.from_stdlib_socket(ours), trio.socket.from_stdlib_socket(theirs)


@pytest.fixture(params=["pump", "tasks", "kernel"])
def connected(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Connects two sockets between which this driver carries trips."""
    if request.param == "kernel":
        if not stamps.AVAILABLE:
            pytest.skip("this system has no stamps, which the driver needs")

        def timed(transport: Transport, run: Run) -> Driver:
            run.timed_by = Clock.KERNEL
            return driver_for(transport, run)

        monkeypatch.setattr(engine, "driver_for", timed)
        return _tcp_pair
    if request.param == "pump" and not pump.AVAILABLE:
        pytest.skip("this system has no epoll, which the pump needs")
    monkeypatch.setattr(pump, "AVAILABLE", request.param == "pump")
    return _unix_pair
