"""Inherited sockets: found out, served, closed, and never unlinked."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

import techo
from helpers import PATIENCE, ended, open_descriptors, until_ended
from techo.testing import Reset

INTERNET = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
TYPES = [socket.SOCK_STREAM, socket.SOCK_DGRAM]


def bound(family: int, kind: int, address: object) -> socket.socket:
    """Return a socket as systemd would pass it."""
    sock = socket.socket(family, kind)
    sock.bind(address)  # type: ignore[arg-type]  # a tuple or a path
    if kind != socket.SOCK_DGRAM:
        sock.listen()
    os.set_inheritable(sock.fileno(), True)
    return sock


async def hello(like: socket.socket, address: object) -> bytes:
    """Send one message and receive its reply."""
    with socket.socket(like.family, like.type) as sock:
        if (sock.family, sock.type) == (socket.AF_UNIX, socket.SOCK_DGRAM):
            sock.bind("")
        sock.connect(address)  # type: ignore[arg-type]  # a tuple or a path
        ours = trio.socket.from_stdlib_socket(sock)
        with trio.fail_after(PATIENCE):
            await ours.send(b"hello")
            return await ours.recv(100)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(("family", "host"), INTERNET)
async def test_family_and_type_are_found_out(family: int, kind: int, host: str) -> None:
    """What is served is reported as the endpoint that it is; the end closes it."""
    before = await open_descriptors()
    sock = bound(family, kind, (host, 0))
    address = sock.getsockname()
    like, descriptor = sock.dup(), sock.detach()
    with like:
        async with techo.open_server(f"fd:{descriptor}", reply=techo.raw) as server:
            (endpoint,) = server.endpoints
            assert endpoint == techo.Endpoint(
                host, address[1], kind="tcp" if kind == socket.SOCK_STREAM else "udp"
            )
            assert not os.get_inheritable(descriptor)
            assert await hello(like, address) == b"hello"
    assert await open_descriptors() == before


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (socket.SOCK_STREAM, "unix"),
        (socket.SOCK_DGRAM, "unixgram"),
        (socket.SOCK_SEQPACKET, "unixpacket"),
    ],
)
async def test_an_inherited_path_is_never_unlinked(
    kind: int, name: str, tmp_path: Path
) -> None:
    """It belongs to the process that bound it, and waits for the next server."""
    path = str(tmp_path / "echo")
    sock = bound(socket.AF_UNIX, kind, path)
    with sock:
        async with techo.open_server(f"fd:{os.dup(sock.fileno())}", reply=techo.raw) as server:
            assert [str(each) for each in server.endpoints] == [f"{name}:{path}"]
            assert await hello(sock, path) == b"hello"
    assert Path(path).exists()  # noqa: ASYNC240  -- in memory


async def test_an_inherited_abstract_name_is_told(tmp_path: Path) -> None:
    """A name is shown as ours would be; what a text can't hold becomes question marks."""
    with bound(socket.AF_UNIX, socket.SOCK_STREAM, f"\0techo\n{os.getpid()}") as sock:
        async with techo.open_server(f"fd:{os.dup(sock.fileno())}") as server:
            assert [str(each) for each in server.endpoints] == [f"unix:@techo?{os.getpid()}"]


def not_open() -> int:
    """Return a number that no descriptor has."""
    descriptor = os.dup(0)
    os.close(descriptor)
    return descriptor


def no_socket() -> int:
    """Return a file's descriptor."""
    return os.open(os.devnull, os.O_RDONLY)


def not_bound() -> int:
    """Return a datagram socket that is not bound."""
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach()


def not_listening() -> int:
    """Return a stream socket that is bound but does not listen."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock.detach()


def of_another_family() -> int:
    """Return a socket to the kernel."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).detach()


@pytest.mark.parametrize(
    ("make", "number"),
    [
        (not_open, errno.EBADF),
        (no_socket, errno.ENOTSOCK),
        (not_bound, errno.ENOTCONN),
        (not_listening, errno.EINVAL),
        (of_another_family, errno.EPROTONOSUPPORT),
    ],
)
@pytest.mark.parametrize("kind", ["fd", "tls+fd"])
async def test_what_cannot_be_served_is_told(
    kind: str, make: Callable[[], int], number: int, server_tls: ssl.SSLContext
) -> None:
    """Each has its own error, names the endpoint, and the descriptor stays its owner's."""
    descriptor = make()
    with pytest.raises(OSError) as caught:  # noqa: PT011  -- looked at below
        async with techo.open_server(f"{kind}:{descriptor}", tls=server_tls):
            pass
    assert (caught.value.errno, caught.value.filename) == (number, f"{kind}:{descriptor}")
    if number != errno.EBADF:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("family", "host"),
    [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")],  # noqa: S104  -- the point
)
async def test_what_else_the_kernel_tells_of_a_datagram_is_passed_over(
    family: int, host: str
) -> None:
    """The socket's opener may have asked for times; replies leave from the right address."""
    sock = bound(family, socket.SOCK_DGRAM, (host, 0))
    for option in (29, 35):  # SO_TIMESTAMP and SO_TIMESTAMPNS, see socket(7)
        sock.setsockopt(socket.SOL_SOCKET, option, 1)
    hit = "::1" if family == socket.AF_INET6 else "127.0.0.2"
    address, like = (hit, sock.getsockname()[1]), sock.dup()
    with like:
        async with techo.open_server(f"fd:{sock.detach()}", reply=techo.raw):
            assert await hello(like, address) == b"hello"
            assert await hello(like, address) == b"hello"


