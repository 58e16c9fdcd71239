"""Clients to measure that run on trio: `load_trio.py NAME ADDRESS PID echo COUNT SIZE SECONDS`.

Started as load.c is, and prints those of its figures that are about the client. Each has one
message of its own in flight on each connection, and counts those that have come back.
"""

from __future__ import annotations

import contextlib
import functools
import json
import random
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import attrs
import trio

import techo

WARM_UP: Final = 0.1
"""Seconds before counting begins."""

PATIENCE: Final = 30.0
"""Seconds of silence after which the server is considered stuck; a hundred handshakes at once
take some of them on a busy machine."""


@attrs.frozen
class Counted:
    """What a client has done while it counted, or until some moment."""

    messages: int
    seconds: float
    cpu: float
    """Seconds of this process."""


def context(endpoint: str) -> ssl.SSLContext | None:
    """Return what accepts any certificate, over TLS: the bytes are looked at."""
    if not endpoint.startswith("tls:"):
        return None
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    found.check_hostname = False
    found.verify_mode = ssl.CERT_NONE
    return found


async def load(endpoint: str, count: int, size: int, seconds: float) -> Counted:
    """Ask with techo's load, which has no task for each message and verifies every byte."""
    report = await techo.load(
        endpoint,
        tls=context(endpoint),
        connections=count,
        size=size,
        seconds=seconds,
        warm_up=WARM_UP,
        timeout=PATIENCE,
    )
    if report.failed or report.reconnects:  # the latter tell of failures while warming up
        sys.exit(f"the server did not echo: {dict(report.failures)}")
    return Counted(report.received, report.seconds, report.client_cpu_seconds)


async def load_in_processes(endpoint: str, count: int, size: int, seconds: float) -> Counted:
    """Ask with the command, which divides the load among processes."""
    done = await trio.run_process(
        [
            *(sys.executable, "-P", "-m", "techo", "load", "--json", endpoint),
            *("--processes", sys.argv[1].split("-")[1], "-c", str(count), "-s", str(size)),
            *("-d", str(seconds), "--warm-up", str(WARM_UP), "-W", str(PATIENCE)),
        ],
        capture_stdout=True,
    )
    report = techo.LoadReport.from_json(json.loads(done.stdout))
    return Counted(report.received, report.seconds, report.client_cpu_seconds)


async def ask_with_client(endpoint: str, count: int, size: int, seconds: float) -> Counted:
    """Ask with techo's client in a task for each connection, which verifies every byte."""
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(techo.open_client(endpoint, tls=context(endpoint)))
            for _ in range(count)
        ]
        return await ask_in_tasks([each.round_trip for each in clients], size, seconds)


async def ask_plainly(endpoint: str, count: int, size: int, seconds: float) -> Counted:
    """Ask with trio alone, in a task for each connection."""
    _, _, port = endpoint.rpartition(":")
    async with contextlib.AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", int(port)))
            for _ in range(count)
        ]
        trips = [functools.partial(plain_trip, each) for each in streams]
        return await ask_in_tasks(trips, size, seconds)


async def plain_trip(stream: trio.SocketStream, payload: bytes) -> None:
    """Send, and look at nothing but how much comes back."""
    await stream.send_all(payload)
    missing = len(payload)
    while missing > 0:
        if not (chunk := await stream.receive_some()):
            raise EOFError("end-of-file in mid-message")
        missing -= len(chunk)


async def ask_in_tasks(
    trips: Sequence[Callable[[bytes], Awaitable[object]]], size: int, seconds: float
) -> Counted:
    """Give each of the connections a task that makes one round trip after the other."""
    completed = 0

    async def keep_asking(trip: Callable[[bytes], Awaitable[object]]) -> None:
        nonlocal completed
        payload = random.randbytes(size)  # noqa: S311  -- any bytes do
        while True:
            await trip(payload)
            completed += 1

    def so_far() -> Counted:
        return Counted(completed, time.monotonic(), time.process_time())

    async with trio.open_nursery() as nursery:
        for trip in trips:
            nursery.start_soon(keep_asking, trip)
        await trio.sleep(WARM_UP)
        begun = so_far()
        await trio.sleep(seconds)
        ended = so_far()
        nursery.cancel_scope.cancel(reason="the time is over")
    return Counted(
        ended.messages - begun.messages, ended.seconds - begun.seconds, ended.cpu - begun.cpu
    )


CLIENTS: Final = {
    "techo": load,
    "techo-1-process": load_in_processes,
    "techo-2-processes": load_in_processes,
    "techo-tasks": ask_with_client,
    "trio": ask_plainly,
}


def main(
    name: str, address: str, _pid: str, _work: str, count: str, size: str, seconds: str
) -> None:
    """Ask, and print the figures under the names that load.c gives them."""
    kind, _, port = address.partition(":")
    endpoint = f"{kind}://127.0.0.1:{port}"
    counted = trio.run(CLIENTS[name], endpoint, int(count), int(size), float(seconds))
    if not counted.messages:
        sys.exit("no message came back while counting")
    figures = {
        "messages": counted.messages,
        "seconds": counted.seconds,
        "load_cpu_us": counted.cpu / counted.messages * 1e6,
        "load_share": counted.cpu / counted.seconds,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
