"""Clients whose figures are times: `clock.py NAME ADDRESS PID echo 1 SIZE SECONDS`.

Started as load.c is. techo's ping is timed by the kernel, and each reply also has the time by
this program's clock. irtt(1) is another ping, with a server of its own, over loopback too.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Final

import trio

import techo
from bench.measure import PATIENCE, cores

INTERVALS: Final = {"techo-ping": 0.001, "irtt": 0.001}
SLOW: Final = 0.01
"""Seconds from one probe to the next: as in ping.c, or as many as a busy run keeps up with. How
long a server has slept is a part of how long it takes."""

WARM_UP: Final = 0.1
"""Seconds that are not counted."""

TURN: Final = 0.002
"""Seconds that a task of ping's own run computes at a time, where it is not alone."""

TASKS: Final = 2
"""How many of them there are, or of busy processes."""


async def compute() -> None:
    """Hold up the run again and again."""
    while True:
        end = time.perf_counter() + TURN
        while time.perf_counter() < end:
            pass
        await trio.lowlevel.checkpoint()


async def ping(
    endpoint: str, size: int, seconds: float, interval: float, *, busy: bool
) -> list[techo.PingReply]:
    """Ping a server; return the replies."""
    replies: list[techo.PingReply] = []
    async with trio.open_nursery() as nursery:
        for _ in range(TASKS if busy else 0):
            nursery.start_soon(compute)
        pinging = techo.ping(
            endpoint, interval=interval, size=size, timeout=PATIENCE, clock="kernel"
        )
        with trio.move_on_after(WARM_UP + seconds):
            async with pinging:
                async for result in pinging:
                    if isinstance(result, techo.PingFailure):
                        sys.exit(f"the server did not echo: {result.reason}")
                    replies.append(result)
        nursery.cancel_scope.cancel()
    first = replies[0].at + WARM_UP
    return [each for each in replies if each.at >= first]


@contextlib.contextmanager
def crowd() -> Iterator[None]:
    """Have a busy process on the server's core, and one on the client's."""
    with contextlib.ExitStack() as stack:
        for core in cores() or (None,) * TASKS:
            popen = stack.enter_context(
                subprocess.Popen([sys.executable, "-c", "while 1: pass"])
            )
            stack.callback(popen.kill)
            if core is not None:
                os.sched_setaffinity(popen.pid, {core})
        yield


def figures_of(times: Sequence[float]) -> tuple[float, float]:
    """Return the median and p95, in microseconds, of times in seconds."""
    cuts = statistics.quantiles(times, n=20, method="inclusive")
    return cuts[9] * 1e6, cuts[18] * 1e6


def ask_with_ping(name: str, endpoint: str, size: int, seconds: float) -> dict[str, float]:
    """Return the times of a ping, by either clock."""
    crowded = crowd() if name.endswith("crowded") else contextlib.nullcontext()
    interval, busy = INTERVALS.get(name, SLOW), name.endswith("busy")
    with crowded:
        replies = trio.run(lambda: ping(endpoint, size, seconds, interval, busy=busy))
    by_kernel = [each for each in replies if each.client is not None]
    if len(by_kernel) < 0.9 * len(replies):
        sys.exit(f"the kernel has timed {len(by_kernel)} of {len(replies)} round trips only")
    p50, p95 = figures_of([each.seconds for each in by_kernel])
    user_p50, user_p95 = figures_of([each.seconds + (each.client or 0) for each in by_kernel])
    return {
        "messages": len(by_kernel),
        "p50_us": p50,
        "p95_us": p95,
        "user_p50_us": user_p50,
        "user_p95_us": user_p95,
    }


def ask_with_irtt(size: int, seconds: float) -> dict[str, float]:
    """Return the times of irtt, against its own server."""
    with subprocess.Popen(
        ["irtt", "server", "-b", "127.0.0.1:0", "-i", "0"], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            where = next(line for line in server.stdout if "listener on" in line).split()[-1]
            if pair := cores():
                os.sched_setaffinity(server.pid, {pair[0]})
            words = [
                "-i",
                f"{INTERVALS['irtt'] * 1000:g}ms",
                "-d",
                f"{seconds:g}s",
                "-l",
                str(size),
            ]
            done = subprocess.run(
                ["irtt", "client", *words, "-q", "-o", "-", where],
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds + PATIENCE,
            )
        finally:
            server.kill()
    if done.returncode:
        sys.exit(f"irtt failed: {done.stderr.strip()}")
    found = json.loads(done.stdout[done.stdout.index("{") :])
    times = [
        each["delay"]["rtt"] / 1e9 for each in found["round_trips"] if "rtt" in each["delay"]
    ]
    p50, p95 = figures_of(times)
    return {"messages": len(times), "p50_us": p50, "p95_us": p95}


def main(
    name: str, address: str, _pid: str, _work: str, _count: str, size: str, seconds: str
) -> None:
    """Ask, and print the figures."""
    if name == "irtt":
        figures = ask_with_irtt(int(size), float(seconds))
    else:
        endpoint = f"tcp://127.0.0.1:{address.removeprefix('tcp:')}"
        figures = ask_with_ping(name, endpoint, int(size), float(seconds))
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(each.ru_utime + each.ru_stime for each in used)
    print(json.dumps(figures | {"load_share": cpu / float(seconds)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