@pytest.mark.parametrize("second", ["fd", "tls+fd"])
async def test_a_descriptor_is_served_once(second: str, server_tls: ssl.SSLContext) -> None:
    """A descriptor given twice is refused: two owners would close each other's socket."""
    descriptor = bound(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)).detach()
    places = f"fd:{descriptor}", f"{second}:{descriptor}"
    with pytest.raises(ValueError, match="give each only once"):
        async with techo.open_server(*places, tls=server_tls):
            pass
    os.close(descriptor)


@pytest.mark.usefixtures("conversation")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(("family", "host"), INTERNET)
async def test_an_inherited_listener_is_served_over_tls(
    family: int,
    host: str,
    version: ssl.TLSVersion,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
) -> None:
    """It is reported as a tls endpoint, drains with close_notify, and is closed in the end."""
    before = await open_descriptors()
    client_tls.maximum_version = version
    sock = bound(family, socket.SOCK_STREAM, (host, 0))
    port, descriptor = sock.getsockname()[1], sock.detach()
    service = techo.EchoService(techo.raw, tls=server_tls)
    async with trio.open_nursery() as nursery:
        bound_to = await nursery.start(service.serve, f"tls+fd:{descriptor}")
        assert bound_to == (techo.Endpoint(host, port, kind="tls"),)
        assert not os.get_inheritable(descriptor)
        async with techo.open_client(
            bound_to[0], tls=client_tls, server_name="localhost"
        ) as client:
            with trio.fail_after(PATIENCE):
                for size in (1, 100, 100_000):
                    assert (await client.round_trip(bytes(size))).reply == bytes(size)
        plain = await trio.open_tcp_stream(host, port)
        await plain.send_all(b"GET / HTTP/1.0\r\n\r\n")
        await plain.aclose()
        assert ended(await until_ended(service, 2)) == {"eof": 1, "reset": 1}
        with socket.create_connection((host, port)) as raw:
            tls = await trio.to_thread.run_sync(
                lambda: client_tls.wrap_socket(raw, server_hostname="localhost")
            )
            nursery.start_soon(service.drain)
            assert await trio.to_thread.run_sync(tls.recv, 1) == b""  # not a bare end
            tls.close()
    assert ended(service.statistics()) == {"eof": 1, "reset": 1, "drained": 1}
    assert await open_descriptors() == before


@pytest.mark.parametrize(
    ("family", "kind", "is_"),
    [
        (socket.AF_INET, socket.SOCK_DGRAM, "udp://127.0.0.1:"),
        (socket.AF_UNIX, socket.SOCK_STREAM, "unix:"),
        (socket.AF_UNIX, socket.SOCK_SEQPACKET, "unixpacket:"),
        (socket.AF_UNIX, socket.SOCK_DGRAM, "unixgram:"),
    ],
)
async def test_only_a_tcp_listener_is_served_over_tls(
    family: int, kind: int, is_: str, server_tls: ssl.SSLContext, tmp_path: Path
) -> None:
    """The refusal says what it is and what to write; the descriptor stays its owner's."""
    address = str(tmp_path / "s") if family == socket.AF_UNIX else ("127.0.0.1", 0)
    with bound(family, kind, address) as sock:
        number = sock.fileno()
        with pytest.raises(ValueError, match=rf"is {is_}.* write fd:{number}$"):
            async with techo.open_server(f"tls+fd:{number}", tls=server_tls):
                pass
        async with techo.open_server(f"fd:{os.dup(number)}", reply=techo.raw):
            assert await hello(sock, sock.getsockname()) == b"hello"


@pytest.mark.parametrize("which", ["none", "a client's"])
async def test_tls_over_a_descriptor_needs_a_server_s_context(
    which: str, client_tls: ssl.SSLContext
) -> None:
    """It is refused before it is listened on, and stays its owner's."""
    tls = None if which == "none" else client_tls
    with bound(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)) as sock:
        number = sock.fileno()
        wanted = "a certificate" if tls is None else "a server's context"
        with pytest.raises(ValueError, match=rf"tls\+fd:{number} needs {wanted}"):
            async with techo.open_server(f"tls+fd:{number}", tls=tls):
                pass
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)


async def test_a_fault_that_cannot_happen_there_leaves_the_descriptor_open() -> None:
    """It is refused by what the descriptor turns out to be, and stays its owner's."""
    with bound(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)) as sock:
        with pytest.raises(ValueError, match=r"udp://127\.0\.0\.1"):
            async with techo.open_server(f"fd:{sock.fileno()}", faults=[Reset(after=1)]):
                pass
        assert sock.getsockname()[1]


@pytest.mark.parametrize("name", [b"\xff" * 50, b"\xff" * 107, b"\0", "é".encode()])
async def test_any_abstract_name_can_be_inherited(name: bytes) -> None:
    """An abstract name that is no text is served, too."""
    unique = b"\0" + name[: 107 - 8] + b"%08d" % os.getpid()
    with bound(socket.AF_UNIX, socket.SOCK_STREAM, unique) as sock:
        async with techo.open_server(f"fd:{os.dup(sock.fileno())}", reply=techo.raw) as server:
            assert server.endpoints[0].path.startswith("@?")
            assert await hello(sock, unique) == b"hello"
