"""A process that nobody ran for a while: what has come meanwhile counts before any deadline.

The clock is moved by hand while sockets are real, so that deadlines have passed and input waits
when the server gets its next turn, as after SIGSTOP.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator

import pytest
import trio
import trio.testing

import techo
from helpers import ended
from techo._transport.messages import PacketTransport

LIMITS = techo.Limits(idle_timeout=60, close_timeout=1, handshake_timeout=10)

KINDS = {"tcp": socket.SOCK_STREAM, "packets": socket.SOCK_SEQPACKET}

Clock = trio.testing.MockClock


@pytest.fixture
def frozen(mock_clock: Clock) -> Clock:
    """A clock that moves only by `jump`."""
    return mock_clock


@contextlib.contextmanager
def serving(
    service: techo.EchoService, nursery: trio.Nursery, kind: str = "tcp"
) -> Iterator[socket.socket]:
    """Have one end of a connection served; the other blocks nobody and waits for nothing."""
    if kind == "packets":
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        packets = PacketTransport(trio.socket.from_stdlib_socket(theirs))
        nursery.start_soon(service.handle, packets)
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.create_connection(listener.getsockname())
            theirs, _ = listener.accept()
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
        nursery.start_soon(service.handle, stream)
    with ours:
        ours.setblocking(False)
        yield ours


async def until_ended(service: techo.EchoService, count: int) -> techo.Statistics:
    """Wait until so many connections are over, in no time of the clock."""
    while sum(service.statistics().outcomes.values()) < count:  # noqa: ASYNC110  -- no event
        await trio.lowlevel.checkpoint()
    return service.statistics()


async def receive(sock: socket.socket, most: int = 2**16) -> bytes:
    """Receive once."""
    while True:
        try:
            return sock.recv(most)
        except BlockingIOError:
            await trio.lowlevel.wait_readable(sock)


@pytest.mark.usefixtures("conversation")
@pytest.mark.parametrize("kind", KINDS)
async def test_bytes_that_wait_in_the_kernel_are_progress(
    kind: str, frozen: Clock, nursery: trio.Nursery
) -> None:
    """Of many peers that sent something in time none is ended as idle; a silent one is."""
    service = techo.EchoService(techo.raw, limits=LIMITS)
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(serving(service, nursery, kind)) for _ in range(20)]
        silent, *busy = socks
        for sock in socks:
            sock.send(b"first")
            assert await receive(sock) == b"first"
        await trio.testing.wait_all_tasks_blocked()
        for sock in busy:
            sock.send(b"second")
        frozen.jump(61)
        for sock in busy:
            assert await receive(sock) == b"second"
        assert await receive(silent) == b""
        silent.close()
        assert ended(await until_ended(service, 1)) == {"idle": 1}
        for sock in busy:  # an end that waits in the kernel is one, too
            sock.shutdown(socket.SHUT_WR)
        frozen.jump(61)
        assert ended(await until_ended(service, 20)) == {"idle": 1, "eof": 19}


@pytest.mark.usefixtures("conversation")
async def test_room_for_a_reply_is_progress(frozen: Clock, nursery: trio.Nursery) -> None:
    """A peer that has read during the pause is not stalled."""
    service = techo.EchoService(techo.raw, limits=LIMITS)
    with serving(service, nursery) as sock:
        sent = 0
        while True:
            with contextlib.suppress(BlockingIOError):
                while True:
                    sent += sock.send(bytes(2**16))
            before = service.statistics().bytes_in
            await trio.testing.wait_all_tasks_blocked()
            if service.statistics().bytes_in == before:
                break
        received = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                received += len(sock.recv(2**20))
        frozen.jump(61)
        while received < sent:
            received += len(await receive(sock, 2**20))
        sock.shutdown(socket.SHUT_WR)
        assert await receive(sock) == b""
        assert ended(await until_ended(service, 1)) == {"eof": 1}


@pytest.mark.usefixtures("conversation")
async def test_after_its_lifetime_a_connection_gets_one_look(
    frozen: Clock, nursery: trio.Nursery
) -> None:
    """What had arrived is answered; what comes then is not."""
    limits = techo.Limits(idle_timeout=1000, lifetime=100)
    service = techo.EchoService(techo.raw, limits=limits)
    with serving(service, nursery) as sock:
        sock.send(b"first")
        assert await receive(sock) == b"first"
        await trio.testing.wait_all_tasks_blocked()
        sock.send(b"second")
        frozen.jump(101)
        assert await receive(sock) == b"second"
        assert await receive(sock) == b""
        sock.close()
        assert ended(await until_ended(service, 1)) == {"expired": 1}


@pytest.mark.usefixtures("conversation")
async def test_a_late_close_resets_nobody(frozen: Clock, nursery: trio.Nursery) -> None:
    """What came after the end is still discarded: unread, it would become a reset."""
    service = techo.EchoService(techo.raw, limits=LIMITS)
    with serving(service, nursery) as sock:
        await trio.testing.wait_all_tasks_blocked()
        frozen.jump(61)
        assert await receive(sock) == b""
        for size in (5, 10**5):
            sock.send(bytes(size))
            if size > 5:
                frozen.jump(2)
            await trio.testing.wait_all_tasks_blocked()
        frozen.jump(1)
        assert ended(await until_ended(service, 1)) == {"idle": 1}
        assert await receive(sock) == b""


class Tls:
    """A TLS client whose records the test moves itself."""

    def __init__(self, context: ssl.SSLContext, sock: socket.socket) -> None:
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="127.0.0.1")

    def step(self) -> bytes:
        """Do what can be done of the handshake; return what is to be sent."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    async def receive(self) -> bytes:
        """Receive decrypted bytes."""
        while True:
            try:
                return self.tls.read(1000)
            except ssl.SSLWantReadError:
                self.incoming.write(await receive(self.sock))


async def test_a_handshake_that_waited_for_us_goes_on(
    frozen: Clock, nursery: trio.Nursery, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """So does half a record; but no handshake takes more than twice its time."""
    service = techo.EchoService(techo.raw, limits=LIMITS, tls=server_tls)
    (endpoint,) = await nursery.start(service.serve, "tls://127.0.0.1:0")
    with socket.create_connection((endpoint.host, endpoint.port)) as sock:
        sock.setblocking(False)
        client = Tls(client_tls, sock)
        await trio.testing.wait_all_tasks_blocked()
        sock.send(client.step())
        frozen.jump(11)
        while not (last := client.step()):
            client.incoming.write(await receive(sock))
        sock.send(last)
        client.tls.write(b"hello")
        sock.send(client.outgoing.read())
        assert await client.receive() == b"hello"
        await trio.testing.wait_all_tasks_blocked()
        client.tls.write(b"hello again")
        record = client.outgoing.read()
        sock.send(record[:10])
        frozen.jump(61)
        await trio.testing.wait_all_tasks_blocked()
        frozen.jump(59)
        await trio.testing.wait_all_tasks_blocked()
        sock.send(record[10:])
        assert await client.receive() == b"hello again"
    with socket.create_connection((endpoint.host, endpoint.port)) as sock:
        sock.setblocking(False)
        await trio.testing.wait_all_tasks_blocked()
        hello = Tls(client_tls, sock).step()
        for byte in hello[:2]:
            sock.send(bytes([byte]))
            frozen.jump(11)
            await trio.testing.wait_all_tasks_blocked()
        assert ended(await until_ended(service, 2)).get("idle") == 1
    nursery.cancel_scope.cancel()
