"""What several rooms' tests share: certificates, conversations, endpoint kinds."""

from __future__ import annotations

import signal
import socket
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio.testing
import trustme
from hypothesis import settings

import techo
from helpers import trust, wait_until
from techo._kernel import stamps
from techo._pump import pump

# Under nohup it is ignored, which the programs that tests start would inherit.
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# How long an example may take says more about the machine than about the code.
settings.register_profile("any machine", settings(), deadline=None)
settings.load_profile("any machine")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder for one test, wherever pytest's own are: a Unix socket's path has 107 bytes."""
    short = "/tmp" if Path("/tmp").is_dir() else None  # noqa: S108  -- a folder of its own there
    with tempfile.TemporaryDirectory(prefix="techo-", dir=short) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Who signs certificates; a session's worth of it, because keys take long."""
    return trustme.CA()


@pytest.fixture
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """A server that is 127.0.0.1 and localhost."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@pytest.fixture
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    """A client that trusts the authority."""
    return trust(authority)


@pytest.fixture
def stamping() -> Iterator[None]:
    """Keep the kernel stamping what arrives, which it begins with in the background."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        if stamps.switch_on(sock, tcp=False):
            wait_until(stamps.are_received, "what arrives is stamped")
        yield


NOT_FOR_ALL = {*(techo.Kind(each) for each in ("fd", "tls+fd", "icmp", "ip", "mptcp"))}
"""Kinds that no client can connect to, that take privileges, or that are as TCP but for what
their own tests show."""


@pytest.fixture(params=[each for each in techo.Kind if each not in NOT_FOR_ALL])
def kind(request: pytest.FixtureRequest) -> techo.Kind:
    """Every kind that any client can connect to."""
    return techo.Kind(request.param)


@pytest.fixture
def address(kind: techo.Kind, tmp_path: Path) -> str:
    """A place of that kind to listen on."""
    if kind.startswith("unix"):
        return f"{kind}:{tmp_path}/s"
    return f"{kind}://127.0.0.1:0"


@pytest.fixture
def patient_clock() -> trio.testing.MockClock:
    """Virtual time for sockets whose two ends are both in the test.

    It jumps to the next deadline when nothing has come for a tenth of a second. On the loopback
    interface what one end sends is there at once, so that a busy machine makes no deadline
    expire before what it waits for, however long the test takes to compute.
    """
    return trio.testing.MockClock(autojump_threshold=0.1)


@pytest.fixture(params=["pump", "portable"])
def conversation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which conversation sockets get, and which driver: the pump's, or that of any stream."""
    if request.param == "pump" and not pump.AVAILABLE:
        pytest.skip("this system has no epoll, which the pump needs")
    monkeypatch.setattr(pump, "AVAILABLE", request.param == "pump")
    return str(request.param)
