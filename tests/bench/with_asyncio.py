"""Servers to measure on asyncio or uvloop: `with_asyncio.py NAME WHERE` prints its address.

NAME is the loop's, or aiofastnet's, whose transports replace those of asyncio's loop or, as
aiofastnet-uvloop, those of uvloop's. Behind it stands what serves, if not the leanest. WHERE is
tcp, udp, unix, tls:FILE or tls+tcp:FILE, with the certificate there. All of them set
TCP_NODELAY themselves. None of these servers has timeouts, limits or counters.
"""

from __future__ import annotations

import asyncio
import importlib
import mmap
import os
import ssl
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from types import ModuleType
from typing import Final, cast

BACKLOG: Final = 65535
"""As many as the kernel allows."""

BUFFER: Final = 2**18
"""Bytes that BufferedProtocol receives at once: as much as Protocol does on uvloop."""


class Bounce(asyncio.Protocol):
    """The leanest there is: receiving is writing, without a line of Python in between."""

    __slots__ = ("data_received",)

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self.data_received = transport.write  # type: ignore[method-assign]  # nothing between


class Greet(asyncio.Protocol):
    """Hands each connection over to `Bounce`, once it has a transport."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        writing = cast("asyncio.WriteTransport", transport)
        writing.set_protocol(Bounce(writing))


class Buffered(asyncio.BufferedProtocol):
    """Receives into a buffer of its own; what is written must be copied out of it."""

    __slots__ = ("buffer", "view", "write")

    def __init__(self) -> None:
        self.buffer = mmap.mmap(-1, BUFFER)  # whole pages, as ours: see Pump.buffers
        self.view = memoryview(self.buffer)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self.write = cast("asyncio.WriteTransport", transport).write

    def get_buffer(self, sizehint: int) -> mmap.mmap:  # noqa: ARG002  -- asyncio's signature
        """See asyncio."""
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio."""
        self.write(bytes(self.view[:nbytes]))


class Answer(asyncio.DatagramProtocol):
    """The leanest for datagrams: receiving one, and from where, is sending it there."""

    __slots__ = ("datagram_received",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        sendto = cast("asyncio.DatagramTransport", transport).sendto
        self.datagram_received = sendto  # type: ignore[method-assign]  # nothing between


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echo as asyncio's tutorial does."""
    while data := await reader.read(2**16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def serve_streams(context: ssl.SSLContext | None) -> None:
    """Serve with a coroutine for each connection; over TLS if there is a context."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=BACKLOG, ssl=context)
    announce({"tls" if context else "tcp": server.sockets[0].getsockname()[1]})
    await server.serve_forever()


async def serve_protocol(
    protocol: Callable[[], asyncio.BaseProtocol],
    contexts: dict[str, ssl.SSLContext | None],
    transports: ModuleType | None,
) -> None:
    """Serve with callbacks; by other transports than the loop's own if there are such."""
    loop = asyncio.get_running_loop()
    create = partial(transports.create_server, loop) if transports else loop.create_server
    servers = {
        kind: await create(protocol, "127.0.0.1", 0, backlog=BACKLOG, ssl=context)
        for kind, context in contexts.items()
    }
    announce({kind: each.sockets[0].getsockname()[1] for kind, each in servers.items()})
    await asyncio.Event().wait()


async def serve_unix(protocol: Callable[[], asyncio.BaseProtocol]) -> None:
    """Serve with callbacks on a Unix socket, whose name needs no file."""
    name = f"bench-{os.getpid()}"
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(protocol, f"\0{name}", backlog=BACKLOG)
    announce({"unix": f"@{name}"})
    await server.serve_forever()


async def serve_datagrams() -> None:
    """Serve with one callback for everybody."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Answer, ("127.0.0.1", 0))
    announce({"udp": transport.get_extra_info("sockname")[1]})
    await asyncio.Event().wait()


def announce(places: dict[str, int | str]) -> None:
    """Tell who started this where it listens, by kind."""
    print(",".join(f"{kind}:{place}" for kind, place in places.items()), flush=True)


def main(name: str, where: str) -> None:
    """Serve until killed."""
    words = name.split("-")
    kind, _, certificate = where.partition(":")
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    protocol = Buffered if "buffered" in words else Greet
    work: Coroutine[object, object, None]
    if kind == "udp":
        work = serve_datagrams()
    elif "streams" in words:
        work = serve_streams(context)
    elif kind == "unix":
        work = serve_unix(protocol)
    else:
        fast = importlib.import_module("aiofastnet") if "aiofastnet" in words else None
        contexts = {each: context if each == "tls" else None for each in kind.split("+")}
        work = serve_protocol(protocol, contexts, fast)
    importlib.import_module("uvloop" if "uvloop" in words else "asyncio").run(work)


if __name__ == "__main__":
    main(*sys.argv[1:])
