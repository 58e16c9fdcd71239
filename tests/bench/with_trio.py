"""Servers to measure that run on trio: `with_trio.py NAME WHERE [PROBE]` prints its address.

WHERE is tcp, udp, unix, tls:FILE or tls+tcp:FILE, with the certificate there; of a proxy it is
tcp:PORT or udp:PORT, which is the echo behind it. With PROBE, the name of a file, another task
of the run notes there how late it is woken up.
"""

from __future__ import annotations

import functools
import os
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import trio

import techo
from techo import testing
from techo._pump import pump

NAP: Final = 0.005
"""Seconds that the task of the probe wants to sleep."""


async def stay(probe: str | None) -> None:
    """Sleep; note when each nap should have ended and how much later it did, in seconds."""
    if probe is None:
        await trio.sleep_forever()
    path = Path(probe)
    with path.open("w", buffering=1) as notes:  # noqa: ASYNC230  -- waits for next to nothing
        while True:
            wanted = time.monotonic() + NAP
            await trio.sleep(NAP)
            print(f"{wanted:.6f} {time.monotonic() - wanted:.6f}", file=notes)


COST: Final = 0.01
"""Seconds that a costly reply takes. It sleeps, so that a busy machine makes it no dearer."""
SPIN: Final = 0.0005
"""Seconds of that for which it does not, because a sleep ends late."""


def announce(places: dict[str, int | str]) -> None:
    """Tell who started this where it listens, by kind."""
    print(",".join(f"{kind}:{place}" for kind, place in places.items()), flush=True)


def context(certificate: str) -> ssl.SSLContext:
    """Give what TLS is served with."""
    found = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    found.load_cert_chain(certificate)
    return found


async def serve_techo(where: str, probe: str | None, reply: techo.Reply = techo.raw) -> None:
    """Serve as anybody would: limits, timeouts and counters at their defaults."""
    words, _, certificate = where.partition(":")
    kinds = words.split("+")
    endpoints = [
        f"unix:@bench-{os.getpid()}" if kind == "unix" else f"{kind}://127.0.0.1:0"
        for kind in kinds
    ]
    tls = context(certificate) if certificate else None
    async with techo.open_server(*endpoints, reply=reply, tls=tls) as server:
        announce({each.kind: each.path or each.port for each in server.endpoints})
        await stay(probe)


async def pass_on(target: str, probe: str | None) -> None:
    """Pass everything on to an echo, without faults."""
    kind, _, port = target.partition(":")
    places = f"{kind}://127.0.0.1:{port}", f"{kind}://127.0.0.1:0"
    async with testing.open_proxy(*places) as proxy:
        announce({kind: proxy.port})
        await stay(probe)


def costly(data: bytes) -> bytes:
    """Reply after as long as it is said to cost, in which nothing else is done."""
    end = time.perf_counter() + COST
    time.sleep(COST - SPIN)  # what a reply costs: the run must do nothing else meanwhile
    while time.perf_counter() < end:
        pass
    return data


async def serve_portable(where: str, probe: str | None) -> None:
    """Serve as where there is no epoll."""
    pump.AVAILABLE = False
    await serve_techo(where, probe)


async def serve_streams(
    where: str, probe: str | None, handle: Callable[[trio.abc.Stream], Awaitable[object]]
) -> None:
    """Serve with trio's own listeners; over TLS that is trio's SSLStream."""
    kinds, _, certificate = where.partition(":")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stay, probe)
        places: dict[str, int | str] = {}
        listeners: list[trio.abc.Listener[trio.abc.Stream]] = []
        for kind in kinds.split("+"):
            (plain,) = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=65535)
            places[kind] = plain.socket.getsockname()[1]
            tls = kind == "tls"
            listeners.append(trio.SSLListener(plain, context(certificate)) if tls else plain)
        announce(places)
        await trio.serve_listeners(handle, listeners)


async def serve_plain(where: str, probe: str | None) -> None:
    """Serve as trio's tutorial does."""

    async def handle(stream: trio.abc.Stream) -> None:
        try:
            async for chunk in stream:
                await stream.send_all(chunk)
        except trio.BrokenResourceError:
            pass

    await serve_streams(where, probe, handle)


async def serve_sslstream(where: str, probe: str | None) -> None:
    """Serve as an embedder does who has streams already."""
    await serve_streams(where, probe, techo.EchoService(techo.raw).handle)


SERVERS: Final[dict[str, Callable[[str, str | None], Awaitable[None]]]] = {
    "techo": serve_techo,
    "techo-stamped": functools.partial(serve_techo, reply=techo.stamped),
    "techo-proxy": pass_on,
    "techo-costly": functools.partial(serve_techo, reply=costly),
    "techo-portable": serve_portable,
    "techo-sslstream": serve_sslstream,
    "trio": serve_plain,
}

if __name__ == "__main__":
    trio.run(SERVERS[sys.argv[1]], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None)
