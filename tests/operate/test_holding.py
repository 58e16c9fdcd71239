"""Holding: sockets for several workers, each of which finds what was queued for it."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import techo
from helpers import PATIENCE
from techo._operate.holding import Held, Holder


@pytest.fixture
def holder() -> Iterator[Holder]:
    """Holds for three workers, until the test is over."""
    with contextlib.ExitStack() as end:
        yield Holder(3, 100, None, end)


async def hold(holder: Holder, text: str) -> list[Held]:
    """Hold an endpoint by its text."""
    return await holder.open(techo.Endpoint.parse(text))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("tcp://127.0.0.1:0", 3),
        ("tls://127.0.0.1:0", 3),
        ("udp://127.0.0.1:0", 3),
        ("mptcp://127.0.0.1:0", 1),
        ("unix:{folder}/s", 1),
        ("unixgram:{folder}/s", 1),
        ("unixpacket:{folder}/s", 1),
    ],
)
async def test_each_worker_has_a_socket_where_the_kernel_can_choose(
    holder: Holder, tmp_path: Path, text: str, count: int
) -> None:
    """All of one endpoint have one address; of other kinds there is one for all."""
    (held,) = await hold(holder, text.format(folder=tmp_path))
    assert len(held.sockets) == count
    assert {each.getsockname() for each in held.sockets} == {held.sockets[0].getsockname()}
    passed = [held.passed(number) for number in range(3)]
    assert len({each.descriptor for each in passed}) == count
    assert {str(each.kind) for each in passed} == {"tls+fd" if "tls" in text else "fd"}
    assert not held.endpoint.host or held.endpoint.port > 0


async def test_every_interface_has_one_port(holder: Holder) -> None:
    """It is that of IPv4 and of IPv6, for all workers."""
    held = await hold(holder, "*:0")
    assert [each.endpoint.host for each in held] == ["0.0.0.0", "::"]  # noqa: S104  -- what * means
    assert len({each.getsockname()[1] for one in held for each in one.sockets}) == 1


@pytest.mark.parametrize("kind", ["tcp", "udp"])
async def test_no_other_server_gets_a_part(holder: Holder, kind: str) -> None:
    """One that would share the port with anybody is refused it, before us and after us."""
    sort = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
    with socket.socket(type=sort) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        if kind == "tcp":
            other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OSError, match="in use") as caught:
            await hold(holder, f"{kind}://127.0.0.1:{port}")
        assert caught.value.errno == errno.EADDRINUSE
        assert caught.value.filename == f"{kind}://127.0.0.1:{port}"
    (held,) = await hold(holder, f"{kind}://127.0.0.1:0")
    with contextlib.ExitStack() as end, pytest.raises(OSError, match="in use"):
        await Holder(3, None, None, end).open(held.endpoint)


async def test_what_is_queued_outlives_who_should_have_accepted_it(holder: Holder) -> None:
    """A worker's copy of a socket is closed, and its successor accepts what came before."""
    (held,) = await hold(holder, "tcp://127.0.0.1:0")
    with contextlib.ExitStack() as end:
        for _ in range(30):
            client = socket.create_connection(("127.0.0.1", held.endpoint.port), PATIENCE)
            end.enter_context(client)
        for each in held.sockets:
            each.dup().close()
        accepted = 0
        for each in held.sockets:
            with contextlib.suppress(BlockingIOError):
                while True:
                    each.setblocking(False)
                    each.accept()[0].close()
                    accepted += 1
    assert accepted == 30


async def test_an_inherited_socket_is_passed_on(holder: Holder) -> None:
    """It is what the endpoint says, over TLS if that was asked for."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port, number = sock.getsockname()[1], sock.detach()
    (held,) = await hold(holder, f"tls+fd:{number}")
    assert str(held.endpoint) == f"tls://127.0.0.1:{port}"
    assert [str(held.passed(each)) for each in range(3)] == [f"tls+fd:{number}"] * 3
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        await hold(holder, "fd:9999")
    assert caught.value.filename == "fd:9999"


async def test_what_was_held_is_gone_afterwards(tmp_path: Path) -> None:
    """Paths are removed, and ports are free."""
    with contextlib.ExitStack() as end:
        holder = Holder(2, None, 0o600, end)
        (held,) = await hold(holder, "tcp://127.0.0.1:0")
        await hold(holder, f"unix:{tmp_path}/s")
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "s").exists()
    assert [each.fileno() for each in held.sockets] == [-1, -1]
